"""Plots as people see them: nothing cut off, no text on another, light and dark; and whose file is replaced."""

from __future__ import annotations

import io
import itertools
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import browser
from conftest import Cli
from helpers import without_privileges
from PIL import Image

from clipsearch.classify.results import Classification, ClassifyResult, Prediction
from clipsearch.display.plots.classification import plot_classification
from clipsearch.display.plots.evaluation import plot_confusion, plot_reliability
from clipsearch.display.plots.file import check
from clipsearch.display.plots.fonts import families_for, readable
from clipsearch.display.plots.recall import RecallCurve, plot_recall
from clipsearch.display.plots.similarity import plot_similarity
from clipsearch.display.plots.theme import DARK, LIGHT, Theme
from clipsearch.errors import ClipsearchError, UsageError
from clipsearch.search.similarity import Compared, Similarity, Vector, compare_vectors, measure
from clipsearch.types import EncoderInfo, Preprocess

MODEL = EncoderInfo("ViT-B-32-256/datacomp_s34b_b86k", "00", 512, 100.0, None, Preprocess(256))
AWKWARD = (
    "犬 🐕 $x_1$ é'",
    "<b>&amp;</b> \x1b[31m \u202e txt",
    "a very long text that describes far more than there is room for in a figure " * 3,
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 2,
    "_".join(["a", "name", "of", "a", "file"] * 6) + ".jpg",
    "",
)


def vectors(*rows: tuple[float, ...]) -> Similarity:
    return compare_vectors([Vector(row) for row in rows])


FOUR = vectors((1, 0), (1, 0.5), (-1, 1), (0, 1))
UNEQUAL = vectors((1000, 0), (1, 0.5), (-3, 0), (0, -2))


def images(folder: Path, colours: list[str]) -> list[str]:
    paths = []
    for number, colour in enumerate(colours):
        path = folder / f"{number} {colour}.png"
        Image.new("RGB", (60, 40), colour).save(path)
        paths.append(str(path))
    return paths


def compared(folder: Path, colours: list[str], words: list[str], *, seed: int = 0) -> Similarity:
    items = [Compared("picture", path, (path,)) for path in images(folder, colours)]
    items += [Compared("text", text) for text in words]
    rows = np.random.default_rng(seed).normal(0.3, 1, (len(items), 16))
    return Similarity(MODEL, tuple(items), rows, *measure(rows))


def classified(paths: list[str], labels: list[str]) -> ClassifyResult:
    shares = np.linspace(1, 0.1, len(labels))
    predictions = tuple(
        Prediction(label, share, 0.2) for label, share in zip(labels, shares / shares.sum(), strict=True)
    )
    return ClassifyResult(MODEL, tuple(Classification(path, predictions) for path in paths))


def judged(folder: Path) -> ClassifyResult:
    """An image with an answer, one that is unknown, one with none of the labels, and one that could not be read."""
    first, second, third, fourth = classified(images(folder, ["red", "lime", "blue", "gray"]), ["a", "b", "c"]).results
    none, failed = replace(third, predictions=()), replace(fourth, predictions=(), reason="not a picture")
    return ClassifyResult(MODEL, (first, replace(second, unknown=True), none, failed), labels=("a", "b", "c", "d"))


def confusion(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.diag(rng.integers(20, 40, n)) + rng.integers(0, 3, (n, n)) * (rng.random((n, n)) < 0.2)


K = np.array([1, 5, 10, 50])


def curve(name: str, level: float) -> RecallCurve:
    recall = 1 - np.exp(-level * np.sqrt(K))
    return RecallCurve(name, K, recall, recall - 0.03, np.minimum(1, recall + 0.03))


def measured(name: str, kind: str, level: float) -> RecallCurve:
    """As `eval` measures it: every k up to 100, with intervals at 1 and 5."""
    k = np.arange(1, 101)
    recall = np.minimum(1, level * np.sqrt(k))
    low, high = np.full(100, np.nan), np.full(100, np.nan)
    low[[0, 4]], high[[0, 4]] = recall[[0, 4]] - 0.1, np.minimum(1, recall[[0, 4]] + 0.1)
    return RecallCurve(name, k, recall, low, high, kind)


KINDS = ("cropped", "flipped", "darkened")

BINS = (np.arange(10) + 0.5) / 10

PLOTS: dict[str, Callable[[Path, Path, bool], object]] = {
    "arrows": lambda folder, file, dark: plot_similarity(FOUR, file, dark=dark),
    "unequal": lambda folder, file, dark: plot_similarity(UNEQUAL, file, dark=dark),
    "heat": lambda folder, file, dark: plot_similarity(
        compared(folder, ["red", "lime", "blue"], ["a dog", *AWKWARD]), file, dark=dark
    ),
    "one": lambda folder, file, dark: plot_classification(
        classified(images(folder, ["red"]), ["a dog", *AWKWARD]), file, dark=dark
    ),
    "sheet": lambda folder, file, dark: plot_classification(
        classified(images(folder, ["red"] * 7), ["a dog", *AWKWARD]), file, dark=dark
    ),
    "unknown": lambda folder, file, dark: plot_classification(
        replace(judged(folder), results=judged(folder).results[1:2]), file, dark=dark
    ),
    "judged": lambda folder, file, dark: plot_classification(judged(folder), file, dark=dark),
    "confusion": lambda folder, file, dark: plot_confusion(confusion(6), AWKWARD, file, dark=dark),
    "crowd": lambda folder, file, dark: plot_confusion(
        confusion(100), [f"{AWKWARD[n % 6]} {n}" for n in range(100)], file, dark=dark
    ),
    "reliability": lambda folder, file, dark: plot_reliability(BINS, BINS**1.4, np.arange(10), 0.0712, file, dark=dark),
    "recall": lambda folder, file, dark: plot_recall(
        [curve(name, n / 5 + 0.1) for n, name in enumerate(AWKWARD)], file, title=AWKWARD[2], dark=dark
    ),
}


def texts_of(figure: Any) -> list[Any]:
    """Every text of a figure; matplotlib does not count those of a table as its children."""
    from matplotlib.table import Cell
    from matplotlib.text import Text

    return [*figure.findobj(Text), *(cell.get_text() for cell in figure.findobj(Cell))]


@pytest.fixture
def drawn_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of the plots that are saved, in the order in which they were drawn."""
    from matplotlib.figure import Figure

    texts: list[str] = []
    save = Figure.savefig

    def kept(self: Figure, *args: object, **options: object) -> None:
        save(self, *args, **options)
        texts.extend(text.get_text() for text in texts_of(self))

    monkeypatch.setattr(Figure, "savefig", kept)
    return texts


PLOTS["recall of kinds"] = lambda folder, file, dark: plot_recall(
    [measured(name, kind, 1) for name in AWKWARD[:2] for kind in KINDS], file, dark=dark
)


def nearly(pixels: np.ndarray, colour: str, *, off: int = 12) -> np.ndarray:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    close: np.ndarray = (np.abs(pixels[..., :3].astype(int) - wanted) <= off).all(axis=-1)
    return close


def opened(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB"))


# Every plot


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_reaches_the_edge_and_the_ground_is_that_of_the_mode(tmp_path: Path, name: str, dark: bool) -> None:
    PLOTS[name](tmp_path, tmp_path / "plot.png", dark)
    pixels = opened(tmp_path / "plot.png")
    ground = nearly(pixels, (DARK if dark else LIGHT).ground, off=2)
    edge = 24  # A sixth of an inch; the margin is a quarter.
    for strip in (ground[:edge], ground[-edge:], ground[:, :edge], ground[:, -edge:]):
        assert strip.all()
    assert 0.02 < 1 - ground.mean() < 0.98
    assert max(pixels.shape) < 4000


@pytest.mark.parametrize("name", PLOTS)
def test_texts_do_not_lie_on_one_another(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig

    def kept(self: Figure, *args: object, **options: object) -> None:
        figures.append(self)
        save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", kept)
    PLOTS[name](tmp_path, tmp_path / "plot.png", False)
    [figure] = figures
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    # Ticks outside an axis's range are there, but not drawn.
    axes = [(axis, axis.get_view_interval()) for each in figure.axes for axis in (each.xaxis, each.yaxis)]
    away = {
        label
        for axis, (low, high) in axes
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)
        if not low <= tick.get_loc() <= high
    }
    drawn = [text for text in texts_of(figure) if text.get_text().strip() and text.get_visible() and text not in away]
    texts = [text for text in drawn if text.get_rotation() % 90 == 0]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    assert len(boxes) > 5
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        wide = min(a.x1, b.x1) - max(a.x0, b.x0)
        high = min(a.y1, b.y1) - max(a.y0, b.y0)
        # A box has room for accents that most lines lack.
        assert wide <= 1 or high <= 0.25 * min(a.height, b.height), (one, other)


@pytest.mark.parametrize("name", PLOTS)
def test_an_svg_is_well_formed_says_what_it_shows_and_turns_dark_by_itself(tmp_path: Path, name: str) -> None:
    PLOTS[name](tmp_path, tmp_path / "plot.svg", False)
    text = (tmp_path / "plot.svg").read_text("utf-8")
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img" and len(root.get("aria-label") or "") > 10
    assert "prefers-color-scheme: dark" in text
    used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", text.partition("</style>")[2]))
    assert {LIGHT.ground, LIGHT.text} <= used
    outside = re.findall(r"https?://[^\"' ]+", text)
    assert {url.split("/")[2] for url in outside} <= {"www.w3.org", "purl.org", "matplotlib.org", "creativecommons.org"}
    PLOTS[name](tmp_path, tmp_path / "dark.svg", True)
    assert "prefers-color-scheme" not in (tmp_path / "dark.svg").read_text("utf-8")


def test_the_same_plot_is_the_same_file(tmp_path: Path) -> None:
    for suffix in ("svg", "png"):
        files = [tmp_path / f"{n}.{suffix}" for n in range(2)]
        for file in files:
            plot_similarity(FOUR, file)
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_readers_own_settings_neither_matter_nor_change(tmp_path: Path) -> None:
    import matplotlib as mpl

    plot_similarity(FOUR, tmp_path / "plain.svg")
    with mpl.rc_context({"font.size": 30, "text.usetex": True, "figure.facecolor": "red"}):
        before = dict(mpl.rcParams)
        plot_similarity(FOUR, tmp_path / "own.svg")
        assert dict(mpl.rcParams) == before
    assert (tmp_path / "own.svg").read_bytes() == (tmp_path / "plain.svg").read_bytes()


@pytest.mark.browser
def test_an_svg_follows_the_readers_mode(tmp_path: Path) -> None:
    PLOTS["heat"](tmp_path, tmp_path / "plot.svg", False)
    with browser(tmp_path / "profile") as page:
        for dark, theme in ((False, LIGHT), (True, DARK)):
            page.size(900, 900, dark=dark)
            page.open(tmp_path / "plot.svg")
            pixels = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
            assert nearly(pixels[:100, :100], theme.ground, off=2).mean() > 0.9
            assert nearly(pixels, theme.text, off=30).sum() > 300
        assert page.complaints == []


# Colours


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_texts_and_lines_stand_out_from_the_ground(theme: Theme) -> None:
    assert min(contrast(colour, theme.ground) for colour in (theme.text, theme.muted)) >= 4.5
    assert contrast(theme.muted, theme.panel) >= 4.5  # on the diagonal
    for colour in (*theme.series, theme.accent):
        assert contrast(colour, theme.ground) >= 3, colour


def test_every_colour_of_a_theme_has_one_role() -> None:
    for theme in (LIGHT, DARK):
        named = [theme.ground, theme.panel, theme.text, theme.muted, theme.line, theme.accent, *theme.series]
        assert len(set(named)) == len(named)
    assert len(LIGHT.series) == len(DARK.series)


# What single plots show


def test_the_arrows_have_their_angles_and_cosines(tmp_path: Path) -> None:
    plot_similarity(FOUR, tmp_path / "plot.png")
    pixels = opened(tmp_path / "plot.png")
    for colour in LIGHT.series[:4]:
        assert nearly(pixels, colour).sum() > 500  # an arrow and its letter
    assert nearly(pixels, LIGHT.series[4]).sum() < 20


def test_very_unequal_vectors_are_drawn_with_length_1_and_it_is_said(tmp_path: Path, drawn_texts: list[str]) -> None:
    def arrow_sizes(result: Similarity) -> list[int]:
        plot_similarity(result, tmp_path / "plot.png")
        pixels = opened(tmp_path / "plot.png")
        return [int(nearly(pixels, colour).sum()) for colour in LIGHT.series[:2]]

    long, other = arrow_sizes(vectors((1000, 0), (1, 0.5)))
    assert other > 0.7 * long and "very unequal" in " ".join(drawn_texts)
    drawn_texts.clear()
    long, other = arrow_sizes(vectors((15, 0), (1, 0.5)))
    assert other < 0.7 * long and "unequal" not in " ".join(drawn_texts)


def test_an_arc_of_half_a_circle_is_whole(tmp_path: Path) -> None:
    plot_similarity(vectors((1, 0), (-1, 0)), tmp_path / "plot.png")
    rows, columns = np.nonzero(nearly(opened(tmp_path / "plot.png"), LIGHT.series[1]))
    beside = columns < columns.min() + 600  # the plane, without the legend
    assert rows[beside].max() - rows[beside].min() > 1.5 * 144, "as high as its radius"


def test_equal_counts_of_confusions_stand_in_the_order_of_the_labels(tmp_path: Path, drawn_texts: list[str]) -> None:
    counts = np.eye(50, dtype=np.uint8)
    for true, predicted, count in ((1, 2, 3), (0, 9, 1), (4, 0, 3), (30, 31, 1), (7, 8, 3)):
        counts[true, predicted] = count
    plot_confusion(counts, [f"label {n}" for n in range(50)], tmp_path / "plot.png")
    named = [text for text in drawn_texts if re.fullmatch(r"label \d+", text)]
    assert named == ["label 1", "label 4", "label 7", "label 0", "label 30"]


def lines_of(monkeypatch: pytest.MonkeyPatch, curves: list[RecallCurve], file: Path) -> list[Any]:
    """The lines of a recall plot: those of the curves, and those that are marks only."""
    from matplotlib.figure import Figure

    figures: list[Figure] = []
    save = Figure.savefig

    def kept(self: Figure, *args: object, **options: object) -> None:
        save(self, *args, **options)
        figures.append(self)

    monkeypatch.setattr(Figure, "savefig", kept)
    plot_recall(curves, file)
    return list(figures[-1].axes[0].get_lines())


def test_kinds_differ_by_colour_and_models_by_dashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curves = [measured(name, kind, 0.1) for name in ("a", "b") for kind in KINDS]
    lines = [line for line in lines_of(monkeypatch, curves, tmp_path / "plot.png") if len(line.get_xdata()) == 100]
    looks = [(line.get_color(), str(line.get_linestyle())) for line in lines]
    assert len(set(looks)) == 6 and len({colour for colour, _ in looks}) == 3
    assert [colour for colour, _ in looks[:3]] == [colour for colour, _ in looks[3:]]
    assert {dashes for _, dashes in looks[:3]} != {dashes for _, dashes in looks[3:]}
    alone = [measured(name, "x", 0.1 * n) for n, name in enumerate("abc", 1)]
    lines = [line for line in lines_of(monkeypatch, alone, tmp_path / "plot.png") if len(line.get_xdata()) == 100]
    assert len({line.get_color() for line in lines}) == 3


def test_equal_curves_have_marks_beside_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lines_of(monkeypatch, [measured("a", kind, 1) for kind in KINDS], tmp_path / "plot.png")
    marks = [line for line in lines if len(line.get_xdata()) == 1]
    assert sorted(float(line.get_xdata()[0]) for line in marks) == [1, 1, 1, 5, 5, 5]
    at_1 = [line.get_transform().transform((1.0, 1.0))[0] for line in marks if line.get_xdata()[0] == 1]
    assert min(np.diff(sorted(at_1))) > 4 and len({line.get_marker() for line in marks}) == 3
    apart = lines_of(monkeypatch, [measured("a", KINDS[n], (n + 1) / 8) for n in range(3)], tmp_path / "plot.png")
    at_1 = [line.get_transform().transform((1.0, 1.0))[0] for line in apart if list(line.get_xdata()) == [1]]
    assert np.ptp(at_1) == pytest.approx(0, abs=0.01)


def test_the_heat_map_has_the_pictures_on_both_axes(tmp_path: Path) -> None:
    plot_similarity(compared(tmp_path, ["#ff0000", "#00ff00"], ["a dog"]), tmp_path / "plot.png")
    pixels = opened(tmp_path / "plot.png")
    for colour in ("#ff0000", "#00ff00"):
        rows, columns = np.nonzero(nearly(pixels, colour, off=3))
        assert len(rows) > 2 * 100 * 60
        # One left of the matrix, one above it.
        assert np.ptp(rows) > 150 and np.ptp(columns) > 150


def test_a_picture_that_cannot_be_read_leaves_its_place(tmp_path: Path) -> None:
    result = compared(tmp_path, ["red", "blue"], ["a dog"])
    Path(result.items[0].paths[0]).unlink()
    plot_similarity(result, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


def test_many_are_drawn_and_too_many_refused(tmp_path: Path) -> None:
    plot_similarity(compared(tmp_path, ["red"] * 14, ["a dog"] * 14), tmp_path / "plot.png")
    with pytest.raises(UsageError, match="41 are too many for one plot, 40 fit"):
        plot_similarity(compared(tmp_path, ["red"] * 20, ["a dog"] * 21), tmp_path / "more.png")
    many = vectors(*((n, 1.0) for n in range(20)))
    plot_similarity(many, tmp_path / "vectors.png")  # too many for arrows


def test_a_sheet_says_what_it_leaves_out(tmp_path: Path) -> None:
    result = classified(images(tmp_path, ["red"] * 30), ["a", "b"])
    assert plot_classification(result, tmp_path / "plot.svg") == 24
    failed = Classification("broken.jpg", (), "broken.jpg: not a picture")
    one = replace(result, results=(failed, result.results[0]))
    assert plot_classification(one, tmp_path / "plot.svg") == 1
    with pytest.raises(UsageError, match="nothing to draw"):
        plot_classification(replace(result, results=(failed,)), tmp_path / "plot.svg")


def shown_by(file: Path) -> str:
    return ElementTree.parse(file).getroot().get("aria-label") or ""


def test_an_answer_that_was_rejected_is_not_drawn_as_one(tmp_path: Path) -> None:
    result = judged(tmp_path)
    assert plot_classification(result, tmp_path / "sheet.svg") == 3
    assert shown_by(tmp_path / "sheet.svg") == "0 red.png: a; 1 lime.png: unknown; 2 blue.png: none of the labels"
    for number, name in enumerate(("known", "unknown", "none")):
        one = replace(result, results=result.results[number : number + 1])
        assert plot_classification(one, tmp_path / f"{name}.png") == 1
        accent = nearly(opened(tmp_path / f"{name}.png"), LIGHT.accent, off=3).sum()
        assert (accent > 500) == (name == "known"), name


def test_every_label_that_was_judged_by_itself_is_an_answer(tmp_path: Path) -> None:
    result = classified(images(tmp_path, ["red"]), ["a", "b", "c"])
    plot_classification(result, tmp_path / "one.png")
    plot_classification(replace(result, threshold=0.1), tmp_path / "all.png")
    one, every = (opened(tmp_path / f"{name}.png") for name in ("one", "all"))
    assert nearly(one, LIGHT.muted, off=3).sum() > 1000 > nearly(every, LIGHT.muted, off=3).sum()
    assert nearly(every, LIGHT.accent, off=3).sum() > 1.5 * nearly(one, LIGHT.accent, off=3).sum()


@pytest.mark.parametrize(
    ("labels", "threshold", "many", "said"),
    [
        (700, None, 1, "the best 8 of 700 labels"),
        (700, None, 2, "the best 3 of 700 labels"),
        (12, 0.01, 1, "the first 8 of 12 labels"),
        (12, 0.01, 2, "the first 3 of up to 12 labels"),
        (3, None, 1, ""),
        (3, 0.5, 2, ""),
    ],
)
def test_a_plot_says_how_many_labels_it_leaves_out(
    tmp_path: Path, drawn_texts: list[str], labels: int, threshold: float | None, many: int, said: str
) -> None:
    result = classified(images(tmp_path, ["red"] * many), [f"label {n}" for n in range(labels)])
    plot_classification(replace(result, threshold=threshold), tmp_path / "plot.png")
    text = " ".join(drawn_texts)
    assert said in text and (said != "" or " of " not in text)


def test_bars_are_as_long_as_the_probabilities(tmp_path: Path) -> None:
    result = classified(images(tmp_path, ["#ff00ff"]), ["a", "b"])
    first = replace(result.results[0], predictions=(Prediction("a", 0.75, 0.3), Prediction("b", 0.25, 0.2)))
    plot_classification(replace(result, results=(first,)), tmp_path / "plot.png")
    pixels = opened(tmp_path / "plot.png")
    full = nearly(pixels, LIGHT.accent, off=3).sum(axis=1).max()
    rest = nearly(pixels, LIGHT.panel, off=3).sum(axis=1)
    assert full / (full + rest[nearly(pixels, LIGHT.accent, off=3).any(axis=1)].max()) == pytest.approx(0.75, abs=0.01)


def test_shapes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "plot.png"
    with pytest.raises(UsageError, match=r"\(3, 3\) does not fit 2 labels"):
        plot_confusion(np.eye(3, dtype=int), ["a", "b"], file)
    with pytest.raises(UsageError, match="three arrays of one length"):
        plot_reliability(BINS, BINS[:3], np.arange(10), 0.1, file)
    with pytest.raises(UsageError, match="no recall curve"):
        plot_recall([], file)
    with pytest.raises(UsageError, match="of x has 4 k and 2 values"):
        plot_recall([RecallCurve("x", K, np.array([0.1, 0.2]))], file)
    assert not file.exists()


# Names


def test_a_name_is_shown_as_far_as_fonts_go_and_never_as_a_formula() -> None:
    families = families_for(["a 犬 \U0010fffd $x^2$"])
    shown = readable("a \U0010fffd $x^2$ \x1b[31m\U000e0067", families)
    assert shown == r"a □ $x^2$ \x1b[31m"
    assert families[0] == "DejaVu Sans" and not any(name.startswith("Last Resort") for name in families)


# The file


def test_a_plot_is_replaced_and_a_photo_is_not(tmp_path: Path) -> None:
    for suffix in ("png", "svg"):
        file = tmp_path / f"plot.{suffix}"
        plot_similarity(FOUR, file)
        check(file)
        plot_similarity(FOUR, file, dark=True)
    [photo] = images(tmp_path, ["red"])
    kept = Path(photo).read_bytes()
    for attempt in (lambda: check(photo), lambda: plot_similarity(FOUR, photo)):
        with pytest.raises(UsageError, match="exists and is not a clipsearch plot"):
            attempt()
    assert Path(photo).read_bytes() == kept
    with pytest.raises(UsageError, match=r"plot\.jpg: the name of a plot must end in \.png or \.svg"):
        check("plot.jpg")
    with pytest.raises(ClipsearchError, match=r"cannot write the plot .*there is no folder .*nowhere; make it first"):
        check(tmp_path / "nowhere" / "plot.png")
    with pytest.raises(ClipsearchError, match=r"cannot write the plot .*no such file or directory"):
        plot_similarity(FOUR, tmp_path / "nowhere" / "plot.png")


def test_without_the_extra_a_line_says_what_to_install(cli: Cli, tmp_path: Path) -> None:
    for command in (
        ["similarity", "[1, 0]", "[0, 1]", "--plot", "a.png"],
        ["classify", "a.jpg", "--plot", "a.png", "--labels", "a"],
        ["map", "--html", "a.html"],
    ):
        code = (
            "import sys; sys.modules['matplotlib'] = sys.modules['sklearn'] = None\n"
            "from clipsearch.cli.run import main; sys.exit(main(sys.argv[1:]))"
        )
        done = subprocess.run([sys.executable, "-c", code, *command], cwd=tmp_path, env=cli.env, capture_output=True)
        assert done.returncode == 1 and done.stdout == b""
        assert b"pip install 'clipsearch[plot]'" in done.stderr and len(done.stderr.splitlines()) == 1


# The commands


def test_what_cannot_be_written_is_found_out_before_the_work(cli: Cli, tmp_path: Path) -> None:
    for command in (
        ["similarity", "[1, 0]", "[0, 1]", "--plot", "nodir/a.png"],
        ["classify", "gone.jpg", "--labels", "a", "--plot", "nodir/a.svg"],
        ["eval", "classify", "gone", "--plot", "nodir/a.svg"],
        ["eval", "self", "gone", "--plot", "nodir/a.svg"],
        ["map", "--html", "nodir/m.html"],
    ):
        ran = cli(*command, cwd=tmp_path)
        assert (ran.code, ran.out) == (1, b"") and f"there is no folder {tmp_path / 'nodir'}" in ran.err, ran.err
        assert ran.err.count("\n") == 1
    ran = cli("eval", "classify", "gone", "--plot", "x.pdf", cwd=tmp_path)
    assert ran.code == 2 and ran.err.startswith("error: x.pdf: the name of a plot must end in .png")
    ran = cli("similarity", *["[1, 0]"] * 41, "--plot", "x.png", cwd=tmp_path)
    assert (ran.code, ran.out) == (2, b"") and "41 are too many for one plot" in ran.err


def test_a_folder_that_may_not_be_written_is_found_out_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with without_privileges(), pytest.raises(ClipsearchError, match="may not be written to"):
        check(tmp_path / "closed" / "a.png")


def test_commands_draw(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    photos = [str(indexed / "photos" / name) for name in ("chelsea.png", "coffee.png")]
    ran = cli(
        "similarity",
        *photos,
        "a cat",
        "--plot",
        "a.svg",
        cwd=tmp_path,
        env={"CLIPSEARCH_INDEX": str(indexed / "index")},
    )
    assert ran.code == 0 and len(ran.lines) == 3 and ran.err == "note: wrote the plot to a.svg\n"
    ran = cli(
        "classify",
        *photos,
        "--plot",
        "b.png",
        "--dark",
        "--labels",
        "cat",
        "dog",
        "--index",
        str(indexed / "index"),
        cwd=tmp_path,
    )
    assert ran.code == 0 and len(ran.lines) == 4 and "wrote the plot to b.png" in ran.err
    classify = ["classify", *photos, "--index", indexed / "index", "--multi", "--threshold", "1", "--plot", "c.svg"]
    ran = cli(*classify, "--labels", "cat", "dog", cwd=tmp_path)
    assert ran.code == 0 and "wrote the plot to c.svg" in ran.err and " of 2 pictures" not in ran.err.splitlines()[-1]
    assert shown_by(tmp_path / "c.svg") == "chelsea.png: none of the labels; coffee.png: none of the labels"
    assert nearly(opened(tmp_path / "b.png")[:20, :20], DARK.ground, off=2).all()
    ran = cli("similarity", "[1, 0]", "[0, 1]", "--plot", photos[0], cwd=tmp_path)
    assert ran.code == 2 and "is not a clipsearch plot" in ran.err and ran.out == b""
