"""Results as JSON objects and as text for people."""

from __future__ import annotations

import binascii
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from clipsearch.cli import output
from clipsearch.cli.tables import bar, counted, duration, short_path, size, table
from clipsearch.showing.wording import part_of

if TYPE_CHECKING:
    from clipsearch.reports import (
        Finding,
        IndexReport,
        KnownModel,
        LibraryInfo,
        ListedFile,
        Problem,
        Shown,
    )
    from clipsearch.types import Hit, QueryResult

SCHEMA_VERSION = 1
"""Goes up when a key of the JSON output changes its meaning or goes away; new keys may come at any time."""

SHOWN_PROBLEMS = 10

SHOWN_ROOTS = 20

RUN_COUNTS = (
    *("indexed", "unchanged", "moved", "copied", "restored", "missing", "offline", "excluded", "unsupported"),
    *("failed", "failed_before", "partial", "changing"),
)
"""What `info` says of the last run, where it is not zero."""

TILES = {"auto": "auto: parts of panoramas have vectors too", "all": "all: parts of pictures have vectors too"}

NOT_CLIP = "builtin (works offline; not CLIP)"


def path_keys(path: str, *, name: str = "path") -> dict[str, str]:
    """A path for JSON: readable, and where that loses bytes, those in base64 too."""
    readable = os.fsencode(path).decode("utf-8", "replace")
    if readable == path:
        return {name: path}
    return {name: readable, f"{name}_b64": _base64(path)}


def _base64(path: str) -> str:
    return binascii.b2a_base64(os.fsencode(path), newline=False).decode("ascii")


def _problems(problems: Iterable[Problem | ListedFile]) -> list[dict[str, Any]]:
    return [{**path_keys(p.path), "reason": clean(p.reason)} for p in problems]


def clean(text: str | None) -> str | None:
    """Text for JSON, which has no way to write lone surrogates."""
    return None if text is None else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


# index


def index_json(report: IndexReport) -> dict[str, Any]:
    value: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **path_keys(report.library, name="library")}
    value["model"] = report.model.spec if report.model else None
    for key, item in asdict(report).items():
        if key not in ("library", "model", "notices"):
            value[key] = item
    for key in ("failed", "changing", "partial"):
        value[key] = _problems(getattr(report, key))
    value["notices"] = [clean(text) for text in report.notices]
    return value


def index_text(report: IndexReport) -> str:
    """A short report: counts that are not zero, what failed and why, and where the library is."""
    verb = "would read" if report.dry_run else "indexed"
    rate = f" ({report.pictures / report.seconds:.1f} images/s)" if report.pictures and report.seconds else ""
    took = f" in {duration(report.seconds)}{rate}" if not report.dry_run else ""
    lines = [f"{verb} {counted(report.indexed, 'file')}{took}"]
    for count, text in (
        (report.unchanged, "unchanged"),
        (report.moved, "moved"),
        (report.copied, "copied: the same picture is there already"),
        (report.restored, "restored: back as they were"),
        (report.missing, "missing: gone since the last run, no hits any more"),
        (
            report.offline,
            "offline: not there now, still hits (moved? clipsearch reroot OLD NEW; gone? clipsearch forget OLD)",
        ),
        (report.excluded, "excluded by the scan options, no hits any more"),
        (report.unsupported, "unsupported formats"),
        (report.failed_before, "failed before, and are not due again"),
    ):
        if count:
            lines.append(f"  {count:>7,}  {text}")
    if report.encoded != report.pictures or report.deleted:
        for count, text in (
            (report.encoded, "vectors made, of whole pictures and of their parts"),
            (report.deleted, "vectors of parts deleted"),
        ):
            if count:
                lines.append(f"  {count:>7,}  {text}")
    for problems, text in (
        (report.partial, "indexed in part: they end early"),
        (report.changing, "changed while they were read, left for the next run"),
        (report.failed, "failed"),
    ):
        if problems:
            lines.append(f"  {len(problems):>7,}  {text}:")
            lines += _listed(problems)
    if report.switched and report.model:
        lines.append(f"{report.model.spec} answers queries from now on")
    elif report.filling:
        lines.append(f"{report.filling} still lacks {counted(report.filling_left, 'picture')}")
    if report.model:
        lines.append(f"library: {short_path(report.library)}, {_spec(report.model.spec)}")
    return "\n".join(lines) + "\n"


def _listed(problems: Sequence[Problem]) -> list[str]:
    lines = [f"           {short_path(p.path)}: {output.printable(p.reason)}" for p in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"           … and {len(problems) - SHOWN_PROBLEMS:,} more; --json lists them all")
    return lines


def _spec(spec: str) -> str:
    return NOT_CLIP if spec == "builtin" else output.printable(spec)


# query


def hit_json(hit: Hit) -> dict[str, Any]:
    value: dict[str, Any] = {"id": hit.id, **path_keys(hit.path)}
    value["paths"] = [path_keys(path)["path"] for path in hit.paths]
    if any("path_b64" in path_keys(path) for path in hit.paths):
        value["paths_b64"] = [_base64(path) for path in hit.paths]
    for key, item in asdict(hit).items():
        value.setdefault(key, item)
    return value


def query_json(result: QueryResult) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "query": clean(result.query),
        "model": result.model.spec,
        "is_clip": result.model.is_clip,
        "score_kind": result.kind,
        "hits": [hit_json(hit) for hit in result.hits],
        "notices": [clean(text) for text in result.notices],
    }


def query_text(result: QueryResult) -> str:
    rows = []
    for hit in result.hits:
        more = f"  (+{len(hit.paths) - 1} more)" if len(hit.paths) > 1 else ""
        mark = "  (offline)" if hit.offline else "  (ends early)" if hit.state == "partial" else ""
        if hit.box is not None:
            mark = f"  (its part {part_of(hit.box)}){mark}"
        pixels = f"{hit.width}×{hit.height}" if hit.width and hit.height else "–"
        taken = (hit.taken_at or "–")[:10]
        sure = "" if hit.relevance is None else bar(hit.relevance)
        rows.append([sure, f"{hit.score:.3f}", taken, pixels, size(hit.bytes), short_path(hit.path) + more + mark])
    if not rows:
        return ""
    # The path stands last, where nothing has to be cut off: it is there to be copied.
    head = ("sure", "score", "taken", "pixels", "size", "path")
    known = any(hit.relevance is not None for hit in result.hits), any(hit.taken_at for hit in result.hits)
    shown = [*([0] if known[0] else []), 1, *([2] if known[1] else []), 3, 4, 5]
    return table([head[i] for i in shown], [[row[i] for i in shown] for row in rows], right="score pixels size")


CSV_COLUMNS = (
    *("rank", "score", "relevance", "id", "path", "taken_at", "format", "width", "height", "bytes", "state"),
    "part",
)


def query_csv(result: QueryResult) -> str:
    """A head, then a line a hit; bytes of names that are not UTF-8 become U+FFFD, as in JSON."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(CSV_COLUMNS)
    for rank, hit in enumerate(result.hits, 1):
        part = None if hit.box is None else part_of(hit.box)
        values = {"rank": rank, **asdict(hit), "path": path_keys(hit.path)["path"], "part": part}
        writer.writerow(["" if values[name] is None else values[name] for name in CSV_COLUMNS])
    return text.getvalue()


def show_json(shown: Shown) -> dict[str, Any]:
    value: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **asdict(shown)}
    value["files"] = [{**path_keys(path), "state": state} for path, state in shown.files]
    value["views"] = [{"model": spec, "view": view, "box": box} for spec, view, box in shown.views]
    value["neighbours"] = [hit_json(hit) for hit in shown.neighbours]
    return value


def show_text(shown: Shown) -> str:
    """Everything known of a picture, a line a fact."""
    facts = shown.facts
    lines = [("id", str(shown.id)), ("state", shown.state + (f": {shown.reason}" if shown.reason else ""))]
    lines += [("file" if state == "present" else f"file ({state})", short_path(path)) for path, state in shown.files]
    lines.append(("size", size(shown.bytes)))
    if facts is not None:
        lines.append(("picture", f"{facts.format}, {facts.width}×{facts.height}"))
        place = f"{facts.lat:.5f}, {facts.lon:.5f}" if facts.lat is not None and facts.lon is not None else None
        zone = "" if facts.taken_offset is None else f" (UTC{facts.taken_offset / 60:+g} h)"
        taken = f"{facts.taken_at}{zone}" if facts.taken_at else None
        lines += [(n, v) for n, v in (("taken", taken), ("camera", facts.camera), ("place", place)) if v]
        lines += [(name, str(value)) for name, value in facts.exif.items()]
    lines += [
        ("vector", f"{spec}, view {view}" + (f", its part {part_of(box)}" if box else ""))
        for spec, view, box in shown.views
    ]
    lines += [("indexed", shown.added_at), ("SHA-256", shown.digest)]
    lines += [("near it", f"{hit.score:.3f}  {short_path(hit.path)}") for hit in shown.neighbours]
    width = max(len(name) for name, _ in lines)
    return "".join(f"{name:<{width}}  {output.printable(value)}\n" for name, value in lines)


# info and models


def info_json(info: LibraryInfo) -> dict[str, Any]:
    value: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "catalog_version": info.schema_version}
    value |= path_keys(info.path)
    for key, item in asdict(info).items():
        value.setdefault(key, item)
    value["roots"] = [path_keys(root) for root in info.roots]
    for status in value["encoders"]:
        status["info"]["details"].pop("int8", None)  # hundreds of numbers that nobody reads
    return value


def info_text(info: LibraryInfo) -> str:
    from clipsearch.precision import Agreement

    rows = [
        ("library", f"{short_path(info.path)} ({size(info.catalog_bytes)} catalog)"),
        ("pictures", _states(info.contents)),
        ("files", _states(info.files)),
    ]
    for status in info.encoders:
        role = {"answering": "answers", "filling": "is being filled", "kept": "kept; prune --encoder drops it"}
        rows.append(("model", f"{_spec(status.info.spec)}: {role[status.role]}"))
        lacks = "without one" if info.tiles == "none" else "without all of theirs"
        owed = f", {status.owed:,} pictures {lacks}" if status.owed else ""
        rows.append(("", f"{counted(status.vectors, 'vector')} of {status.info.dim} numbers{owed}"))
        rows.append(("", f"fingerprint {status.info.fingerprint[:16]}"))
        if agreement := status.info.details.get("agreement"):
            rows.append(("", f"pictures in 8 bits; {Agreement(**agreement)}"))
        rows.append(("", _engine(status.engine, status.snapshot_bytes, status.tail, status.snapshot_details)))
    if info.tiles != "none":
        rows.append(("tiles", TILES[info.tiles]))
    if info.fallback:
        rows.append(("", f"chosen because {output.printable(info.fallback)}"))
        rows.append(("", "clipsearch index --model default changes to CLIP"))
    rows += [("root", short_path(root)) for root in info.roots[:SHOWN_ROOTS]]
    if len(info.roots) > SHOWN_ROOTS:
        rows.append(
            ("", f"… and {len(info.roots) - SHOWN_ROOTS:,} more folders and single files; --json lists them all")
        )
    if info.last_run:
        run = info.last_run
        counts = ", ".join(f"{run[key]:,} {key}" for key in RUN_COUNTS if run.get(key))
        rows.append(("last run", f"{run['finished_at']}: {counts or 'nothing new'}"))
    return "".join(f"{name:<10}{text}\n" for name, text in rows)


def _engine(engine: str, snapshot_bytes: int, tail: int, details: Any) -> str:  # noqa: ANN401 - JSON
    if engine == "none":
        return "no snapshot yet"
    known = ", ".join(f"{key} {details[key]}" for key in ("nlist", "nprobe", "recall") if key in details)
    newer = f", {tail:,} newer vectors beside it" if tail else ""
    return f"engine {engine}{f' ({known})' if known else ''}, snapshot {size(snapshot_bytes)}{newer}"


def _states(counts: Any) -> str:  # noqa: ANN401 - a mapping of numbers
    return ", ".join(f"{count:,} {state}" for state, count in counts.items()) or "none"


def models_json(models: Sequence[KnownModel]) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "models": [asdict(model) for model in models]}


def models_text(models: Sequence[KnownModel]) -> str:
    rows = [
        [
            model.spec,
            str(model.dim),
            str(model.pixels),
            size(model.megabytes * 10**6) if model.megabytes else "–",
            f"{100 * model.accuracy:.1f} %" if model.accuracy is not None else "–",
            model.licence,
            "yes" if model.cached else "no",
            model.note,
        ]
        for model in models
    ]
    head = ("model", "dim", "pixels", "download", "ImageNet", "licence", "cached", "note")
    return table(head, rows, right="dim pixels download ImageNet")


def files_json(state: str, files: Sequence[ListedFile]) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "state": state, "files": _problems(files)}


def files_text(files: Sequence[ListedFile]) -> str:
    return "".join(
        f"{short_path(file.path)}{f': {output.printable(file.reason)}' if file.reason else ''}\n" for file in files
    )


def findings_text(findings: Sequence[Finding]) -> str:
    """A line for each finding, its advice below it."""
    styles = {"ok": output.DIM, "note": output.YELLOW, "problem": output.RED}
    lines = []
    for finding in findings:
        mark = output.styled(f"{finding.level:<8}", styles[finding.level], sys.stdout)
        lines.append(f"{mark}{output.printable(finding.text)}")
        if finding.advice:
            lines.append(f"{'':8}→ {output.printable(finding.advice)}")
    return "".join(f"{line}\n" for line in lines)
