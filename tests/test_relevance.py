"""Relevance: what it lets through and turns away on real images, and that it depends on nothing it should not."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import string
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from clipsearch import Library
from clipsearch.catalog import filters
from clipsearch.catalog.cache import CACHE_NAME, QueryCache
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.catalog.filters import Filter
from clipsearch.cli.commands import demo
from clipsearch.encoders import prompts
from clipsearch.encoders.base import Encoder
from clipsearch.encoders.load import load_encoder
from clipsearch.images.open import open_image
from clipsearch.indexing.run import RunOptions
from clipsearch.search import baselines, mixture, relevance
from clipsearch.search.background import PROMPTS
from clipsearch.search.evidence import CUTS
from clipsearch.search.query import QueryOptions
from clipsearch.search.relevance import FEWEST, KINDS, RELEVANT, Baseline
from clipsearch.search.terms import Text
from clipsearch.types import QueryResult, Total

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
    baseline = baselines.learn(photos, answering(photos), cache, builtin.encode_texts)
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
        rows.append(
            tiny.encode_images(open_image((folder / "one.png").read_bytes()).pixels(tiny.info.preprocess)[None])[0]
        )
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
            catalog.conn.execute(
                "INSERT INTO files (path, content_id, size, mtime_ns, state) VALUES (?, ?, 1, 1, 'present')",
                (str(number).encode(), number + 1),
            )
            catalog.embeddings.put(number + 1, row.id, some(1, 100 + number)[0])


def test_it_is_learnt_once_and_again_when_the_library_has_grown_by_a_fifth(catalog: Catalog, tmp_path: Path) -> None:
    row, embed, query = answering(catalog), Embedder(), some(1, 9)[0]
    scores = np.array([0.2, 0.5, 0.9], np.float32)
    cache = QueryCache(catalog.folder)
    assert baselines.recall(catalog, row, cache) == baselines.Known()
    first = baselines.learn(catalog, row, cache, embed)
    assert first is not None and embed.asked == 1
    again = baselines.recall(catalog, row, cache).baseline
    assert again is not None
    for kind in KINDS:
        values = [relevance.relevance(y, query, scores, kind=kind).tolist() for y in (first, again)]
        assert values[0] == values[1]
    fill(catalog, 48)
    baselines.learn(catalog, row, cache, embed)
    assert embed.asked == 1
    fill(catalog, 49)
    assert not baselines.recall(catalog, row, cache).current
    grown = baselines.learn(catalog, row, cache, embed)
    assert embed.asked == 2 and grown is not None and grown.count == 49
    cache.close()


@pytest.mark.parametrize("damage", [b"", b"{}\n", b'{"count": 40}\n', b"not json\n123", b"\xff\xfe\n"])
def test_a_damaged_yardstick_is_learnt_anew(catalog: Catalog, damage: bytes) -> None:
    row, embed = answering(catalog), Embedder()
    cache = QueryCache(catalog.folder)
    baselines.learn(catalog, row, cache, embed)
    cache.put_fact(row.info.fingerprint, baselines.NAME, 40, damage)
    assert baselines.recall(catalog, row, cache) == baselines.Known()
    assert baselines.learn(catalog, row, cache, embed) is not None
    assert embed.asked == 2
    cache.close()


def test_a_cache_that_keeps_nothing_costs_time_and_no_answer(catalog: Catalog) -> None:
    (catalog.folder / CACHE_NAME).write_bytes(b"not a database" * 100)
    cache, embed = QueryCache(catalog.folder), Embedder()
    assert baselines.learn(catalog, answering(catalog), cache, embed) is not None
    assert baselines.recall(catalog, answering(catalog), cache) == baselines.Known()
    cache.close()


def test_a_handful_of_pictures_gives_no_yardstick(photos: Catalog, tmp_path: Path) -> None:
    shutil.copytree(photos.folder, tmp_path / "few")
    few = Catalog.open(tmp_path / "few", writable=True)
    with few.transaction():
        few.conn.execute("DELETE FROM embeddings WHERE content_id > ?", (FEWEST - 1,))
    cache, embed = QueryCache(tmp_path), Embedder()
    assert baselines.learn(few, answering(few), cache, embed) is None
    assert embed.asked == 0
    cache.close()
    few.close()


# Which images are relevant


@pytest.fixture(scope="module")
def library(photos: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """The demonstration's photographs, and 30 crops of the cat, 20 of the coffee, in a library of `builtin`."""
    folder = tmp_path_factory.mktemp("relevant")
    demo.write_photos(folder / "photos")
    for name, count in (("chelsea.png", 30), ("coffee.png", 20)):
        with PIL.Image.open(next(folder.rglob(name))) as image:
            width, height = image.size
            for i in range(count):
                part = image.crop((i, i, width - 2 * i, height - i))
                part.save(folder / "photos" / f"{i}-{name}")
    with Library.create(folder / "index", model="builtin") as made:
        made.index([folder / "photos"])
        yield made


ASK = QueryOptions(relevant=True)


def names(result: QueryResult) -> list[str]:
    return [Path(hit.path).name for hit in result]


def test_what_half_of_the_library_shows_is_relevant(library: Library) -> None:
    result = library.query("a cat", k=500, options=ASK)
    cats = [name for name in names(result) if name.endswith("chelsea.png")]
    assert len(cats) >= 28 and len(result) - len(cats) <= 3
    assert result.relevant == Total(len(result), exact=True)


def test_a_page_shows_some_of_all_relevant_hits(library: Library) -> None:
    whole = library.query("a cat", k=500, options=ASK)
    pages = [library.query("a cat", k=10, options=QueryOptions(relevant=True, page=page)) for page in (1, 2, 3, 4, 5)]
    assert [name for page in pages for name in names(page)] == names(whole)
    assert {page.relevant for page in pages} == {whole.relevant}
    alone = library.query("a cat", k=1, options=ASK)
    assert names(alone) == names(whole)[:1] and alone.relevant == whole.relevant


def test_ten_hits_come_back_by_default_and_all_are_counted(library: Library) -> None:
    result = library.query("a cat", options=ASK)
    assert len(result) == 10 and result.relevant is not None and result.relevant.count >= 28


def test_random_letters_have_no_relevant_hits(library: Library) -> None:
    """Nearly all images here are of two scenes, which split the scores of many texts in two."""
    results = [library.query(text, k=100, options=ASK) for text in salads(60)]
    assert all(result.relevant == Total(len(result), exact=True) for result in results)
    assert sum(bool(result.hits) for result in results) <= 1


@pytest.mark.parametrize("text", ["a cat", "a cup of coffee", "xqzzt vvbk"])
def test_a_term_added_to_itself_changes_nothing(library: Library, text: str) -> None:
    once, twice = (library.query(terms, k=20, options=ASK) for terms in (text, [text, Text(text, 0.5)]))
    assert once.hits == twice.hits and once.relevant == twice.relevant
    assert library.query(text).hits == library.query([text, text]).hits


def test_relevance_is_the_same_number_with_and_without_the_option(library: Library) -> None:
    for where in (None, Filter(formats=("PNG",)), Filter(min_size=(100, 100))):
        plain = library.query("a cat", k=5, where=where)
        asked = library.query("a cat", k=5, where=where, options=ASK)
        assert asked.hits == plain.hits[: len(asked)] and asked.hits


def test_few_images_behind_a_filter_are_judged_by_the_whole_library(library: Library) -> None:
    coffee = Filter(within=(b"*coffee.png",))
    whole = {hit.id: hit.relevance for hit in library.query("a cat", k=500)}
    some = library.query("a cat", k=500, where=coffee)
    assert 10 < len(some) < 50 and {hit.id: hit.relevance for hit in some} == {hit.id: whole[hit.id] for hit in some}
    assert library.query("a cat", k=500, where=coffee, options=ASK).relevant == Total(0, exact=True)
    cups = library.query("a cup of coffee", k=500, where=coffee, options=ASK)
    assert cups.relevant == Total(len(cups), exact=True) and len(cups) >= 18


def test_an_image_counts_by_its_best_view(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    demo.write_photos(folder)
    with Library.create(tmp_path / "index", model="builtin") as tiled:
        tiled.index([folder], run=RunOptions(tiles="all"))
        result = tiled.query("a cat", k=50, options=ASK)
        assert result.relevant == Total(len(result), exact=True)
        assert len({hit.id for hit in result}) == len(result) >= 1


def test_below_ten_images_the_hits_are_returned_with_a_notice(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    written = sorted(demo.write_photos(folder).folder.iterdir())
    for path in written[9:]:
        path.unlink()
    with Library.create(tmp_path / "index", model="builtin") as few:
        few.index([folder])
        result = few.query("a cat", options=ASK)
        assert len(result) == 9 and result.relevant is None
        assert [notice.kind for notice in result.notices if "fewer than 10" in notice] == ["relevance"]
        assert not any(notice.kind == "relevance" for notice in few.query("a cat").notices)


# The images that a baseline is of


def replace_images(catalog: Catalog, count: int) -> None:
    """The first `count` images are deleted, and as many others added."""
    with catalog.transaction():
        catalog.conn.execute("UPDATE files SET state = 'missing' WHERE content_id <= ?", (count,))
    fill(catalog, catalog.embeddings.count(answering(catalog).id) + count)


def test_a_baseline_is_of_images_and_not_of_their_number(catalog: Catalog) -> None:
    row, embed, cache = answering(catalog), Embedder(), QueryCache(catalog.folder)
    first = baselines.learn(catalog, row, cache, embed)
    with catalog.transaction():
        catalog.conn.execute("UPDATE files SET state = 'missing' WHERE content_id <= 4")
    assert baselines.recall(catalog, row, cache).current
    with catalog.transaction():
        catalog.conn.execute("UPDATE files SET state = 'missing' WHERE content_id <= 20")
    known = baselines.recall(catalog, row, cache)
    assert known.baseline is not None and first is not None and not known.current and not known.gone
    replace_images(catalog, 21)
    assert baselines.recall(catalog, row, cache) == baselines.Known(gone=True)
    again = baselines.learn(catalog, row, cache, embed)
    assert embed.asked == 2 and again is not None and again.mark != first.mark
    assert baselines.recall(catalog, row, cache).current
    cache.close()


def test_other_vectors_under_the_same_numbers_are_other_images(catalog: Catalog) -> None:
    row, cache = answering(catalog), QueryCache(catalog.folder)
    baselines.learn(catalog, row, cache, Embedder())
    with catalog.transaction():
        catalog.conn.execute("UPDATE embeddings SET vector = ?", (some(1, 7)[0].tobytes(),))
    assert baselines.recall(catalog, row, cache).gone
    cache.close()


def test_a_baseline_whose_images_are_gone_is_reported_and_measured_again(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    demo.write_photos(folder)
    with Library.create(tmp_path / "index", model="builtin") as made:
        made.index([folder])
        assert made.query("a cat", options=ASK).relevant is not None
        plain = QueryOptions(explain=False)
        assert made.query("a cat", options=plain)[0].relevance is not None
        shown = sorted(folder.iterdir())
        for path in shown[: len(shown) - 4]:
            path.unlink()
        for i, scene in enumerate(scenes(12, seed=3)):
            draw(scene, side=64).save(folder / f"{i}.png")
        cache = sqlite3.connect(made.path / "cache.db")
        with contextlib.closing(cache), cache:
            kept = cache.execute("SELECT * FROM facts WHERE name = ?", (baselines.NAME,)).fetchone()
        made.index()
        assert made.query("a cat", options=plain)[0].relevance is not None, "the run has measured it again"
        cache = sqlite3.connect(made.path / "cache.db")
        with contextlib.closing(cache), cache:
            cache.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?)", kept)
    with Library.open(tmp_path / "index") as made:
        old = made.query("a cat", options=plain)
        assert old[0].relevance is None and [n.kind for n in old.notices if "gone" in n] == ["relevance"]
        assert made.query("a new text", options=plain)[0].relevance is not None, "the model was loaded for the text"
        assert not any(notice.kind == "relevance" for notice in made.query("a cat", options=plain).notices)


def test_random_letters_do_not_stand_out_from_other_images_than_those_measured(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    demo.write_photos(folder)
    shown, plain = sorted(folder.iterdir()), QueryOptions(explain=False)
    with Library.create(tmp_path / "index", model="builtin") as made:
        made.index([folder])
        made.query("a cat", options=ASK)
        for path, scene in zip(shown, scenes(len(shown), seed=3), strict=True):
            path.unlink()
            draw(scene, side=64).save(path.with_suffix(".png"))
        made.index()
        sure = [hit.relevance for text in salads(10) for hit in made.query(text, k=1, options=plain)]
    assert len(sure) == 10 and all(one is not None and one < RELEVANT for one in sure)


def test_sums_that_are_centred_or_not_have_baselines_of_their_own(tmp_path: Path) -> None:
    """Of fewer than 200 images, terms are not centred. Some more images do not make the baseline be measured again."""
    folder = tmp_path / "drawings"
    folder.mkdir()
    drawings = list(scenes(210, seed=0))

    def add(first: int, last: int) -> None:
        for i, scene in enumerate(drawings[first:last], first):
            draw(scene, side=64).save(folder / f"{i}.png")

    terms = ["a large yellow circle", "a black background"]
    with Library.create(tmp_path / "index", model=str(TINY / "tiny_clip.pt")) as made:
        add(0, 190)
        made.index([folder])
        made.query(terms, options=ASK)
        add(190, 210)
        made.index()
        old = made.query(terms, k=20)
    (tmp_path / "index" / CACHE_NAME).unlink()
    with Library.open(tmp_path / "index") as made:
        made.query(terms, options=ASK)
        new = made.query(terms, k=20)
    assert [hit.id for hit in old] == [hit.id for hit in new]
    assert [hit.relevance for hit in old] == pytest.approx([hit.relevance for hit in new], abs=0.1)


def test_fifty_images_behind_a_filter_have_a_baseline_of_their_own(catalog: Catalog) -> None:
    row, embed = answering(catalog), Embedder()
    fill(catalog, 120)
    with catalog.transaction():
        catalog.conn.execute("UPDATE contents SET camera = 'one' WHERE id <= 50")
        catalog.conn.execute("UPDATE contents SET camera = 'two' WHERE id > 71")
    cache = QueryCache(catalog.folder)
    whole = baselines.learn(catalog, row, cache, embed)
    cache.close()
    assert whole is not None
    seqs = [filters.matching(catalog, row.id, Filter(camera=name)) for name in ("one", "two")]
    one, two = (baselines.of_filter(catalog, row, each, "text", whole, embed) for each in seqs)
    assert one is not None and one.count == 50 and two is None
    expected = np.stack([some(1, 100 + number)[0] for number in range(50)]).astype(np.float16)
    assert np.array_equal(one.sample.vectors, expected.astype(np.float32))


# The mixture


def drawn(share: float, distance: float, count: int = 2_000, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, count) + distance * (rng.random(count) < share)


def test_a_mixture_is_found_again() -> None:
    values = drawn(0.1, 5.0)
    found = mixture.fit(values)
    assert found is not None
    assert found.means == pytest.approx((0, 5), abs=0.2) and found.share == pytest.approx(0.1, abs=0.02)
    assert found.separation > 4 and found.gain > 500 and 2.5 < found.boundary < 4
    moved = mixture.fit(0.2 + 0.05 * values[::-1])
    assert moved is not None
    assert moved.boundary == pytest.approx(0.2 + 0.05 * found.boundary) and moved.gain == pytest.approx(found.gain)


def test_one_normal_is_no_mixture() -> None:
    for seed in range(20):
        found = mixture.fit(drawn(0, 0, 500, seed))
        assert found is None or found.gain < CUTS["text"].gain or found.separation < CUTS["text"].separation


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0], [0.3] * 50, [np.nan] * 50, [np.nan, 1.0, np.inf, 2.0]])
def test_what_cannot_be_fitted_is_not(values: list[float]) -> None:
    assert mixture.fit(np.array(values)) is None


def test_values_that_are_not_finite_are_left_out() -> None:
    values = drawn(0.2, 6.0, 200)
    assert mixture.fit(np.concatenate([values, [np.nan, np.inf]])) == mixture.fit(values)
