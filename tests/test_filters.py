"""Filtered searches, held to brute force over random libraries by every engine; and filters as they are written."""

from __future__ import annotations

import fnmatch
import json
import math
import os
import random
import re
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import tzfpy

from clipsearch.catalog import filters, functions, snapshots
from clipsearch.catalog.cache import NO_CACHE
from clipsearch.catalog.catalog import Catalog
from clipsearch.catalog.filters import Filter, Near
from clipsearch.catalog.path_facts import PathFacts
from clipsearch.errors import UsageError
from clipsearch.image_facts import ImageFacts
from clipsearch.images.open import READER_REVISION
from clipsearch.search.filter_options import parse_near, parse_rating, parse_since, parse_size, parse_taken
from clipsearch.search.neighbours import Searcher
from clipsearch.types import ContentState, EncoderInfo, FileState, Preprocess

DIM = 8
LIBRARIES, FILTERS = 200, 5
"""One thousand pairs of a library and a filter."""

GLOBS = ("*/a/*", "*-0.jpg", "/p/a/*-1.jpg", "/p/*b/*")

NOTHING = PathFacts(*[None] * 10)

FOLDERS = ("/p", "/p/a", "/p/a/b", "/p/ab", "/q [1]", "/q [1]/ü")


@dataclass(frozen=True)
class Made:
    """A content of a random library, with what a brute-force filter needs. `known`: the facts of its files' paths."""

    facts: ImageFacts
    state: ContentState
    added: str
    files: tuple[tuple[str, FileState], ...]
    vector: np.ndarray
    known: tuple[PathFacts, ...] = ()

    def shown(self, name: str) -> Any:
        """A fact of the image, by the rule of `catalog.facts`, written out a second time."""
        live = [
            (state != "present", path, known)
            for (path, state), known in zip(self.files, self.known, strict=True)
            if state != "missing"
        ]
        first = min(live, key=lambda file: file[:2])[2] if live else NOTHING
        own = {name: getattr(self.facts, name) for name in ("taken_at", "lat", "caption", "rating", "keywords")}
        of_path = first._asdict()
        of_path["keywords"] = tuple(json.loads(first.keywords or "[]"))
        group = {"taken_offset": "taken_at", "taken_source": "taken_at", "lon": "lat"}.get(name, name)
        source = {"taken_at": "taken_source", "lat": "place_source", "caption": "caption_source"}.get(group)
        corrected = of_path[group] not in (None, ()) if source is None else of_path[source] == "sidecar"
        return of_path[name] if corrected or own[group] in (None, ()) else getattr(self.facts, name)


def random_content(rng: random.Random, number: int) -> Made:
    placed = rng.random() < 0.7
    facts = ImageFacts(
        format=rng.choice(["JPEG", "PNG", "HEIF"]),
        width=rng.choice([100, 640, 4000]),
        height=rng.choice([100, 480, 3000]),
        taken_at=random_date(rng) if rng.random() < 0.8 else None,
        camera=rng.choice([None, "Canon EOS R5", "NIKON Z 6", "Ünicam Straße"]),
        lat=rng.uniform(-90, 90) if placed else None,
        lon=rng.uniform(-180, 180) if placed else None,
        taken_offset=rng.choice([None, 0]),
        taken_source=rng.choice(["exif", "exif", "gps"]),
        place_source="exif" if placed else None,
        **random_words(rng),
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
        tuple(random_path_facts(rng) for _ in files),
    )


def random_words(rng: random.Random) -> dict[str, Any]:
    return {
        "caption": rng.choice([None, None, "Grandma's Fête", "STRASSE in Köln", "party"]),
        "keywords": rng.choice([(), (), ("Party",), ("zoë", "Party"), ("party hat", "Straße")]),
        "rating": rng.choice([None, None, -1, 0, 3, 5]),
    }


def random_path_facts(rng: random.Random) -> PathFacts:
    if rng.random() < 0.5:
        return NOTHING
    words, source = random_words(rng), rng.choice(["sidecar", "takeout", "name"])
    placed, dated = rng.random() < 0.5, rng.random() < 0.7
    return PathFacts(
        taken_at=random_date(rng) if dated else None,
        taken_offset=rng.choice([None, 0]) if dated else None,
        taken_source=source if dated else None,
        lat=rng.uniform(-90, 90) if placed else None,
        lon=rng.uniform(-180, 180) if placed else None,
        place_source=source if placed else None,
        caption=words["caption"],
        caption_source=source if words["caption"] else None,
        keywords=json.dumps(words["keywords"]) if words["keywords"] else None,
        rating=words["rating"],
    )


def random_date(rng: random.Random) -> str:
    """A date as exact as may be; near the ends of days and years, where time zones matter."""
    whole = f"20{rng.randint(19, 22)}-{rng.randint(1, 12):02}-{rng.choice([1, 28, 30]):02}"
    whole = whole.replace("-02-30", "-02-27")
    times = ["00:00:00", "23:59:59", "23:59:59.9", f"{rng.randint(0, 23):02}:30:00"]
    return rng.choice([whole[:4], whole[:7], whole, *(f"{whole}T{time}" for time in times)])


def random_filter(rng: random.Random) -> Filter:
    day = f"20{rng.randint(19, 22)}"
    until = rng.choice([day, f"{day}-0{rng.randint(1, 9)}", f"{day}-0{rng.randint(1, 9)}-1{rng.randint(0, 9)}"])
    some: dict[str, object] = {
        "within": tuple(os.fsencode(rng.choice([*FOLDERS, *GLOBS])) for _ in range(rng.randint(1, 2))),
        "taken": parse_taken(rng.choice([day, f"2019..{until}", f"{day}..", f"..{until}"])),
        "camera": rng.choice(["canon", "strasse", "z 6"]),
        "near": Near(rng.uniform(-90, 90), rng.uniform(-180, 180), rng.uniform(10, 15_000)),
        "formats": tuple(rng.sample(["JPEG", "PNG", "HEIF"], rng.randint(1, 2))),
        "min_size": (rng.choice([1, 640]), rng.choice([1, 480])),
        "landscape": True,
        "portrait": True,
        "indexed_since": f"2026-0{rng.randint(1, 9)}-01T00:00:00+00:00",
        "state": rng.choice(["ok", "partial"]),
        "tags": tuple(rng.sample(["PARTY", "zoe", "strasse", "hat"], rng.choice([1, 1, 2]))),
        "rating": rng.choice([(-1, -1), (0, 0), (4, 5), (-1, 3), (3, 3)]),
        "caption": rng.choice(["grandma", "FETE", "koln", "a"]),
        "name": rng.choice(["1", "-0.JPG", ".jpg", "a"]),
    }
    return Filter(**{name: some[name] for name in rng.sample(sorted(some), rng.choice([1, 1, 2, 3]))})  # type: ignore[arg-type]


def begins(known: str) -> str:
    return known + "YYYY-01-01T00:00:00"[len(known) :]


def ends(known: str) -> str:
    """The last second of a year, a month, a day …, with all its fractions."""
    if len(known) == 7:
        following = date(int(known[:4]) + (known[5:] == "12"), int(known[5:]) % 12 + 1, 1)
        known = (following - timedelta(1)).isoformat()
    return known[:19] + "YYYY-12-31T23:59:59"[len(known) :] + "~"


def passes(made: Made, chosen: Filter) -> bool:
    """The filter's meaning, written out a second time and without SQL."""

    def inside(path: str) -> bool:
        for place in map(os.fsdecode, chosen.within):
            if path == place or path.startswith(place + "/") or ("*" in place and fnmatch.fnmatchcase(path, place)):
                return True
        return not chosen.within

    def named(path: str) -> bool:
        return not chosen.name or chosen.name.lower() in path.rpartition("/")[2].lower()

    facts = made.facts
    if not any(state != "missing" and inside(path) and named(path) for path, state in made.files):
        return False
    if chosen.taken:
        at = made.shown("taken_at")
        if at and len(at) > 10 and is_utc(made.shown("taken_source"), made.shown("taken_offset")):
            at = in_zone(at, made.shown("lat"), made.shown("lon"))
        low, high = chosen.taken
        until = ends(high[:-1]) if high.endswith("~") else high
        if not (at and low <= begins(at) and (high == "~" or ends(at) <= until)):
            return False
    if chosen.rating and not chosen.rating[0] <= (made.shown("rating") or 0) <= chosen.rating[1]:
        return False
    if chosen.caption and plain(chosen.caption) not in plain(made.shown("caption") or ""):
        return False
    if not set(map(plain, chosen.tags)) <= set(map(plain, made.shown("keywords") or ())):
        return False
    if chosen.camera and not (facts.camera and chosen.camera.casefold() in facts.camera.casefold()):
        return False
    if chosen.near:
        lat, lon = made.shown("lat"), made.shown("lon")
        if lat is None or lon is None:
            return False
        a, b = (
            np.array([math.cos(p) * math.cos(w), math.cos(p) * math.sin(w), math.sin(p)])
            for p, w in (map(math.radians, where) for where in ((lat, lon), (chosen.near.lat, chosen.near.lon)))
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


def plain(text: str) -> str:
    return text.casefold().translate(str.maketrans("öëêü", "oeeu"))


def is_utc(source: str, offset: int | None) -> bool:
    return source in ("gps", "takeout") or (source == "name" and offset == 0)


def in_zone(at: str, lat: float | None, lon: float | None) -> str:
    """A moment in UTC as local time; sub-seconds stay."""
    zone = None if lat is None else ZoneInfo(tzfpy.get_tz(lon, lat))
    moment = datetime.fromisoformat(at[:19] + "+00:00").astimezone(zone)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + at[19:]


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
            for (path, state), known in zip(made.files, made.known, strict=True):
                catalog.files.put(os.fsencode(path), content_id=content, size=1, mtime_ns=1, state=state)
                catalog.files.put_facts(os.fsencode(path), "", known)
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
        if seed % 4 == 0:  # No path has facts.
            contents = [replace(made, known=(NOTHING,) * len(made.files)) for made in contents]
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
    made = replace(made, known=(NOTHING,) * 2)
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


PARIS, SYDNEY = (48.85, 2.35), (-33.87, 151.21)


@pytest.mark.parametrize(
    ("chosen", "facts", "is_inside"),
    [
        ("2021-05-03", {"taken_at": "2021-05-03"}, True),
        ("2021-05-03", {"taken_at": "2021-05-03T00:00:00"}, True),
        ("2021-05-03", {"taken_at": "2021-05-03T23:59:59.9"}, True),
        ("2021-05-03", {"taken_at": "2021-05-02T23:59:59.9"}, False),
        ("2021-05-03", {"taken_at": "2021-05-04"}, False),
        ("2021-05-03", {"taken_at": "2021-05-04T00:00:00"}, False),
        ("2021-05-02..2021-05-03", {"taken_at": "2021-05-03T23:59:59.9"}, True),
        ("2021-05-02..2021-05-03", {"taken_at": "2021-05-02"}, True),
        ("2021", {"taken_at": "2021"}, True),
        ("2021", {"taken_at": "2021-05"}, True),
        ("2020..2021", {"taken_at": "2021"}, True),
        ("2021-05", {"taken_at": "2021-05"}, True),
        ("2021-05", {"taken_at": "2021"}, False),
        ("2021-05..2021-12", {"taken_at": "2021"}, False),
        ("2020..2021-05", {"taken_at": "2021"}, False),
        ("2021-05-03", {"taken_at": "2021-05"}, False),
        ("2021-05-01..2021-05-31", {"taken_at": "2021-05"}, True),
        ("2021-05-01..2021-05-30", {"taken_at": "2021-05"}, False),
        ("2021-05-02..2021-06", {"taken_at": "2021-05"}, False),
        ("2021-02-01..2021-02-28", {"taken_at": "2021-02"}, True),
        ("2020-02-01..2020-02-28", {"taken_at": "2020-02"}, False),
        ("2021-01..2021-12", {"taken_at": "2021"}, True),
        ("2021-01-01..2021-12-31", {"taken_at": "2021"}, True),
        ("2021-01-02..2021-12-31", {"taken_at": "2021"}, False),
        ("2021-05-03T00..2021-05-03T23", {"taken_at": "2021-05-03"}, True),
        ("2021-05-03T00:00..2021-05-03T23:58", {"taken_at": "2021-05-03"}, False),
        ("..2021-05-03", {"taken_at": "2021-05"}, False),
        ("2021-05-03T14", {"taken_at": "2021-05-03T14:59:59.9"}, True),
        ("2021-05-03T14", {"taken_at": "2021-05-03T15:00:00"}, False),
        ("2021-05-03 14:02..2021-05-03 14:03", {"taken_at": "2021-05-03T14:03:59"}, True),
        ("2021-05-03T14:02:11", {"taken_at": "2021-05-03T14:02:11.9"}, True),
        ("2021-05-03T14:02:11", {"taken_at": "2021-05-03"}, False),
        # In UTC: the zone of the place, or else that of the machine, which is New York's here.
        ("2021-05-03", {"taken_at": "2021-05-03T01:00:00", "taken_offset": 0, "taken_source": "exif"}, True),
        ("2021-05-03", {"taken_at": "2021-05-03T01:00:00", "taken_offset": 0, "taken_source": "gps"}, False),
        ("2021-05-02", {"taken_at": "2021-05-03T01:00:00", "taken_offset": 0, "taken_source": "gps"}, True),
        ("2021-05-02", {"taken_at": "2021-05-02T22:30:00", "taken_source": "gps", "place": PARIS}, False),
        ("2021-05-03", {"taken_at": "2021-05-02T22:30:00", "taken_source": "gps", "place": PARIS}, True),
        ("2021-05-03", {"taken_at": "2021-05-02T14:00:00.5", "taken_source": "gps", "place": SYDNEY}, True),
        ("2021", {"taken_at": "2020-12-31T23:30:00", "taken_source": "gps", "place": PARIS}, True),
        ("2021-12", {"taken_at": "2021-12-31T23:30:00", "taken_source": "gps", "place": PARIS}, False),
        ("2022..", {"taken_at": "2021-12-31T23:30:00", "taken_source": "gps", "place": PARIS}, True),
        ("..2021", {"taken_at": "2021-12-31T23:30:00", "taken_source": "gps", "place": PARIS}, False),
        ("2021-06-01T00..", {"taken_at": "2021-05-31T22:30:00", "taken_source": "gps", "place": PARIS}, True),
        ("9999", {"taken_at": "9999-12-31T23:59:59", "taken_source": "gps", "place": SYDNEY}, True),
        ("2021-05-03", {"taken_at": "2021-05-03", "taken_source": "gps", "place": SYDNEY}, True),
    ],
)
def test_taken_includes_both_ends_in_local_time(
    chosen: str, facts: dict[str, Any], is_inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lat, lon = facts.pop("place", (None, None))
    made = replace(random_content(random.Random(0), 0), files=(("/p/x.jpg", "present"),), known=(NOTHING,))
    made = replace(made, facts=ImageFacts("JPEG", 1, 1, lat=lat, lon=lon, **facts))
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    catalog, _ = build(tmp_path / "library", [made], "none", 0)
    try:
        row = catalog.encoders()[0]
        assert len(filters.matching(catalog, row.id, Filter(taken=parse_taken(chosen)))) == is_inside
    finally:
        catalog.close()
        monkeypatch.undo()
        time.tzset()


def test_a_glob_finds_names_in_either_form_of_unicode(tmp_path: Path) -> None:
    one, two = "/p/Gro\u0308ße/x.jpg", "/p/Größe/y.jpg"
    made = replace(random_content(random.Random(0), 0), files=((one, "present"),), known=(NOTHING,))
    catalog, _ = build(tmp_path / "library", [made, replace(made, files=((two, "present"),))], "none", 0)
    row = catalog.encoders()[0]
    for glob in ("/p/Größe/*", "/p/Gro\u0308ße/*", "/p/Gr*/*.jpg", "*/Größe/*"):
        assert len(filters.matching(catalog, row.id, Filter(within=(os.fsencode(glob),)))) == 2, glob
    catalog.close()


@pytest.mark.parametrize(
    ("text", "same", "other"),
    [
        ("ZOË", ["zoe", "Zoë", "zoe\u0308"], ["zo", "zoey"]),
        ("straße", ["STRASSE", "Strasse"], ["strase"]),
        ("Ångström", ["angstrom"], []),
        ("istanbul", ["İstanbul", "ISTANBUL"], []),
        ("がく", ["がく"], ["かく"]),
        ("가", ["가"], ["각"]),
        ("ёлка", ["елка", "ЁЛКА"], []),
        ("ﬁn", ["FIN"], []),
    ],
)
def test_words_are_the_same_whatever_their_case_and_accents(text: str, same: list[str], other: list[str]) -> None:
    assert {functions.folded(word) for word in same} == {functions.folded(text)}
    assert functions.folded(text) not in map(functions.folded, other)


def test_ratings_and_words_have_their_forms() -> None:
    assert [parse_rating(text) for text in ("4", "4..5", "4..", "..2", "-1", "-1..0")] == [
        *((4, 4), (4, 5), (4, 5), (-1, 2), (-1, -1), (-1, 0)),
    ]
    for wrong in ({"tags": ("a", " ")}, {"caption": ""}, {"name": "\t"}, {"rating": (0, 6)}, {"rating": (3, 2)}):
        with pytest.raises(UsageError, match=f"`{next(iter(wrong))}`"):
            Filter(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="UTF-8"):
        Filter(tags=("\udcff",))


@pytest.mark.parametrize(
    "chosen",
    [Filter(within=(b"/p/a",)), Filter(within=(b"/p/a",), rating=(-1, 5)), Filter(within=(b"/p/a/*.jpg",), name="1")],
)
def test_a_small_folder_costs_the_same_in_a_library_four_times_as_large(chosen: Filter, tmp_path: Path) -> None:
    made = [random_content(random.Random(number), number) for number in range(4000)]
    made = [
        replace(each, files=((f"/p/{'a' if n < 20 else 'b'}/{n}.jpg", "present"),), known=(NOTHING,))
        for n, each in enumerate(made)
    ]
    steps = []
    for count in (1000, 4000):
        catalog, _ = build(tmp_path / str(count), made[:count], "none", 0)
        calls: list[None] = []
        catalog.conn.set_progress_handler(lambda calls=calls: calls.append(None), 10)  # type: ignore[misc]
        assert len(filters.matching(catalog, catalog.encoders()[0].id, chosen)) == (11 if chosen.name else 20)
        steps.append(len(calls))
        catalog.close()
    assert steps[1] < 1.5 * steps[0], steps


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
        *((parse_rating, text) for text in ("7", "5..1", "-2", "4.5", "4...5", "..", "many")),
        (parse_taken, "2021-05-03T25"),
        (parse_taken, "2021-05-03 14:02:61"),
        (parse_since, "soon"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(parse: object, text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(text)) as caught:
        parse(text)  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_distances_are_those_of_the_globe() -> None:
    assert functions.distance_km(48.8566, 2.3522, 51.5074, -0.1278) == pytest.approx(343.6, abs=1)  # Paris, London
    assert functions.distance_km(0, 179.9, 0, -179.9) == pytest.approx(22.2, abs=0.1)  # across the date line
    assert functions.distance_km(None, None, 0, 0) is None
