"""Tiles: parts of images that have vectors of their own, made, kept, deleted and found by."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Shelf, TinyEncoder, age
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tinyclip.scenes import caption, draw, scenes

from clipsearch import Library
from clipsearch.catalog import snapshots
from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import Catalog
from clipsearch.catalog.filters import Filter
from clipsearch.display.thumbnails import thumbnails
from clipsearch.images import tiles
from clipsearch.images.open import open_image
from clipsearch.search import background, baselines, relevance
from clipsearch.search.neighbours import Neighbour, Searcher
from clipsearch.types import EncoderInfo, Preprocess

HERE = Path(__file__).parent
TINY = HERE / "tinyclip" / "tiny_clip.pt"

# Which parts an image has

sizes = st.tuples(st.integers(1, 6000), st.integers(1, 6000))


@given(sizes)
def test_tiles_are_squares_inside_the_picture_bounded_in_number_and_cover_it(size: tuple[int, int]) -> None:
    width, height = size
    auto, every = tiles.boxes(width, height, "auto"), tiles.boxes(width, height, "all")
    assert tiles.boxes(width, height, "none") == ()
    assert auto in ((), every), "a view's number would change its meaning with the mode"
    assert len(every) <= tiles.MAX_TILES and len(set(every)) == len(every)
    for left, top, right, bottom in every:
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        assert right - left == bottom - top >= tiles.MIN_SIDE
    long, short = max(size), min(size)
    assert bool(auto) == (long >= 2 * short and short >= tiles.MIN_SIDE)
    if every and long <= tiles.MAX_TILES * short:
        seen = np.zeros((height // 8 + 1, width // 8 + 1), bool)  # every eighth pixel
        for left, top, right, bottom in every:
            seen[-(-top // 8) : -(-bottom // 8), -(-left // 8) : -(-right // 8)] = True
        assert seen[: -(-height // 8), : -(-width // 8)].all()
    if auto and long <= 16 * short:  # what is half as wide as high is whole in one of them
        starts = sorted(max(box[:2]) for box in auto)
        assert max(np.diff(starts)) <= math.ceil(short / 2)


@given(sizes)
def test_a_turned_picture_has_the_turned_tiles(size: tuple[int, int]) -> None:
    width, height = size
    if width != height:
        turned = [(top, left, bottom, right) for left, top, right, bottom in tiles.boxes(height, width, "all")]
        assert sorted(turned) == sorted(tiles.boxes(width, height, "all"))


def test_views_begin_with_the_whole_picture() -> None:
    assert tiles.views(2240, 1120, "auto") == (
        tiles.View(0, None),
        tiles.View(1, (0, 0, 1120, 1120)),
        tiles.View(2, (560, 0, 1680, 1120)),
        tiles.View(3, (1120, 0, 2240, 1120)),
    )
    assert tiles.count_views(None, None, "all") == 1


# Making and deleting them

WIDE = (480, 120)  # 7 tiles
PLAIN = (320, 240)  # 8 tiles, in mode "all"


def paint(path: Path, seed: int, size: tuple[int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    cells = size[0] // 40, size[1] // 40
    Image.frombytes("RGB", cells, rng.randbytes(3 * cells[0] * cells[1])).resize(size, Image.Resampling.NEAREST).save(
        path
    )
    return age(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for i in range(3):
        paint(folder / f"wide{i}.png", i, WIDE)
    for i in range(4):
        paint(folder / f"plain{i}.png", 10 + i, PLAIN)
    return folder


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "library")


def held(shelf: Shelf) -> dict[str, int]:
    """How many vectors each image has, by its file's name."""
    rows = shelf.rows(
        "SELECT f.path, count(*) FROM files f JOIN embeddings e ON e.content_id = f.content_id GROUP BY f.path"
    )
    return {os.path.basename(os.fsdecode(path)): count for path, count in rows}


def counts(wide: int, plain: int) -> dict[str, int]:
    return {f"plain{i}.png": plain for i in range(4)} | {f"wide{i}.png": wide for i in range(3)}


def test_every_view_is_the_vector_of_its_part(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    report = shelf.index(photos, tiles="all")
    assert (report.indexed, report.pictures, report.encoded, report.opened) == (7, 7, 3 * 8 + 4 * 9, 7)
    assert held(shelf) == counts(8, 9)
    for path, view, box, vector in shelf.rows(
        "SELECT f.path, e.view, e.box, e.vector FROM embeddings e JOIN files f ON f.content_id = e.content_id"
    ):
        image = Image.open(os.fsdecode(path))
        assert (view == 0) == (box is None)
        cut = tmp_path / "cut.png"
        image.crop(tuple(json.loads(box)) if box else (0, 0, *image.size)).save(cut)
        alone = shelf.encoder.encode_images(open_image(cut.read_bytes()).pixels(shelf.encoder.info.preprocess)[None])[0]
        assert np.array_equal(np.frombuffer(vector, "<f4"), alone)


def test_the_mode_stays_and_changing_it_makes_or_deletes_what_is_due(shelf: Shelf, photos: Path) -> None:
    assert shelf.index(photos).encoded == 7
    whole = dict(shelf.rows("SELECT seq, vector FROM embeddings"))
    assert shelf.index(preview=True, tiles="auto").indexed == 3  # only a look ahead, nothing is kept of it
    assert shelf.index().unchanged == 7

    report = shelf.index(tiles="auto")
    assert (report.indexed, report.unchanged, report.encoded, report.opened, report.tiles) == (3, 4, 21, 3, "auto")
    assert held(shelf) == counts(8, 1)
    assert shelf.index().opened == 0
    paint(photos / "wide3.png", 3, WIDE)
    assert shelf.index().encoded == 8, "a later run keeps the mode"
    (photos / "wide3.png").unlink()

    assert shelf.index(tiles="all").encoded == 4 * 8
    assert held(shelf) == counts(8, 9) | {"wide3.png": 8}
    report = shelf.index(tiles="auto")
    assert (report.encoded, report.opened, report.deleted) == (0, 0, 4 * 8)
    report = shelf.index(tiles="none")
    assert (report.encoded, report.opened, report.deleted) == (0, 0, 4 * 7)
    assert {seq: vector for seq, vector in shelf.rows("SELECT seq, vector FROM embeddings") if seq in whole} == whole
    assert held(shelf) == counts(1, 1) | {"wide3.png": 1}
    assert shelf.index(tiles="none").deleted == 0


def test_asking_for_tiles_reads_what_other_runs_indexed_too(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    shelf.index(photos)
    other = paint(tmp_path / "other" / "wide.png", 50, WIDE)
    report = shelf.index(other.parent, tiles="auto")
    assert (report.indexed, report.encoded) == (4, 8 + 3 * 7)
    assert held(shelf) == counts(8, 1) | {"wide.png": 8}


def test_missing_and_offline_files_block_nothing(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    away = photos.with_name("away")
    (photos / "wide0.png").unlink()
    shelf.index()
    photos.rename(away)
    report = shelf.index(tiles="auto")
    assert (report.encoded, report.offline, report.failed) == (0, 6, ())
    assert len(shelf.hits()) == 6
    away.rename(photos)
    assert shelf.index().encoded == 2 * 7
    assert shelf.index().opened == 0


def test_copies_and_moves_cost_no_tiles(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos, tiles="auto")
    (photos / "copy.png").write_bytes((photos / "wide0.png").read_bytes())
    (photos / "wide1.png").rename(photos / "moved.png")
    report = shelf.index()
    assert (report.copied, report.moved, report.encoded) == (1, 1, 0)


def test_an_encoder_takes_over_once_it_has_every_view(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos, tiles="all")
    other = TinyEncoder("other")
    report = shelf.index(encoder=other, batch_size=4, stop=lambda: shelf.vectors() > 60)
    assert report.interrupted and not report.switched and 0 < report.filling_left < 7
    report = shelf.index(encoder=other)
    assert report.switched and report.filling_left == 0
    assert shelf.rows("SELECT count(*) FROM embeddings WHERE encoder_id = 2") == [(3 * 8 + 4 * 9,)]
    # More tiles are owed by the one that answers; one that is kept stays as it was.
    report = shelf.index(tiles="auto", encoder=other)
    assert (report.deleted, report.encoded) == (2 * 4 * 8, 0)


def test_a_switch_waits_for_tiles_that_were_asked_for_meanwhile(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    shelf.index(encoder=TinyEncoder("other"), stop=lambda: True)
    report = shelf.index(encoder=TinyEncoder("other"), tiles="auto")
    assert report.switched and report.encoded == 3 * 8 + 4


def test_dead_tiles_leave_the_snapshot(shelf: Shelf, photos: Path) -> None:
    assert shelf.index(photos, tiles="all").published
    assert shelf.rows("SELECT count FROM snapshots") == [(60,)]
    before = shelf.hits(photos / "plain1.png")
    report = shelf.index(tiles="none")
    assert report.published
    assert shelf.rows("SELECT count FROM snapshots") == [(7,)]
    assert shelf.hits(photos / "plain1.png")[0] == before[0] == str(photos / "plain1.png")


def test_small_pictures_and_files_that_end_early(shelf: Shelf, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    paint(folder / "small.png", 1, (200, 40))
    cut = paint(folder / "cut.jpg", 2, WIDE)
    cut.write_bytes(cut.read_bytes()[:-60])
    age(cut)
    report = shelf.index(folder, tiles="all")
    assert [Path(p.path).name for p in report.partial] == ["cut.jpg"]
    assert held(shelf) == {"small.png": 1, "cut.jpg": 8}
    assert shelf.index().opened == 0


def test_a_part_that_is_too_large_to_decode_is_stood_in_for_by_the_whole(shelf: Shelf, tmp_path: Path) -> None:
    """A JPEG is drafted for the whole image, but not for a quarter of it: that would exceed the limit."""
    path = tmp_path / "photos" / "large.jpg"
    path.parent.mkdir()
    Image.effect_noise((720, 540), 60).convert("RGB").resize((560, 420)).save(path)
    age(path)
    encoder = TinyEncoder()
    encoder.info = EncoderInfo("large", "f", 48, 1.0, None, Preprocess(size=56, resize="squash"))
    encoder.encode_images = lambda batch: TinyEncoder.encode_images(encoder, batch[..., :8, :8])  # type: ignore[method-assign]
    report = shelf.index(path.parent, encoder=encoder, tiles="all", max_pixels=100_000)
    assert (report.indexed, report.failed) == (1, ())
    rows = shelf.rows("SELECT view, box, vector FROM embeddings ORDER BY view")
    assert len(rows) == 9 and {box for _, box, _ in rows} == {None} and len({vector for *_, vector in rows}) == 1
    assert shelf.index(encoder=encoder, max_pixels=100_000).opened == 0
    assert shelf.index(encoder=encoder, max_pixels=50_000).opened == 0
    report = shelf.index(encoder=encoder)
    assert (report.opened, report.encoded) == (1, 8), "a higher limit gives the tiles their own vectors"
    rows = shelf.rows("SELECT box, vector FROM embeddings ORDER BY view")
    assert len({box for box, _ in rows}) == len({vector for _, vector in rows}) == 9
    assert shelf.index(encoder=encoder).opened == 0


# Memory and kills


def test_a_stop_in_front_of_many_views_ends_the_run(shelf: Shelf, tmp_path: Path) -> None:
    for i in range(12):
        paint(tmp_path / "photos" / f"{i:02}.png", i, (1960, 120))  # 32 tiles each: more than the budget
    asked = iter([False] * 6 + [True] * 10_000)
    report = shelf.index(tmp_path / "photos", tiles="auto", batch_size=2, workers=4, stop=lambda: next(asked))
    assert report.interrupted
    assert set(held(shelf).values()) <= {33}
    assert shelf.index().encoded + report.encoded == 12 * 33


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from helpers import Shelf
Shelf(Path(sys.argv[2])).index(Path(sys.argv[3]), batch_size=3, tiles=sys.argv[4])
"""


def test_kills_leave_whole_pictures_only_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """Killed while tiles are added, deleted and added again; ends as a run that was not."""
    folder = tmp_path / "photos"
    for i in range(36):
        paint(folder / f"{i:02}.png", i, WIDE if i % 3 else PLAIN)
    whole, killed = Shelf(tmp_path / "whole"), Shelf(tmp_path / "killed")
    whole.index(folder, tiles="all")
    killed.index(folder)
    env = os.environ | {"PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
    modes = ["auto", "all", "none", "auto", "all", "all", "all"]
    for round_, mode in enumerate(modes):
        command = [sys.executable, "-c", SCRIPT, str(HERE), str(killed.folder), str(folder), mode]
        before = killed.vectors()
        process = subprocess.Popen(command, env=env)
        while process.poll() is None and abs(killed.vectors() - before) < 12 * (round_ + 1):
            time.sleep(0.001)
        process.kill()
        process.wait()
        [(kept,)] = killed.rows("SELECT value FROM meta WHERE key = 'tiles'") or [("none",)]
        for size, count in killed.rows(
            "SELECT c.width, count(*) FROM contents c JOIN embeddings e ON e.content_id = c.id GROUP BY c.id"
        ):
            full = tiles.count_views(size, 120 if size == WIDE[0] else 240, kept)
            assert count in (1, full) or (kept == "all" and count == 8), (kept, size, count)
    report = killed.index(tiles="all")
    assert not report.failed
    select = (
        "SELECT c.digest, e.view, e.box, e.vector FROM embeddings e JOIN contents c ON c.id = e.content_id "
        "ORDER BY 1, 2"
    )
    assert killed.rows(select) == whole.rows(select)
    assert killed.index().opened == 0


# Searching

DIM = 8


@dataclass
class Made:
    folder: Path
    vectors: dict[int, np.ndarray]
    """Views of each live content, shape (n, DIM)."""
    wide: set[int]


def add(catalog: Catalog, encoder_id: int, made: Made, count: int, rng: np.random.Generator) -> None:
    views = rng.normal(size=DIM) + 0.1 * rng.normal(size=(count, DIM))
    views = (views / np.linalg.norm(views, axis=1, keepdims=True)).astype("<f4")
    digest = rng.bytes(32)
    content = catalog.contents.put(digest, size=1, state="ok", reason=None, decoder="", now="")
    wide, dead = rng.random() < 0.5, rng.random() < 0.2
    path = f"/{'wide' if wide else 'plain'}/{content}.jpg".encode()
    catalog.files.put(path, content_id=content, size=1, mtime_ns=1, state="missing" if dead else "present")
    for view, vector in enumerate(views):
        box = (view, 0, view + 1, 1) if view else None
        catalog.embeddings.put(content, encoder_id, vector, view=view, box=box)
    if not dead:
        made.vectors[content] = views
        made.wide |= {content} if wide else set()


def make(folder: Path, data: Any, *, engine: str) -> Made:
    """Contents of 1 to 40 views; those of one lie close together, so that it fills the first places alone."""
    catalog = Catalog.create(folder)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    made = Made(folder, {}, set())
    numbers = data.draw(st.lists(st.sampled_from([1, 1, 2, 9, 40]), min_size=1, max_size=40))
    tail = data.draw(st.integers(0, len(numbers)))
    with catalog.transaction():
        row = catalog.add_encoder(EncoderInfo("test", "print", DIM, 10.0, None, Preprocess(8)))
        catalog.set_meta("encoder_id", str(row.id))
        catalog.set_meta("engine", engine)
        catalog.set_meta("tiles", "all")
    for part in (numbers[: len(numbers) - tail], numbers[len(numbers) - tail :]):
        if made.vectors:
            snapshots.publish(catalog, row)
        with catalog.transaction():
            for count in part:
                add(catalog, row.id, made, count, rng)
    catalog.close()
    return made


@pytest.mark.parametrize("engine", ["small", "exact", "ivf"])
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_k_pictures_come_back_by_their_best_views_in_the_exact_order(
    engine: str, tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshots, "SMALL", 10_000 if engine == "small" else 0)
        made = make(tmp_path_factory.mktemp("library"), data, engine="ivf" if engine == "ivf" else "exact")
        rng = np.random.default_rng(1)
        queries = rng.normal(size=(3, DIM))
        queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
        catalog, cache = Catalog.open(made.folder), QueryCache(made.folder)
        try:
            row = catalog.active()
            assert row is not None
            searcher = Searcher(catalog, cache)
            for k, where in itertools.product(
                data.draw(st.lists(st.integers(1, 45), min_size=1, max_size=5)), [None, Filter(within=(b"/wide",))]
            ):
                many = searcher.nearest_many(row, queries, k, where=where)
                for query, batch in zip(queries, many, strict=True):
                    single = searcher.nearest(row, query, k, where=where)
                    weighed = searcher.scored(row, query[None], lambda q, s: s[0], k, wanted=1, where=where)
                    compare(made, query, k, where, [weighed])
                    # An approximate engine promises the number; the order only where a filter stands.
                    compare(made, query, k, where, [single, batch], ordered=engine != "ivf" or where is not None)
        finally:
            cache.close()
            catalog.close()


def compare(
    made: Made,
    query: np.ndarray,
    k: int,
    where: Filter | None,
    answers: list[list[Neighbour]],
    *,
    ordered: bool = True,
) -> None:
    """Hold answers to a plain product with every view of every live image."""
    scores = {
        content: views.astype(np.float64) @ query.astype(np.float64)
        for content, views in made.vectors.items()
        if where is None or content in made.wide
    }
    wanted = sorted(scores, key=lambda content: -scores[content].max())[:k]
    for found in answers:
        assert len(found) == len(wanted)
        if ordered:
            assert [n.content_id for n in found] == wanted
        for n in found:
            assert n.box == ((n.view, 0, n.view + 1, 1) if n.view else None)
            assert n.score == pytest.approx(scores[n.content_id][n.view], abs=1e-6)
            assert not ordered or n.view == int(scores[n.content_id].argmax())


def test_what_is_usual_is_taken_from_all_views_and_counts_pictures_once(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "library")
    cache = QueryCache(tmp_path / "library")
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(250, DIM)).astype("<f4")
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with catalog.transaction():
        row = catalog.add_encoder(EncoderInfo("test", "print", DIM, 10.0, None, Preprocess(8)))
        catalog.set_meta("tiles", "all")
        for i in range(50):
            content = catalog.contents.put(bytes([i]), size=1, state="ok", reason=None, decoder="", now="")
            catalog.conn.execute(
                "INSERT INTO files (path, content_id, size, mtime_ns, state) VALUES (?, ?, 1, 1, 'present')",
                (bytes([i]), content),
            )
            for view in range(5):
                catalog.embeddings.put(content, row.id, rows[5 * i + view], view=view)
    texts = rows[:: 250 // 25][:25]
    known = background.learn(catalog, row, cache, lambda asked: texts)
    assert known.count == 50, "five views of 50 pictures are too few to centre by"
    assert np.allclose(known.mean, rows.mean(axis=0), atol=1e-6)
    baseline = baselines.learn(catalog, row, cache, lambda asked: texts)
    assert baseline is not None and baseline.count == 250 and baseline.sample.counts.sum() == 250
    # An image is not held against its own tiles: copies of it among them change nothing that is usual.
    copies = np.repeat(rows[::5], 5, axis=0).astype(np.float64)
    owners = np.repeat(np.arange(50), 5)
    apart = relevance.measure(rows[::5].astype(np.float64), texts, count=50)
    together = relevance.measure(copies, texts, owners=owners, count=250)
    assert together.usual["picture"].best == pytest.approx(apart.usual["picture"].best, abs=0.25)
    alone = relevance.measure(copies, texts, count=250)
    assert alone.usual["picture"].best > together.usual["picture"].best + 0.5
    cache.close()
    catalog.close()


# What a person sees of it

COUNT = 40


@pytest.fixture(scope="module")
def panoramas(cli: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawings at either end of panoramas, in `photos/`; the middle, which an encoder sees, is grey."""
    folder = tmp_path_factory.mktemp("panoramas")
    (folder / "photos").mkdir()
    for i, scene in enumerate(scenes(COUNT, seed=8)):
        wide = Image.new("RGB", (896, 224), (128, 128, 128))
        wide.paste(draw(scene), (0 if i % 2 else 672, 0))
        wide.save(folder / "photos" / f"{i:02}.png")
    ran = cli("index", "photos", "--model", TINY, "--json", cwd=folder)
    assert ran.code == 0, ran.err
    return folder


def ranks(folder: Path) -> list[int]:
    """The place of each panorama among the answers to the caption of its drawing, from 0."""
    with Library.open(folder / "index") as library:
        found = library.query_many([caption(scene) for scene in scenes(COUNT, seed=8)], k=COUNT)
    return [[int(Path(h.path).stem) for h in result.hits].index(i) for i, result in enumerate(found)]


def test_tiles_find_what_the_centre_does_not_show(cli: Any, panoramas: Path) -> None:
    before = ranks(panoramas)
    ran = cli("index", "--tiles", "auto", "--json", cwd=panoramas)
    assert ran.code == 0, ran.err
    assert (ran.json["indexed"], ran.json["encoded"], ran.json["pictures"]) == (COUNT, 7 * COUNT, COUNT)
    after = ranks(panoramas)
    print(f"among the first three: {sum(r < 3 for r in before)} and {sum(r < 3 for r in after)} of {COUNT}")
    assert sum(r < 3 for r in before) <= COUNT // 4
    assert sum(r < 3 for r in after) >= COUNT * 3 // 4

    first = next(iter(scenes(1, seed=8)))
    hits = cli("query", caption(first), "--json", cwd=panoramas).json["hits"]
    [hit] = [hit for hit in hits if hit["path"].endswith("/00.png")]
    assert hit["view"] == 7 and hit["box"] == [672, 0, 896, 224]
    lines = cli("query", caption(first), "--csv", cwd=panoramas).lines
    assert "#672,0,224,224" in [row["part"] for row in csv.DictReader(lines)]
    # What a hit names as its part can be asked for.
    alike = cli("query", "photos/00.png#672,0,224,224", "--json", "-k", "1", cwd=panoramas).json["hits"][0]
    assert alike["path"].endswith("/00.png") and alike["view"] == 7 and alike["score"] == pytest.approx(1, abs=1e-5)
    whole = cli("query", "photos/00.png", "--json", "-k", "1", cwd=panoramas).json["hits"][0]
    assert (whole["view"], whole["box"]) == (0, None) and whole["score"] == pytest.approx(1, abs=1e-6)
    known = cli("query", f"id:{whole['id']}", "--json", "-k", "1", cwd=panoramas).json["hits"][0]
    assert (known["id"], known["view"]) == (whole["id"], 0)


def test_show_info_and_doctor_know_the_tiles(cli: Any, panoramas: Path) -> None:
    cli("index", "--tiles", "auto", cwd=panoramas)
    shown = cli("show", "photos/00.png", "--json", cwd=panoramas).json
    assert [view["view"] for view in shown["views"]] == list(range(8))
    assert shown["views"][0]["box"] is None and shown["views"][7]["box"] == [672, 0, 896, 224]
    assert shown["id"] not in [hit["id"] for hit in shown["neighbours"]]
    assert "view 7, part #672,0,224,224" in cli("show", "photos/00.png", cwd=panoramas).text
    info = cli("info", "--json", cwd=panoramas).json
    assert info["tiles"] == "auto" and info["encoders"][0]["vectors"] == 8 * COUNT and info["encoders"][0]["owed"] == 0
    assert "auto" in cli("info", cwd=panoramas).text


def test_a_hits_part_is_framed(panoramas: Path, cli: Any) -> None:
    cli("index", "--tiles", "auto", cwd=panoramas)
    with Library.open(panoramas / "index") as library:
        hits = library.query(caption(next(iter(scenes(1, seed=8)))), k=COUNT).hits
    [thumbnail] = thumbnails([hit for hit in hits if hit.path.endswith("/00.png")], side=448)
    assert thumbnail.picture is not None and thumbnail.hit.box == (672, 0, 896, 224)
    assert [thumbnail.picture.getpixel((336, y)) for y in (0, 50)] == [(0, 0, 0)] * 2  # the frame's left edge
    assert thumbnail.picture.getpixel((337, 50)) == (255, 255, 255)
    assert thumbnail.picture.getpixel((330, 50)) == (128, 128, 128)
    assert len(hits) == COUNT


def test_a_wrong_mode_is_refused_and_loses_nothing(cli: Any, panoramas: Path) -> None:
    ran = cli("index", "--tiles", "some", cwd=panoramas)
    assert ran.code == 2 and "'none', 'auto', 'all'" in ran.err and len(ran.err.splitlines()) == 1
