"""Draws the pictures of docs/: one of each plot, from drawings that tests/tinyclip understands and a photograph.

    python docs/pictures/make.py

run in a checkout with the extras `demo` and `test`, and Chromium for the map. Light and dark read well in all: an SVG
follows the reader's mode, a PNG has a ground of its own.
"""

from __future__ import annotations

import io
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
    """A PNG of few colours: a third of the size, and hardly another picture."""
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
    said = np.array([labels.index(prediction.label) for prediction in best])
    plot_confusion(metrics.confusion_matrix(true, said, len(labels)), labels, HERE / "confusion.svg")
    sure = np.array([prediction.probability for prediction in best])
    bins = calibration.reliability_bins(sure, true == said)
    ece = calibration.expected_calibration_error(sure, true == said)
    plot_reliability(bins.confidence, bins.accuracy, bins.counts, ece, HERE / "reliability.svg")


def recall(folder: Path) -> None:
    """Captions against drawings: all that is said, and only the background."""
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
    plot_recall(curves, HERE / "recall.svg", title="From a caption to its picture, among 400")


def library_map(folder: Path) -> None:
    with Library.create(folder / "index", model=TINY) as library:
        library.index([folder])
        write_map(library.project(), folder / "map.html", title="Map of 400 drawings")
    with browser(folder / "profile") as page:
        page.size(1100, 640)
        page.open(folder / "map.html")
        page.press("+")
        page.run("new Promise(done => setTimeout(done, 500))")
        Image.open(io.BytesIO(page.screenshot())).save(folder / "map.png")
    shrunk(folder / "map.png", HERE / "map.png")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, scene in enumerate(DRAWN):
            draw(scene).save(folder / f"{number}.png")
        similarities(folder)
        evaluations(folder)
        recall(folder)
        library_map(folder)
        classification(folder)


if __name__ == "__main__":
    main()
