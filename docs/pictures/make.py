"""Draws the images of docs/: each plot and each page, from drawings that tests/tinyclip understands and from the
photographs of `clipsearch demo`.

    python docs/images/make.py

Run it in a checkout with the extras `demo` and `test`, and with Chromium for the pages. All images are readable in
light and dark mode: an SVG follows the viewer's mode, a PNG has its own background.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser import browser
from tinyclip.scenes import COLOURS, Scene, caption, draw, scenes

from clipsearch import Library
from clipsearch.classify import calibration
from clipsearch.classify.options import ClassifyOptions
from clipsearch.classify.run import classify_alone
from clipsearch.cli.commands import demo
from clipsearch.display.html.gallery import write_gallery
from clipsearch.display.html.map import write_map
from clipsearch.display.plots.classification import plot_classification
from clipsearch.display.plots.evaluation import plot_confusion, plot_reliability
from clipsearch.display.plots.recall import RecallCurve, plot_recall
from clipsearch.display.plots.similarity import plot_similarity
from clipsearch.evaluate import metrics
from clipsearch.search.similarity import Vector, compare_alone, compare_vectors

HERE = Path(__file__).parent
TINY = str(ROOT / "tests" / "tinyclip" / "tiny_clip.pt")
DRAWN = list(scenes(400, seed=3))


def shrunk(path: Path, target: Path, *, colours: int = 256) -> None:
    """A PNG with few colours: a third of the size, and hardly a visible difference."""
    Image.open(path).convert("RGB").quantize(colours, dither=Image.Dither.FLOYDSTEINBERG).save(target, optimize=True)


def similarities(folder: Path) -> None:
    four = [Vector(numbers) for numbers in ((1, 0), (1, 0.5), (-1, 1), (0, 1))]
    plot_similarity(compare_vectors(four), HERE / "vectors.svg")
    shown = DRAWN[:3]
    texts = [caption(scene) for scene in shown[:2]]
    result = compare_alone([*(folder / f"{n}.png" for n in range(3)), *texts], model=TINY)
    plot_similarity(result, HERE / "similarity.svg")


def classification(folder: Path) -> None:
    cat = Path(skimage.__file__).parent / "data" / "chelsea.png"
    labels = ["cat", "dog", "fox", "teddy bear", "cup of coffee"]
    result, _ = classify_alone([cat], labels, options=ClassifyOptions(model="builtin"))
    plot_classification(result, folder / "classify.png")
    shrunk(folder / "classify.png", HERE / "classify.png", colours=128)


def evaluations(folder: Path) -> None:
    labels = list(COLOURS)
    paths = [folder / f"{n}.png" for n in range(len(DRAWN))]
    templates = ["a large circle on a {label} background"]
    options = ClassifyOptions(k=1, model=TINY, templates=templates)
    result, _ = classify_alone(paths, labels, options=options)
    best = [item.predictions[0] for item in result.results]
    true = np.array([labels.index(scene.background) for scene in DRAWN])
    predicted = np.array([labels.index(prediction.label) for prediction in best])
    plot_confusion(metrics.confusion_matrix(true, predicted, len(labels)), labels, HERE / "confusion.svg")
    confidences = np.array([prediction.probability for prediction in best])
    bins = calibration.reliability_bins(confidences, true == predicted)
    ece = calibration.expected_calibration_error(confidences, true == predicted)
    plot_reliability(bins.confidence, bins.accuracy, bins.counts, ece, HERE / "reliability.svg")


def recall(folder: Path) -> None:
    """Captions as queries for drawings: whole captions, and the background only."""
    k = np.array([1, 2, 5, 10, 20, 50])
    curves = []
    rng = np.random.default_rng(0)

    def short(scene: Scene) -> str:
        return f"on a {scene.background} background"

    for name, words in (("tiny_clip, whole captions", caption), ("tiny_clip, backgrounds only", short)):
        compared = compare_alone(
            [*(folder / f"{n}.png" for n in range(len(DRAWN))), *(words(s) for s in DRAWN)], model=TINY
        )
        n = len(DRAWN)
        scores = compared.cosines[n:, :n]
        ranks = (scores > np.diag(scores)[:, None]).sum(axis=1)
        found = ranks[:, None] < k
        drawn_again = np.array([found[rng.integers(0, n, n)].mean(axis=0) for _ in range(1000)])
        low, high = np.quantile(drawn_again, [0.025, 0.975], axis=0)
        curves.append(RecallCurve(name, k, found.mean(axis=0), low, high))
    plot_recall(curves, HERE / "recall.svg", title="Finding the drawing of a caption among 400")


def shot(page_file: Path, target: str, width: int, height: int, *keys: str, colours: int = 256) -> None:
    """A screenshot of a page after `keys` were pressed."""
    folder = page_file.parent
    with browser(folder / f"profile of {target}") as page:
        page.size(width, height)
        page.open(page_file)
        page.press(*keys)
        page.run("new Promise(done => setTimeout(done, 500))")
        Image.open(io.BytesIO(page.screenshot())).save(folder / target)
    shrunk(folder / target, HERE / target, colours=colours)


def library_map(folder: Path) -> None:
    with Library.create(folder / "index", model=TINY) as library:
        library.index([folder])
        write_map(library.project(), folder / "map.html", title="Map of 400 drawings")
    shot(folder / "map.html", "map.png", 1100, 640, "+")


def gallery(folder: Path) -> None:
    photos = demo.write_photos(folder / "Pictures")
    with Library.create(photos.library, model="builtin") as library:
        library.index([photos.folder])
        write_gallery(library.query("a rocket launch", k=5), folder / "gallery.html")
    shot(folder / "gallery.html", "gallery.png", 1200, 392, colours=128)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        # The pages show paths in the home folder as ~.
        os.environ["HOME"] = name
        folder, drawings = Path(name), Path(name) / "drawings"
        drawings.mkdir()
        for number, scene in enumerate(DRAWN):
            draw(scene).save(drawings / f"{number}.png")
        similarities(drawings)
        evaluations(drawings)
        recall(drawings)
        library_map(drawings)
        classification(folder)
        gallery(folder)


if __name__ == "__main__":
    main()
