"""Filtered searches, held to brute force over random libraries by every engine; and filters as they are written."""

from __future__ import annotations

import fnmatch
import math
import os
import random
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from clipsearch.catalog import filters, snapshots
from clipsearch.catalog.cache import NO_CACHE
from clipsearch.catalog.catalog import Catalog
from clipsearch.catalog.filters import Filter, Near
from clipsearch.cli.filters import parse_near, parse_since, parse_size, parse_taken
from clipsearch.errors import UsageError
from clipsearch.images.open import READER_REVISION
from clipsearch.search.neighbours import Searcher
from clipsearch.types import ContentState, EncoderInfo, FileState, ImageFacts, Preprocess

DIM = 8
LIBRARIES, FILTERS = 200, 5
"""One thousand pairs of a library and a filter."""

FOLDERS = ("/p", "/p/a", "/p/a/b", "/p/ab", "/q [1]", "/q [1]/ü")


@dataclass(frozen=True)
class Made:
    """A content of a random library, with what a brute-force filter needs."""

    facts: ImageFacts
    state: ContentState
    added: str
    files: tuple[tuple[str, FileState], ...]
    vector: np.ndarray


def random_content(rng: random.Random, number: int) -> Made:
    taken = f"20{rng.randint(19, 22)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T{rng.randint(0, 23):02}:30:00"
    placed = rng.random() < 0.7
    facts = ImageFacts(
        format=rng.choice(["JPEG", "PNG", "HEIF"]),
        width=rng.choice([100, 640, 4000]),
        height=rng.choice([100, 480, 3000]),
        taken_at=taken if rng.random() < 0.8 else None,
        camera=rng.choice([None, "Canon EOS R5", "NIKON Z 6", "Ünicam Straße"]),
        lat=rng.uniform(-90, 90) if placed else None,
        lon=rng.uniform(-180, 180) if placed else None,
    )
    states: list[FileState] = ["present", "present", "present", "offline", "missing", "unreadable"]
    files = tuple((f"{rng.choice(FOLDERS)}/{number}-{i}.jpg", rng.choice(states)) for i in range(rng.randint(1, 3)))
    vector = np.array([rng.gauss(0, 1) for _ in range(DIM)])
    return Made(
        facts,
        rng.choice(["ok", "ok", "partial"]),
        f"2026-0{rng.randint(1, 9)}-01T00:00:00+00:00",
        files,
        (vector / np.linalg.norm(vector)).astype(np.float32),
    )


def random_filter(rng: random.Random) -> Filter:
    day = f"20{rng.randint(19, 22)}"
    until = rng.choice([day, f"{day}-0{rng.randint(1, 9)}", f"{day}-0{rng.randint(1, 9)}-1{rng.randint(0, 9)}"])
    some: dict[str, object] = {
        "within": tuple(os.fsencode(rng.choice([*FOLDERS, "*/a/*", "*-0.jpg"])) for _ in range(rng.randint(1, 2))),
        "taken": parse_taken(rng.choice([day, f"2019..{until}", f"{day}..", f"..{until}"])),
        "camera": rng.choice(["canon", "strasse", "z 6"]),
        "near": Near(rng.uniform(-90, 90), rng.uniform(-180, 180), rng.uniform(10, 15_000)),
        "formats": tuple(rng.sample(["JPEG", "PNG", "HEIF"], rng.randint(1, 2))),
        "min_size": (rng.choice([1, 640]), rng.choice([1, 480])),
        "landscape": True,
        "portrait": True,
        "indexed_since": f"2026-0{rng.randint(1, 9)}-01T00:00:00+00:00",
        "state": rng.choice(["ok", "partial"]),
    }
    return Filter(**{name: some[name] for name in rng.sample(sorted(some), rng.choice([1, 1, 2, 3]))})  # type: ignore[arg-type]


def passes(made: Made, chosen: Filter) -> bool:
    """The filter's meaning, written out a second time and without SQL."""

    def inside(path: str) -> bool:
        for place in map(os.fsdecode, chosen.within):
            if path == place or path.startswith(place + "/") or ("*" in place and fnmatch.fnmatchcase(path, place)):
                return True
        return not chosen.within

    facts = made.facts
    if not any(state != "missing" and inside(path) for path, state in made.files):
        return False
    if chosen.taken and not (facts.taken_at and chosen.taken[0] <= facts.taken_at < chosen.taken[1]):
        return False
    if chosen.camera and not (facts.camera and chosen.camera.casefold() in facts.camera.casefold()):
        return False
    if chosen.near:
        if facts.lat is None or facts.lon is None:
            return False
        a, b = (
            np.array([math.cos(p) * math.cos(w), math.cos(p) * math.sin(w), math.sin(p)])
            for p, w in (
                map(math.radians, where) for where in ((facts.lat, facts.lon), (chosen.near.lat, chosen.near.lon))
            )
        )
        if 6371.0088 * math.acos(max(-1.0, min(1.0, float(a @ b)))) > chosen.near.km:
            return False
    return (
        (not chosen.formats or facts.format in chosen.formats)
        and (not chosen.min_size or (facts.width >= chosen.min_size[0] and facts.height >= chosen.min_size[1]))
        and (not chosen.landscape or facts.width > facts.height)
        and (not chosen.portrait or facts.width < facts.height)
        and (not chosen.indexed_since or made.added >= chosen.indexed_since)
        and (not chosen.state or made.state == chosen.state)
    )


def build(folder: Path, contents: list[Made], engine: str, published: int) -> tuple[Catalog, dict[int, Made]]:
    catalog = Catalog.create(folder)
    by_id = {}
    with catalog.transaction():
        row = catalog.add_encoder(EncoderInfo("test", "print", DIM, 10.0, None, Preprocess(8)))
        catalog.set_meta("engine", "exact" if engine == "none" else engine)
    for number, made in enumerate(contents):
        if number == published and engine != "none":
            snapshots.publish(catalog, row)
        with catalog.transaction():
            content = catalog.contents.put(
                number.to_bytes(32, "big"), size=1, state=made.state, reason=None, decoder="", now=made.added
            )
            catalog.contents.put_facts(content, made.facts, revision=READER_REVISION)
            for path, state in made.files:
                catalog.files.put(os.fsencode(path), content_id=content, size=1, mtime_ns=1, state=state)
            catalog.embeddings.put(content, row.id, made.vector)
        by_id[content] = made
    return catalog, by_id


@pytest.mark.parametrize("engine", ["none", "exact", "ivf"])
def test_whenever_k_pictures_match_the_k_best_come_back_in_exact_order(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "SMALL", 20)  # larger ones are searched by FAISS
    narrowed = 0
    for seed in range({"none": 0, "exact": 1, "ivf": 2}[engine], LIBRARIES, 3):
        rng = random.Random(seed)
        contents = [random_content(rng, number) for number in range(rng.randint(1, 60))]
        with tempfile.TemporaryDirectory() as folder:
            catalog, by_id = build(Path(folder) / "library", contents, engine, rng.randint(1, len(contents)))
            searcher = Searcher(catalog, NO_CACHE)
            row = catalog.encoders()[0]
            for _ in range(FILTERS):
                chosen, k = random_filter(rng), rng.randint(1, 12)
                query = random_content(rng, 0).vector
                match = {content: made for content, made in by_id.items() if passes(made, chosen)}
                scores = {c: float(made.vector.astype(float) @ query.astype(float)) for c, made in match.items()}
                best = sorted(match, key=lambda c: -scores[c])[:k]
                found = searcher.nearest(row, query, k, where=chosen)
                assert [n.content_id for n in found] == best, (seed, chosen)
                assert [n.score for n in found] == pytest.approx([scores[c] for c in best], abs=1e-6)
                narrowed += 0 < len(match) < len(by_id)
            catalog.close()
    assert narrowed > LIBRARIES * FILTERS / 3 / 4  # enough of the filters leave some images and not all


def test_a_hits_path_is_one_that_the_filter_leaves(tmp_path: Path) -> None:
    from clipsearch.search.hits import make_hits

    rng = random.Random(0)
    made = replace(random_content(rng, 0), files=(("/p/a/x.jpg", "present"), ("/p/b/x.jpg", "present")))
    catalog, _ = build(tmp_path / "library", [made], "none", 0)
    row = catalog.encoders()[0]
    chosen = Filter(within=(b"/p/b",))
    found = Searcher(catalog, NO_CACHE).nearest(row, made.vector, 1, where=chosen)
    [hit] = make_hits(catalog, found, where=chosen)
    assert (hit.path, hit.paths) == ("/p/b/x.jpg", ("/p/b/x.jpg", "/p/a/x.jpg"))
    catalog.close()


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("2021", ["2021-01-01T00:00:00", "2021-12-31T23:59:59"], ["2020-12-31T23:59:59", "2022-01-01T00:00:00"]),
        ("2021-05", ["2021-05-31T23:59:59"], ["2021-06-01T00:00:00", "2021-04-30T23:59:59"]),
        ("2021-05-03..2021-06", ["2021-05-03T00:00:00", "2021-06-30T23:59:59"], ["2021-05-02T23:59:59"]),
        ("..2020", ["1999-01-01T00:00:00", "2020-12-31T23:59:59"], ["2021-01-01T00:00:00"]),
        ("2020..", ["2020-01-01T00:00:00", "2099-01-01T00:00:00"], ["2019-12-31T23:59:59"]),
    ],
)
def test_dates_mean_all_of_the_year_month_or_day(text: str, inside: list[str], outside: list[str]) -> None:
    low, high = parse_taken(text)
    assert all(low <= moment < high for moment in inside)
    assert not any(low <= moment < high for moment in outside)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_taken, "yesterday"),
        (parse_taken, "2021-13"),
        (parse_taken, "2021-02-30"),
        (parse_taken, "2022..2021"),
        (parse_taken, ".."),
        (parse_near, "48.8,2.3"),
        (parse_near, "91,0,5"),
        (parse_near, "0,0,0"),
        (parse_near, "nan,0,5"),
        (parse_size, "big"),
        (parse_since, "soon"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(parse: object, text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(text)) as caught:
        parse(text)  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_distances_are_those_of_the_globe() -> None:
    assert filters.distance_km(48.8566, 2.3522, 51.5074, -0.1278) == pytest.approx(343.6, abs=1)  # Paris, London
    assert filters.distance_km(0, 179.9, 0, -179.9) == pytest.approx(22.2, abs=0.1)  # across the date line
    assert filters.distance_km(None, None, 0, 0) is None
