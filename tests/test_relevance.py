"""Relevance: what it lets through and turns away on real images, and that it depends on nothing it should not."""

from __future__ import annotations

import random
import shutil
import string
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clipsearch import Library
from clipsearch.catalog.cache import CACHE_NAME, QueryCache
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.cli.commands import demo
from clipsearch.encoders import prompts
from clipsearch.encoders.base import Encoder
from clipsearch.encoders.load import load_encoder
from clipsearch.images.open import open_image
from clipsearch.search import relevance
from clipsearch.search.background import PROMPTS
from clipsearch.search.relevance import FEWEST, KINDS, RELEVANT, Baseline

TINY = Path(__file__).parent / "tinyclip"
sys.path.insert(0, str(TINY))

from scenes import COLOURS, caption, draw, scenes  # noqa: E402

Rows = NDArray[np.float32]


def salads(count: int) -> list[str]:
    rng = random.Random(0)
    return ["".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(3, 12))) for _ in range(count)]


def best(baseline: Baseline, queries: Rows, images: Rows) -> NDArray[np.float32]:
    """The relevance of each query's best hit."""
    tops = (queries @ images.T).max(axis=1)
    return np.array([relevance.relevance(baseline, q, s[None])[0] for q, s in zip(queries, tops, strict=True)])


def unit(rows: NDArray[np.floating]) -> Rows:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


# Real images, real encoders


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """The demonstration's photographs in a library, encoded by `builtin`."""
    shown = demo.write_photos(tmp_path_factory.mktemp("relevance") / "photos")
    with Library.create(shown.library, model="builtin") as library:
        library.index([shown.folder])
    catalog = Catalog.open(shown.library)
    yield catalog
    catalog.close()


@pytest.fixture(scope="module")
def builtin() -> Encoder:
    return load_encoder("builtin")


def answering(catalog: Catalog) -> EncoderRow:
    row = catalog.active()
    assert row is not None
    return row


def vectors(catalog: Catalog) -> Rows:
    row = answering(catalog)
    return catalog.embeddings.between(row.id, dim=row.info.dim)[1]


def test_photographs_are_found_and_what_is_in_none_of_them_is_not(
    photos: Catalog, builtin: Encoder, tmp_path: Path
) -> None:
    cache = QueryCache(tmp_path)
    baseline = relevance.learn(photos, answering(photos), cache, builtin.encode_texts)
    cache.close()
    assert baseline is not None

    def sure(texts: Sequence[str]) -> NDArray[np.float32]:
        return best(baseline, builtin.encode_texts(texts), vectors(photos))

    there = sure([*demo.QUERIES, "a kitten", "an espresso", "a missile"])
    absent = sure(
        ["an elephant", "a violin", "a sailing boat", "a bicycle", "a bunch of bananas", "a spider", "a pair of socks"]
    )
    assert (there > RELEVANT).mean() >= 0.8
    assert (absent > RELEVANT).mean() <= 0.2
    assert (sure(salads(40)) > RELEVANT).mean() <= 0.05


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return load_encoder(str(TINY / "tiny_clip.pt"))


@pytest.fixture(scope="module")
def drawings(tiny: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    folder = tmp_path_factory.mktemp("drawings")
    rows = []
    for scene in scenes(300, seed=0):
        draw(scene, side=64).save(folder / "one.png")
        rows.append(tiny.encode_images(tiny.prepare(open_image((folder / "one.png").read_bytes()))[None])[0])
    return np.stack(rows)


def test_captions_with_a_missing_background_are_turned_away(tiny: Encoder, drawings: Rows) -> None:
    known = list(scenes(300, seed=0))
    everyday = tiny.encode_texts(prompts.everyday(PROMPTS))
    nonsense = tiny.encode_texts(salads(40))
    kept, answered, fooled = [], [], []
    for colour in COLOURS:
        held = np.array([scene.background != colour for scene in known])
        images = drawings[held]
        baseline = relevance.measure(images.astype(np.float64), everyday, count=len(images))
        captions = tiny.encode_texts([caption(scene) for scene in known])
        right = (captions[held] @ images.T).argmax(axis=1) == np.arange(len(images))
        kept.append(best(baseline, captions[held][right], images))
        answered.append(best(baseline, captions[~held], images))
        fooled.append(best(baseline, nonsense, images))
    assert (np.concatenate(kept) > RELEVANT).mean() >= 0.8
    assert (np.concatenate(answered) > RELEVANT).mean() <= 0.2
    assert (np.concatenate(fooled) > RELEVANT).mean() <= 0.05


# What it depends on

DIM = 64


def some(count: int, seed: int) -> Rows:
    """Unit vectors in every direction: unrelated to each other, with scores around 0."""
    return unit(np.random.default_rng(seed).normal(0, 1, (count, DIM)))


def test_a_higher_score_is_never_less_relevant() -> None:
    baseline = relevance.measure(some(500, 0).astype(np.float64), some(256, 1), count=500)
    for kind in KINDS:
        values = relevance.relevance(baseline, some(1, 2)[0], np.linspace(-1, 1, 201, dtype=np.float32), kind=kind)
        assert values[0] < 0.01 < 0.99 < values[-1]
        assert (np.diff(values) >= 0).all()


def test_only_the_order_and_spacing_of_scores_count() -> None:
    """An encoder whose cosines all lie between .15 and .35 gives the same answers as one that uses the whole range."""
    images, texts, queries = some(500, 0), some(256, 1), some(40, 2)
    queries[::4] = unit(queries[::4] + images[:10])  # Ten of them have an answer.
    plain = relevance.measure(images.astype(np.float64), texts, count=500)
    # A dimension that all images share and one that all texts share: every score becomes .25 + .1 · score.
    shares, apart = np.sqrt([0.1, 0.25, 0.65]), np.zeros
    narrow = [
        np.hstack([rows * shares[0], np.full((len(rows), 1), shares[1]), *columns])
        for rows, columns in (
            (images, (np.full((len(images), 1), shares[2]), apart((len(images), 1)))),
            (texts, (apart((len(texts), 1)), np.full((len(texts), 1), shares[2]))),
            (queries, (apart((len(queries), 1)), np.full((len(queries), 1), shares[2]))),
        )
    ]
    squeezed = relevance.measure(narrow[0], narrow[1].astype(np.float32), count=500)
    scores = narrow[2] @ narrow[0].T
    assert scores.min() >= 0.15 and scores.max() <= 0.35
    expected = best(plain, queries, images)
    found = best(squeezed, narrow[2].astype(np.float32), narrow[0].astype(np.float32))
    assert expected.max() > RELEVANT > expected.min()
    assert np.allclose(found, expected, atol=1e-3)


def test_copies_of_one_picture_make_no_one_sure() -> None:
    images = np.repeat(some(1, 0), 40, axis=0)
    baseline = relevance.measure(images.astype(np.float64), some(256, 1), count=40)
    assert (best(baseline, some(30, 2), images) <= RELEVANT).all()


def test_of_more_pictures_the_best_hit_must_stand_higher() -> None:
    """What a sample says of a library ten times its size is near to what the whole library says."""
    images, texts = some(40_000, 0), some(256, 1)
    whole = relevance.measure(images.astype(np.float64), texts, count=40_000)
    sampled = relevance.measure(images[::10].astype(np.float64), texts, count=40_000)
    small = relevance.measure(images[::10].astype(np.float64), texts, count=4_000)
    for kind in KINDS:
        assert small.usual[kind].best < sampled.usual[kind].best
        assert sampled.usual[kind].best == pytest.approx(whole.usual[kind].best, abs=0.3)


# Learning and remembering


class Embedder:
    """Random but fixed unit vectors for texts; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, texts: Sequence[str]) -> Rows:
        self.asked += 1
        return some(len(texts), 5)


@pytest.fixture
def catalog(photos: Catalog, tmp_path: Path) -> Iterator[Catalog]:
    """A catalog of one's own, of an encoder with vectors of DIM dimensions: 40 images."""
    catalog = Catalog.create(tmp_path / "library")
    with catalog.transaction():
        info = answering(photos).info
        row = catalog.add_encoder(type(info)(**{f: getattr(info, f) for f in info.__slots__} | {"dim": DIM}))
        catalog.set_meta("encoder_id", str(row.id))
    fill(catalog, 40)
    yield catalog
    catalog.close()


def fill(catalog: Catalog, count: int) -> None:
    """Add images until there are `count`."""
    row = answering(catalog)
    present = catalog.embeddings.count(row.id)
    with catalog.transaction():
        for number in range(present, count):
            catalog.conn.execute(
                "INSERT INTO contents (id, digest, bytes, state, decoder, added_at) VALUES (?, ?, 1, 'ok', '', '')",
                (number + 1, str(number).encode()),
            )
            catalog.embeddings.put(number + 1, row.id, some(1, 100 + number)[0])


def test_it_is_learnt_once_and_again_when_the_library_has_grown_by_a_fifth(catalog: Catalog, tmp_path: Path) -> None:
    row, embed, query = answering(catalog), Embedder(), some(1, 9)[0]
    scores = np.array([0.2, 0.5, 0.9], np.float32)
    cache = QueryCache(catalog.folder)
    assert relevance.recall(catalog, row, cache) is None
    first = relevance.learn(catalog, row, cache, embed)
    assert first is not None and embed.asked == 1
    again = relevance.recall(catalog, row, cache)
    assert again is not None
    for kind in KINDS:
        values = [relevance.relevance(y, query, scores, kind=kind).tolist() for y in (first, again)]
        assert values[0] == values[1]
    fill(catalog, 48)
    relevance.learn(catalog, row, cache, embed)
    assert embed.asked == 1
    fill(catalog, 49)
    assert relevance.recall(catalog, row, cache) is None
    grown = relevance.learn(catalog, row, cache, embed)
    assert embed.asked == 2 and grown is not None and grown.count == 49
    cache.close()


@pytest.mark.parametrize("damage", [b"", b"{}\n", b'{"count": 40}\n', b"not json\n123", b"\xff\xfe\n"])
def test_a_damaged_yardstick_is_learnt_anew(catalog: Catalog, damage: bytes) -> None:
    row, embed = answering(catalog), Embedder()
    cache = QueryCache(catalog.folder)
    relevance.learn(catalog, row, cache, embed)
    cache.put_fact(row.info.fingerprint, "yardstick 2", 40, damage)
    assert relevance.recall(catalog, row, cache) is None
    assert relevance.learn(catalog, row, cache, embed) is not None
    assert embed.asked == 2
    cache.close()


def test_a_cache_that_keeps_nothing_costs_time_and_no_answer(catalog: Catalog) -> None:
    (catalog.folder / CACHE_NAME).write_bytes(b"not a database" * 100)
    cache, embed = QueryCache(catalog.folder), Embedder()
    assert relevance.learn(catalog, answering(catalog), cache, embed) is not None
    assert relevance.recall(catalog, answering(catalog), cache) is None
    cache.close()


def test_a_handful_of_pictures_gives_no_yardstick(photos: Catalog, tmp_path: Path) -> None:
    shutil.copytree(photos.folder, tmp_path / "few")
    few = Catalog.open(tmp_path / "few", writable=True)
    with few.transaction():
        few.conn.execute("DELETE FROM embeddings WHERE content_id > ?", (FEWEST - 1,))
    cache, embed = QueryCache(tmp_path), Embedder()
    assert relevance.learn(few, answering(few), cache, embed) is None
    assert embed.asked == 0
    cache.close()
    few.close()
