"""Libraries with queries that are known to have an answer in them, or none; for `benchmarks.relevance`."""

from __future__ import annotations

import io
import itertools
import random
import string
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.config import REPOSITORY
from clipsearch.encoders import prompts
from clipsearch.encoders.base import Encoder
from clipsearch.encoders.load import load_encoder
from clipsearch.images.open import open_image
from clipsearch.search import relevance
from clipsearch.search.background import PROMPTS

Rows = NDArray[np.float32]

TINY = REPOSITORY / "tests" / "tinyclip" / "tiny_clip.pt"


@dataclass(frozen=True)
class Trial:
    """A library with its queries; `answers` (m, n) says which pictures are right for which of `present`."""

    name: str
    pictures: Rows
    everyday: Rows
    present: Rows
    answers: NDArray[np.bool_]
    absent: Rows
    salads: Rows
    kind: relevance.Kind = "text"


def salads(seed: int) -> list[str]:
    """A hundred of one or two words of random letters."""
    rng = random.Random(seed)

    def word() -> str:
        return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(3, 9)))

    return [" ".join(word() for _ in range(1 + i % 2)) for i in range(100)]


def absent_things(half: int) -> list[str]:
    lines = (REPOSITORY / "benchmarks" / "absent.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")][100 * half : 100 * half + 100]


def groups() -> list[tuple[frozenset[str], list[str]]]:
    """Photographs that are alike, by name, and questions that they answer."""
    lines = (REPOSITORY / "benchmarks" / "groups.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(":") for line in lines if not line.startswith("#")]
    return [(frozenset(members.split()), [q.strip() for q in asked.split(";")]) for members, asked in pairs]


def embed(encoder: Encoder, files: Sequence[Path]) -> Rows:
    """Pictures as `clipsearch index` embeds them."""
    pixels = [open_image(path.read_bytes()).pixels(encoder.info.preprocess) for path in files]
    parts = [encoder.encode_images(np.stack(pixels[i : i + 16])) for i in range(0, len(pixels), 16)]
    return np.concatenate(parts)


def labels_of(names: Sequence[str]) -> list[str]:
    """Prompts for photographs, from the names of their files."""
    return [f"a {name.replace('_', ' ')}" for name in names]


def photo_trials(names: Sequence[str], images: Rows) -> Callable[[int], Iterator[Trial]]:
    """The photographs, parts of them, and a library of which half are dogs. A photo's label is its file's name."""
    encoder = load_encoder("builtin")
    labels = encoder.encode_texts(labels_of(names))
    everyday = encoder.encode_texts(prompts.everyday(PROMPTS))
    dogs = np.array([name in groups()[0][0] for name in names])

    def trials(half: int) -> Iterator[Trial]:
        absent, nonsense = encoder.encode_texts(absent_things(half)), encoder.encode_texts(salads(half))

        def trial(name: str, members: NDArray[np.integer]) -> Trial:
            asked = members[members % 2 == half]
            answers = asked[:, None] == members[None, :]
            return Trial(name, images[members], everyday, labels[asked], answers, absent, nonsense)

        rng = np.random.default_rng(half)
        yield trial(f"{len(names)} photos", np.arange(len(names)))
        for size, times in ((10, 40), (20, 30), (50, 15), (100, 8)):
            for _ in range(times):
                yield trial(f"{size} of them", rng.permutation(len(names))[:size])
        for _ in range(10):
            others = rng.permutation(np.flatnonzero(~dogs))[: dogs.sum()]
            yield trial("half are dogs", np.concatenate([np.flatnonzero(dogs), others]))

    return trials


def group_trials(names: Sequence[str], images: Rows, kind: relevance.Kind) -> Callable[[int], Iterator[Trial]]:
    """Half of the groups of photographs are absent. Asked for are all groups: in general words, like one photograph of
    them, or like one and with the label of another.
    """
    encoder = load_encoder("builtin")
    labels = encoder.encode_texts(labels_of(names))
    everyday = encoder.encode_texts(prompts.everyday(PROMPTS))
    alike = [np.array([name in members for name in names]) for members, _ in groups()]
    words = [encoder.encode_texts(asked) for _, asked in groups()]
    title = {"text": "photos, in general words", "picture": "like a photo", "mixed": "like a photo, and words"}[kind]

    def ask(number: int, rng: np.random.Generator) -> tuple[Rows, list[int]]:
        """Query vectors for a group, and the photographs that they are made of."""
        if kind == "text":
            return words[number], []
        one, other = rng.permutation(np.flatnonzero(alike[number]))[:2]
        vector = images[one] if kind == "picture" else images[one] + labels[other]
        return (vector / np.linalg.norm(vector))[None], [one]

    def trials(half: int) -> Iterator[Trial]:
        rng = np.random.default_rng(half)
        nonsense = encoder.encode_texts(salads(half)) if kind == "text" else np.empty((0, images.shape[1]), np.float32)
        numbers = [i for i in range(half, len(alike), 2) if alike[i].sum() > 1 or kind == "text"]
        for _ in range(20):
            shuffled = rng.permutation(numbers)
            lacking, having = np.split(shuffled, [len(shuffled) // 2])
            asked = {number: ask(number, rng) for number in shuffled}
            held = ~np.any([alike[number] for number in lacking], axis=0)
            held[[photo for _, photos in asked.values() for photo in photos]] = False
            present, absent = (np.concatenate([asked[n][0] for n in some]) for some in (having, lacking))
            answers = np.concatenate([np.repeat(alike[n][None, held], len(asked[n][0]), axis=0) for n in having])
            yield Trial(title, images[held], everyday, present, answers, absent, nonsense, kind)

    return trials


def folder_trials(folder: Path) -> Callable[[int], Iterator[Trial]]:
    """Images in folders, each named by a word for them. Each library lacks half of the folders."""
    encoder = load_encoder("builtin")
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    images = embed(encoder, files)
    shown = np.array([path.relative_to(folder).parts[0] for path in files])
    words = np.unique(shown)
    queries = encoder.encode_texts([str(word) for word in words])
    everyday = encoder.encode_texts(prompts.everyday(PROMPTS))

    def trials(half: int) -> Iterator[Trial]:
        rng = np.random.default_rng(half)
        nonsense = encoder.encode_texts(salads(half))
        for _ in range(20):
            there = rng.permutation(len(words)) < len(words) / 2
            held = np.isin(shown, words[there])
            answers = words[there][:, None] == shown[held][None, :]
            yield Trial(folder.name, images[held], everyday, queries[there], answers, queries[~there], nonsense)

    return trials


def class_trials(sizes: Sequence[int]) -> Callable[[int], Iterator[Trial]]:
    """Large libraries, made up: what the built-in encoder would give for pictures of half of its 1,000 classes.

    A picture's vector is its class's direction with those of classes near to it, in shares like those of the
    photographs (.25 … .75 for its own). Absent things are classes of the other half that have no near relative (cosine
    under .45) in the library.
    """
    from clipsearch.encoders.builtin.encoder import BuiltinEncoder

    encoder = BuiltinEncoder()
    directions, names = encoder._classes.directions, encoder._classes.names
    texts = encoder.encode_texts([f"a {name}" for name in names])
    everyday = encoder.encode_texts(prompts.everyday(PROMPTS))
    near = np.argsort(-(directions @ directions.T), axis=1)

    def images(rng: np.random.Generator, classes: NDArray[np.integer]) -> Rows:
        n, others = len(classes), 30
        share = rng.uniform(0.25, 0.75, n).astype(np.float32)
        ranks = np.minimum(1 + rng.exponential(60, (n, others)).astype(int), len(names) - 1)
        weights = rng.exponential(1, (n, others)).astype(np.float32)
        weights *= ((1 - share) / weights.sum(axis=1))[:, None]
        rows = share[:, None] * directions[classes]
        for i in range(others):
            rows += weights[:, i : i + 1] * directions[near[classes, ranks[:, i]]]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def trials(half: int) -> Iterator[Trial]:
        rng = np.random.default_rng(half)
        nonsense = encoder.encode_texts(salads(half))
        for size in sizes:
            members = rng.permutation(len(names))[:500]
            weights = 1 / np.sqrt(np.arange(1, 501))  # Of some things a person has many pictures, of most few.
            classes = rng.choice(members, size, p=weights / weights.sum())
            strange = np.flatnonzero((directions @ directions[np.unique(classes)].T).max(axis=1) < 0.45)
            present = np.unique(classes)[half::2]
            answers = present[:, None] == classes[None, :]
            name = f"{size:,} made up"
            yield Trial(name, images(rng, classes), everyday, texts[present], answers, texts[strange], nonsense)

    return trials


def drawing_trials() -> Callable[[int], Iterator[Trial]]:
    """Captioned drawings and the small checkpoint; one colour is missing, as a background or altogether."""
    sys.path.append(str(TINY.parent))
    from scenes import COLOURS, SHAPES, Scene, caption, draw, scenes

    def prepared(encoder: Encoder, drawing: Image.Image) -> NDArray[np.uint8]:
        file = io.BytesIO()
        drawing.save(file, "PNG")
        return open_image(file.getvalue()).pixels(encoder.info.preprocess)[None]

    encoder = load_encoder(str(TINY))
    drawn, other = list(scenes(500, seed=0)), list(scenes(700, seed=1))
    images = np.concatenate([encoder.encode_images(prepared(encoder, draw(s))) for s in drawn])
    captions = encoder.encode_texts([caption(s) for s in drawn])
    others = encoder.encode_texts([caption(s) for s in other])
    everyday = encoder.encode_texts(prompts.everyday(PROMPTS))

    def shows(scene: Scene, colour: str, *, anywhere: bool) -> bool:
        shapes = (scene.first.colour, scene.second.colour) if anywhere else ()
        return colour in (scene.background, *shapes)

    def long(half: int, colour: str, members: NDArray[np.integer], *, anywhere: bool) -> tuple[Rows, ...]:
        asked = members[members % 2 == half]
        absent = others[[shows(s, colour, anywhere=anywhere) for s in other]]
        return captions[asked], asked[:, None] == members[None, :], absent

    def short(half: int, colour: str, members: NDArray[np.integer]) -> tuple[Rows, ...]:
        """Of one shape only: right is any drawing with that colour on that background."""
        pairs = [(a, b) for a in COLOURS for b in COLOURS if a != b]
        held = [pair for pair in pairs if pair[1] != colour][half::2]
        scenes_here = [drawn[i] for i in members]
        answers = [[s.background == b and a in (s.first.colour, s.second.colour) for s in scenes_here] for a, b in held]
        lacking = [(a, b, shape) for a, b in pairs if b == colour for shape in SHAPES]
        present = [f"a {a} {SHAPES[i % len(SHAPES)]} on a {b} background" for i, (a, b) in enumerate(held)]
        absent = [f"a {a} {shape} on a {b} background" for a, b, shape in lacking]
        return encoder.encode_texts(present), np.array(answers), encoder.encode_texts(absent)

    def trials(half: int) -> Iterator[Trial]:
        nonsense = encoder.encode_texts(salads(half))
        for anywhere, colour in itertools.product((False, True), list(COLOURS)[half::2]):
            members = np.array([i for i, s in enumerate(drawn) if not shows(s, colour, anywhere=anywhere)])
            whole = long(half, colour, members, anywhere=anywhere)
            name = "drawings, no such " + ("colour" if anywhere else "background")
            forms = [(name, whole)]
            if not anywhere:
                brief = short(half, colour, members)
                both = tuple(np.concatenate(parts) for parts in zip(whole, brief, strict=True))
                forms += [("… asked in short", brief), ("… in both ways", both)]
            for name, (present, answers, absent) in forms:
                yield Trial("tiny_clip: " + name, images[members], everyday, present, answers, absent, nonsense)

    return trials
