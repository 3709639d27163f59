"""What classification gets right, and how well it knows: `python -m benchmarks.classifying --photos DIR`.

The folder holds photographs named by their ImageNet class, one a class. Tables in the order of docs/classification.md:
accuracy over all 1,000 labels, what examples add, what `--multi` says of labels that a picture does not show, and how
far probabilities can be believed; `benchmarks.unknown` measures `--unknown`. Constants are looked at on every second
photograph ("chosen on"); what the other half gives is reported ("held out").
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from benchmarks.labelled import TINY, embed, groups
from clipsearch.catalog.catalog import EncoderRow
from clipsearch.classify import few_shot
from clipsearch.classify import unknown as distractors
from clipsearch.classify.calibration import expected_calibration_error
from clipsearch.classify.classifier import Classifier, softmax
from clipsearch.classify.labels import Label, imagenet
from clipsearch.classify.options import UNKNOWN_MARGIN
from clipsearch.classify.prototypes import prototypes
from clipsearch.classify.templates import expand
from clipsearch.classify.unknown import Distractors
from clipsearch.encoders import prompts
from clipsearch.encoders.base import Encoder
from clipsearch.encoders.load import load_encoder
from clipsearch.images.open import open_image
from clipsearch.search.embed import Embedder

Rows = NDArray[np.float32]
BARS = (2.0, 2.5, 3.0, 3.5, 4.0)
REPEATS = 10


@dataclass(frozen=True)
class Photos:
    """Photographs' unit rows (n, dim), their class's place among the 1,000 (n,), and names of files."""

    encoder: Encoder
    vectors: Rows
    classes: NDArray[np.int64]
    names: tuple[str, ...]
    files: tuple[Path, ...]

    @property
    def scale(self) -> float:
        return self.encoder.info.logit_scale

    def text(self, labels: Sequence[Label], *templates: str) -> Rows:
        embedder = Embedder(EncoderRow(0, self.encoder.info), lambda: self.encoder)
        return prototypes(embedder, labels, expand(templates, default=self.encoder.info.template))

    def classifier(self, labels: Sequence[Label], rows: Rows) -> Classifier:
        return Classifier(self.encoder.info, tuple(labels), rows, (self.encoder.info.template,))


def photographs(folder: Path, spec: str) -> Photos:
    """Those in a folder. A file's name is the first lemma of its class's synset, as timm lists them."""
    import timm

    info = Path(timm.__file__).parent / "data" / "_info"
    lemmas = dict(line.split("\t") for line in (info / "imagenet_synset_to_lemma.txt").read_text().splitlines())
    synsets = (info / "imagenet_synsets.txt").read_text().split()
    place = {lemmas[synset].split(", ")[0].replace(" ", "_"): i for i, synset in reversed(list(enumerate(synsets)))}
    files = tuple(path for path in sorted(folder.glob("*.jpg")) if path.stem in place)
    encoder = load_encoder(spec)
    classes = np.array([place[path.stem] for path in files])
    return Photos(encoder, embed(encoder, files), classes, tuple(path.stem for path in files), files)


def copies(photos: Photos) -> list[Rows]:
    """Three altered copies of each photograph: mirrored and cropped, darkened and turned a little, small and grey."""

    def mirrored(image: Image.Image) -> Image.Image:
        w, h = image.size
        return ImageOps.mirror(image).crop((w // 6, h // 6, w, h))

    def darkened(image: Image.Image) -> Image.Image:
        return ImageEnhance.Brightness(image).enhance(0.5).rotate(8, Image.Resampling.BICUBIC)

    def grey(image: Image.Image) -> Image.Image:
        small = image.resize((max(1, image.width // 4), max(1, image.height // 4)))
        return small.convert("L").convert("RGB")

    def of(alter: Callable[[Image.Image], Image.Image]) -> Rows:
        return np.concatenate([encoded(photos.encoder, alter(Image.open(f).convert("RGB"))) for f in photos.files])

    return [of(alter) for alter in (mirrored, darkened, grey)]


def encoded(encoder: Encoder, image: Image.Image) -> Rows:
    import io

    data = io.BytesIO()
    image.save(data, "PNG", compress_level=0)
    return encoder.encode_images(open_image(data.getvalue()).pixels(encoder.info.preprocess)[None])


def top(classifier: Classifier, vectors: Rows, classes: NDArray[np.int64]) -> str:
    order = np.argsort(-classifier.scores(vectors), axis=1)
    first = (order[:, 0] == classes).mean()
    return f"{100 * first:5.1f} %  {100 * (order[:, :5] == classes[:, None]).any(axis=1).mean():5.1f} %"


def accuracy(photos: Photos, *, ensembles: bool) -> Iterator[str]:
    yield f"{len(photos.names)} photographs, 1,000 labels: top-1, top-5"
    labels = imagenet()
    for name in ("own", "simple", "openai") if ensembles else ("own",):
        rows = photos.text(labels, *([] if name == "own" else [name]))
        yield f"  template {name:10}{top(photos.classifier(labels, rows), photos.vectors, photos.classes)}"
    plain = photos.classifier(labels, photos.text(labels))
    altered = copies(photos)
    for count, some in ((1, altered[:1]), (3, altered)):
        vectors = np.concatenate(some)
        classes = np.tile(photos.classes, count)
        for blend in (None, 0.2, 0.5, 0.8, 1.0):
            fitted = few_shot.fit(plain, vectors, classes, blend=blend)
            assert fitted.fit is not None
            how = f"{count} altered {'copy' if count == 1 else 'copies'} a class, blend {fitted.fit.blend:.2f}"
            mark = " (chosen)" if blend is None else ""
            yield f"  {how + mark:44}{top(fitted, photos.vectors, photos.classes)}"


def few(photos: Photos) -> Iterator[str]:
    """Groups of photographs that are alike, by their general word, with 1, 2 and 4 real examples a group."""
    alike = [(members, asked[0]) for members, asked in groups() if len(members & set(photos.names)) >= 5]
    labels = [Label(name.removeprefix("a ").removeprefix("an ")) for _, name in alike]
    member = np.array([[name in members for members, _ in alike] for name in photos.names])
    rows = np.flatnonzero(member.sum(axis=1) == 1)
    classes = member[rows].argmax(axis=1)
    yield f"{len(rows)} photographs of {len(labels)} groups, the rest of each classified: top-1, ECE own → fitted scale"
    for words, texts in (
        ("general words", labels),
        ("labels that say nothing", [Label(f"class {n}") for n in "ABCDEFG"]),
    ):
        yield f"  {words}"
        yield from _few(photos, rows, classes, photos.classifier(labels, photos.text(texts[: len(labels)])))


def _few(photos: Photos, rows: NDArray[np.int64], classes: NDArray[np.int64], plain: Classifier) -> Iterator[str]:
    for count in (1, 2, 4):
        for blend in (None, 0.0, 0.2, 0.5, 0.8, 1.0):
            right, own, fit, chosen = [], [], [], []
            for seed in range(2 * REPEATS):
                rng = np.random.default_rng(seed)
                taught = np.concatenate([rng.permutation(np.flatnonzero(classes == c))[:count] for c in set(classes)])
                rest = np.setdiff1d(np.arange(len(rows)), taught)
                made = few_shot.fit(plain, photos.vectors[rows[taught]], classes[taught], blend=blend)
                assert made.fit is not None
                chosen.append(made.fit.blend)
                scores = made.scores(photos.vectors[rows[rest]])
                right.append(scores.argmax(axis=1) == classes[rest])
                own.append(softmax(photos.encoder.info.logit_scale * scores).max(axis=1))
                fit.append(softmax(made.logits(scores)).max(axis=1))
            hit = np.concatenate(right)
            errors = [expected_calibration_error(np.concatenate(some), hit) for some in (own, fit)]
            name = f"{count} a group, blend " + (f"{np.mean(chosen):.2f} (chosen)" if blend is None else f"{blend:.2f}")
            yield f"  {name:36}{100 * hit.mean():5.1f} %   {errors[0]:.3f} → {errors[1]:.3f}"


def calibration(photos: Photos) -> Iterator[str]:
    """All 1,000 labels by prompts alone, the scale fitted on every second photograph; and had the encoder's own scale
    been four times as high.
    """
    labels = imagenet()
    rows = photos.text(labels)
    half = np.arange(len(photos.names)) % 2 == 0
    yield "ECE of the best label over 1,000, by prompts alone: scale, own → fitted on the other half"
    for wrong in (1, 4):
        info = replace(photos.encoder.info, logit_scale=wrong * photos.encoder.info.logit_scale)
        plain = Classifier(info, labels, rows, (info.template,))
        for name, here in (("even", half), ("odd", ~half)):
            fitted = few_shot.fit(plain, photos.vectors[~here], photos.classes[~here], blend=0.0)
            assert fitted.fit is not None
            scores = plain.scores(photos.vectors[here])
            hit = scores.argmax(axis=1) == photos.classes[here]
            errors = [
                expected_calibration_error(softmax(scale * scores.astype(float)).max(axis=1), hit)
                for scale in (plain.scale, fitted.fit.scale)
            ]
            scales = f"{plain.scale:.3g} → {fitted.fit.scale:.3g}"
            yield f"  {name:6}{scales:14}right {hit.mean():.3f}, ECE {errors[0]:.3f} → {errors[1]:.3f}"


def roc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Area under the ROC curve: how often a positive one lies above a negative one (Mann and Whitney 1947)."""
    ranks = np.concatenate([positive, negative]).argsort().argsort() + 1
    n, m = len(positive), len(negative)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def multi(photos: Photos) -> Iterator[str]:
    """Each label with each photograph, yes or no."""
    names = prompts.imagenet_names()
    beside = Distractors(photos.text(distractors.labels(distractors.FEW)))
    scale = photos.encoder.info.logit_scale
    alike = [(members, asked[0]) for members, asked in groups()]
    member = np.array([[name in members for members, _ in alike] for name in photos.names])
    kinds = (
        ("own classes", photos.text([Label(names[c]) for c in photos.classes]), np.eye(len(photos.names), dtype=bool)),
        ("general words", photos.text([Label(asked) for _, asked in alike]), member),
    )
    for half in (0, 1):
        yield f"multi, {('chosen on', 'held out')[half]}: yes where it shows it, yes where it does not; area"
        for kind, rows, truth in kinds:
            here = (np.arange(len(truth)) % 2 == half) & truth.any(axis=1)
            logits = scale * (photos.vectors[here] @ rows.T).astype(float)
            above = logits - beside.usual(photos.vectors[here], scale)[:, None]
            for bar in BARS if half == 0 else (distractors.BAR,):
                said = above >= bar
                shares = f"{100 * said[truth[here]].mean():5.1f} %  {100 * said[~truth[here]].mean():5.2f} %"
                area = roc(above[truth[here]], above[~truth[here]])
                yield f"  {kind:16}bar {bar:.1f}   {shares}   {area:.3f}"


def drawings() -> Iterator[str]:
    """A CLIP: the tiny one of the tests on 300 drawings of its world, ten colours of their background as labels.

    Of the neutral labels it never read a word, so they are harder to it than to a model that knows them.
    """
    sys.path.insert(0, str(TINY.parent))
    from scenes import COLOURS, draw, scenes

    encoder = load_encoder(str(TINY))
    some = list(scenes(300, seed=5))
    colours = list(COLOURS)
    classes = np.array([colours.index(scene.background) for scene in some])
    vectors = np.concatenate([encoded(encoder, draw(scene)) for scene in some])
    photos = Photos(encoder, vectors, classes, (), ())
    template = "a red circle on a {label} background"
    labels = [Label(colour) for colour in colours]
    plain = photos.classifier(labels, photos.text(labels, template))
    logits = plain.logits(plain.scores(vectors))
    usual = Distractors(photos.text(distractors.labels(distractors.FEW), template)).usual(vectors, plain.scale)
    beside = Distractors(photos.text(distractors.labels(), template))
    kept = (beside.margins(vectors, plain.prototypes, logits.argmax(axis=1), plain.scale) >= UNKNOWN_MARGIN).mean()
    absent = []
    for colour in range(len(colours)):
        here, others = classes == colour, np.delete(plain.prototypes, colour, axis=0)
        best = (vectors[here] @ others.T).argmax(axis=1)
        absent += beside.margins(vectors[here], others, best, plain.scale).tolist()
    said = (np.array(absent) < UNKNOWN_MARGIN).mean()
    yes = distractors.yes(logits, usual) >= 0.5
    truth = np.eye(len(colours), dtype=bool)[classes]
    yield f"{len(some)} drawings, {len(colours)} colours, the tiny CLIP of the tests"
    yield f"  unknown: kept {100 * kept:.1f} %, label left out and said so {100 * said:.1f} %"
    yield f"  multi: yes where it shows it {100 * yes[truth].mean():.1f} %, where not {100 * yes[~truth].mean():.1f} %"
    taught = np.arange(len(some)) < 40
    made = few_shot.fit(plain, vectors[taught], classes[taught])
    assert made.fit is not None
    for name, one, scale in (("prompts", plain, plain.scale), ("40 examples", made, made.fit.scale)):
        scores = one.scores(vectors[~taught])
        hit = scores.argmax(axis=1) == classes[~taught]
        error = expected_calibration_error(softmax(scale * scores.astype(float)).max(axis=1), hit)
        yield f"  {name:12}right {100 * hit.mean():.1f} %, ECE {error:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--photos", type=Path, required=True, help="photographs, each named by its ImageNet class")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--ensembles", action="store_true", help="also 7 and 80 templates: 87,000 prompts, minutes")
    options = parser.parse_args()
    photos = photographs(options.photos, options.model)
    tables = accuracy(photos, ensembles=options.ensembles), few(photos), calibration(photos)
    for table in (*tables, multi(photos), drawings()):
        print(*table, "", sep="\n", flush=True)


if __name__ == "__main__":
    main()
