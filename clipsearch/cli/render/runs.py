"""What an index run did, as JSON and text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from clipsearch.cli import output
from clipsearch.cli.render.shared import NOT_CLIP, SCHEMA_VERSION, SHOWN_PROBLEMS, clean, path_keys, problems_json
from clipsearch.cli.render.tables import counted, duration, short_path

if TYPE_CHECKING:
    from clipsearch.indexing.results import IndexReport
    from clipsearch.types import Problem


def index_json(report: IndexReport) -> dict[str, Any]:
    value: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **path_keys(report.library, name="library")}
    value["model"] = report.model.spec if report.model else None
    for key, item in asdict(report).items():
        if key not in ("library", "model", "notices"):
            value[key] = item
    for key in ("failed", "changing", "partial"):
        value[key] = problems_json(getattr(report, key))
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
        lines.append(f"library: {short_path(report.library)}, {spec_text(report.model.spec)}")
    return "\n".join(lines) + "\n"


def _listed(problems: Sequence[Problem]) -> list[str]:
    lines = [f"           {short_path(p.path)}: {output.printable(p.reason)}" for p in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"           … and {len(problems) - SHOWN_PROBLEMS:,} more; --json lists them all")
    return lines


def spec_text(spec: str) -> str:
    return NOT_CLIP if spec == "builtin" else output.printable(spec)
