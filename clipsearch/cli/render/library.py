"""Results of `info`, `models`, `doctor` and `prune` as text, and but for `info` as JSON."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from clipsearch.cli import output
from clipsearch.cli.render.runs import spec_text
from clipsearch.cli.render.shared import message
from clipsearch.cli.render.tables import counted, short_path, table
from clipsearch.display.text import size
from clipsearch.export.json import SCHEMA_VERSION, clean, fields, problems_json
from clipsearch.export.json_reports import SCAN

if TYPE_CHECKING:
    from clipsearch.encoders.known import KnownModel
    from clipsearch.indexing.rules import ScanOptions
    from clipsearch.library.results import Finding, LibraryInfo, ListedFile, Pruned


SHOWN_ROOTS = 20

RUN_COUNTS = (
    *("indexed", "unchanged", "moved", "copied", "restored", "missing", "offline", "excluded", "unsupported"),
    *("placeholders", "failed", "failed_before", "partial", "changing"),
)
"""Counts of the last run that `info` shows, where they are not zero."""

TILES = {"auto": "auto: parts of panoramas have vectors too", "all": "all: parts of pictures have vectors too"}


def _scan_text(options: ScanOptions) -> str:
    """What is in force in a root, as the options of `index` would put it."""
    switches = {name: getattr(options, name) for name in SCAN.split()[:-1]}
    parts = [f"--{'' if on else 'no-'}{name.replace('_', '-')}" for name, on in switches.items()]
    parts += [f"--exclude {output.printable(shlex.quote(pattern))}" for pattern in options.exclude]
    older = options.exclude and options.exclude_style == "fnmatch"
    return " ".join(parts) + (" (as in earlier versions: * also matches slashes)" if older else "")


def info_text(info: LibraryInfo) -> str:
    from clipsearch.library.int8 import Agreement

    rows = [
        ("library", f"{short_path(info.path)} ({size(info.catalog_bytes)} catalog)"),
        ("pictures", _states(info.contents)),
        ("files", _states(info.files)),
    ]
    for status in info.encoders:
        role = {"answering": "active", "filling": "being built", "kept": "inactive; `prune --encoder` removes it"}
        rows.append(("model", f"{spec_text(status.info.spec)}: {role[status.role]}"))
        owed = f", pending for {counted(status.owed, 'picture')}" if status.owed else ""
        rows.append(("", f"{counted(status.vectors, 'vector')} of {status.info.dim} dimensions{owed}"))
        rows.append(("", f"fingerprint {status.info.fingerprint[:16]}"))
        if agreement := status.info.details.get("agreement"):
            rows.append(("", f"images in 8 bits; {Agreement(**agreement)}"))
        rows.append(("", _engine(status.engine, status.snapshot_bytes, status.tail, status.snapshot_details)))
    if info.tiles != "none":
        rows.append(("tiles", TILES[info.tiles]))
    if info.fallback:
        rows.append(("", f"chosen because {message(info.fallback)}"))
        rows.append(("", "`clipsearch index --model default` switches to CLIP"))
    for root in info.roots[:SHOWN_ROOTS]:
        rows.append(("root", short_path(root)))
        if options := info.scans.get(root):
            rows.append(("", _scan_text(options)))
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
    newer = f", plus {tail:,} newer vectors" if tail else ""
    return f"engine {engine}{f' ({known})' if known else ''}, snapshot {size(snapshot_bytes)}{newer}"


def _states(counts: Any) -> str:  # noqa: ANN401 - a mapping of numbers
    return ", ".join(f"{count:,} {state}" for state, count in counts.items()) or "none"


MODEL = "spec dim pixels megabytes accuracy licence cached note"


def models_json(models: Sequence[KnownModel]) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "models": [fields(model, MODEL) for model in models]}


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
    return "".join(f"{short_path(file.path)}{f': {message(file.reason)}' if file.reason else ''}\n" for file in files)


def findings_text(findings: Sequence[Finding]) -> str:
    """One line per finding, with its advice below."""
    styles = {"ok": output.DIM, "note": output.YELLOW, "problem": output.RED}
    lines = []
    for finding in findings:
        mark = output.styled(f"{finding.level:<8}", styles[finding.level], sys.stdout)
        lines.append(f"{mark}{message(finding.text)}")
        if finding.advice:
            lines.append(f"{'':8}→ {message(finding.advice)}")
    return "".join(f"{line}\n" for line in lines)


def findings_json(findings: Sequence[Finding]) -> dict[str, Any]:
    found = [{"level": f.level, "text": clean(f.text), "advice": clean(f.advice)} for f in findings]
    return {"schema_version": SCHEMA_VERSION, "findings": found}


def pruned_json(pruned: Pruned) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, **fields(pruned, "files contents vectors encoder cache")}
