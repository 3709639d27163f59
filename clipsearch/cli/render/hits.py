"""Results of `query` and `show` as CSV and text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipsearch.cli import output
from clipsearch.cli.render.shared import csv_text, message
from clipsearch.cli.render.tables import bar, short_path, table
from clipsearch.display.text import date_text, day_text, from_source, part_of, place_text, size, stars
from clipsearch.export.json import hit_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clipsearch.image_facts import ImageFacts
    from clipsearch.library.results import Shown
    from clipsearch.types import QueryResult


def query_text(result: QueryResult) -> str:
    rows = []
    for hit in result.hits:
        more = f"  (+{len(hit.paths) - 1} more)" if len(hit.paths) > 1 else ""
        if hit.also:
            more += f"  (+ {', '.join(each.format or '?' for each in hit.also)})"
        away = "  (unreadable)" if hit.unreadable else "  (offline)" if hit.offline else ""
        mark = away or "  (truncated)" * (hit.state == "partial")
        if hit.box is not None:
            mark = f"  (part {part_of(hit.box)}){mark}"
        pixels = f"{hit.width}×{hit.height}" if hit.width and hit.height else "–"
        taken = day_text(hit.taken_at, hit.taken_offset, hit.taken_source)
        sure = "" if hit.relevance is None else bar(hit.relevance)
        texts = taken, pixels, size(hit.bytes), short_path(hit.path) + more + mark
        rows.append([sure, f"{hit.score:.3f}", *map(output.printable, texts)])
    if not rows:
        return ""
    # The path is last, where it is never cut off: people copy it.
    head = ("strength", "score", "taken", "pixels", "size", "path")
    known = any(hit.relevance is not None for hit in result.hits), any(hit.taken_at for hit in result.hits)
    shown = [*([0] if known[0] else []), 1, *([2] if known[1] else []), 3, 4, 5]
    return table([head[i] for i in shown], [[row[i] for i in shown] for row in rows], right="score pixels size")


CSV_COLUMNS = (
    *("rank", "score", "relevance", "id", "path", "taken_at", "format", "width", "height", "bytes", "state"),
    *("part", "taken_offset", "taken_source", "lat", "lon", "place_source", "caption", "keywords", "rating"),
)


def query_csv(result: QueryResult) -> str:
    """A header, then one line per hit; bytes of names that are not UTF-8 become U+FFFD, as in JSON."""
    rows: list[list[object]] = [[*CSV_COLUMNS]]
    for rank, hit in enumerate(result.hits, 1):
        part = None if hit.box is None else part_of(hit.box)
        values = {"rank": rank, **hit_json(hit), "part": part, "keywords": "; ".join(hit.keywords) or None}
        rows.append([values[name] for name in CSV_COLUMNS])
    return csv_text(rows, end="\r\n")


def show_text(shown: Shown) -> str:
    """Everything known about an image, one line per fact."""
    facts = shown.facts
    lines = [("id", str(shown.id)), ("state", shown.state + (f": {message(shown.reason)}" if shown.reason else ""))]
    lines += [("file" if state == "present" else f"file ({state})", short_path(path)) for path, state in shown.files]
    lines.append(("size", size(shown.bytes)))
    if facts is not None:
        lines.append(("picture", f"{facts.format}, {facts.width}×{facts.height}"))
        lines += _facts_text(facts, shown.sources)
        lines += [(name, str(value)) for name, value in facts.exif.items()]
    lines += [
        ("vector", f"{spec}, view {view}" + (f", part {part_of(box)}" if box else ""))
        for spec, view, box in shown.views
    ]
    lines += [("indexed", shown.added_at), ("SHA-256", shown.digest)]
    lines += [("nearest", f"{hit.score:.3f}  {short_path(hit.path)}") for hit in shown.neighbours]
    width = max(len(name) for name, _ in lines)
    return "".join(f"{name:<{width}}  {output.printable(value)}\n" for name, value in lines)


def _facts_text(facts: ImageFacts, sources: Mapping[str, str]) -> list[tuple[str, str]]:
    taken = facts.taken_at and date_text(facts.taken_at, facts.taken_offset, facts.taken_source)
    place = place_text(facts.lat, facts.lon)
    rating = None if facts.rating is None else stars(facts.rating)
    values = {"taken": taken, "camera": facts.camera, "place": place, "caption": facts.caption}
    values |= {"keywords": ", ".join(facts.keywords), "rating": rating}
    return [(name, value + from_source(sources.get(name))) for name, value in values.items() if value]
