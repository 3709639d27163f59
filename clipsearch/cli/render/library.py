"""What a library holds, models and findings, as JSON and text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from clipsearch.cli import output
from clipsearch.cli.render.runs import spec_text
from clipsearch.cli.render.shared import SCHEMA_VERSION, path_keys, problems_json
from clipsearch.cli.render.tables import counted, short_path, table
from clipsearch.display.text import size

if TYPE_CHECKING:
    from clipsearch.encoders.known import KnownModel
    from clipsearch.library.results import Finding, LibraryInfo, ListedFile


SHOWN_ROOTS = 20

RUN_COUNTS = (
    *("indexed", "unchanged", "moved", "copied", "restored", "missing", "offline", "excluded", "unsupported"),
    *("failed", "failed_before", "partial", "changing"),
)
"""What `info` says of the last run, where it is not zero."""

TILES = {"auto": "auto: parts of panoramas have vectors too", "all": "all: parts of pictures have vectors too"}


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
    from clipsearch.library.int8 import Agreement

    rows = [
        ("library", f"{short_path(info.path)} ({size(info.catalog_bytes)} catalog)"),
        ("pictures", _states(info.contents)),
        ("files", _states(info.files)),
    ]
    for status in info.encoders:
        role = {"answering": "answers", "filling": "is being filled", "kept": "kept; prune --encoder drops it"}
        rows.append(("model", f"{spec_text(status.info.spec)}: {role[status.role]}"))
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
    return {"schema_version": SCHEMA_VERSION, "state": state, "files": problems_json(files)}


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
