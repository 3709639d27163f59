"""The report of an `index` run as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipsearch.cli import output
from clipsearch.cli.render.shared import NOT_CLIP, SHOWN_PROBLEMS, message
from clipsearch.cli.render.tables import counted, duration, short_path

if TYPE_CHECKING:
    from clipsearch.indexing.results import IndexReport, LeftOut, Problem

UNREACHABLE = {
    "gone": "does not exist (moved? `clipsearch reroot OLD NEW`; deleted? `clipsearch forget OLD`)",
    "empty": "is empty, as if its drive were not mounted",
    "unmounted": "is not mounted (mounted elsewhere? `clipsearch reroot OLD NEW`)",
}

IGNORED = {
    "video": "video",
    "audio": "audio file",
    "pdf": "PDF",
    "photoshop": "Photoshop file",
    "drawing": "vector drawing",
    "sidecar": "sidecar file",
    "archive": "archive",
    "unreadable": "unreadable file",
    "other": "other file",
}
"""What the kinds of ignored files are called."""

LEFT_OUT = {
    "trash": "of trash",
    "previews": "of previews",
    "system": "of the system",
    "apple_double": "of macOS metadata",
    "ignore_file": "by .nomedia and similar files",
    "exclude": "by --exclude",
}
"""What the reasons to leave out folders and files are called."""


def index_text(report: IndexReport) -> str:
    """A short report: counts that are not zero, what failed and why, and where the library is."""
    verb = "would read" if report.dry_run else "indexed"
    rate = f" ({report.pictures / report.seconds:.1f} images/s)" if report.pictures and report.seconds else ""
    took = f" in {duration(report.seconds)}{rate}" if not report.dry_run else ""
    lines = [f"{verb} {counted(report.indexed, 'file')}{took}"]
    with_tiles = report.encoded != report.pictures or report.deleted > 0
    for count, text in (
        (report.unchanged, "unchanged"),
        (report.moved, "moved"),
        (report.copied, "duplicates of pictures already in the library"),
        (report.restored, "restored: available again, unchanged"),
        (report.missing, "missing: deleted since the last run, removed from results"),
        (report.offline, "offline: unreachable now, kept in results"),
        (report.excluded, "excluded by the scan options, removed from results"),
        *((files, f"not indexed: {message(why)}") for why, files in report.unsupported_reasons.items()),
        (report.failed_before, "failed earlier and unchanged since; not retried"),
        (report.encoded * with_tiles, "vectors computed, of whole pictures and of parts"),
        (report.corrected, "corrected: earlier versions decoded them wrongly; encoded again"),
        (report.reread, "unchanged, with metadata to read again; not encoded again"),
        (report.facts, "unchanged, with dates, places or captions to read from other sidecars or names"),
        (report.deleted, "vectors of parts deleted"),
    ):
        if count:
            lines.append(f"  {count:>7,}  {text}")
    for problems, text in (
        (report.placeholders, "placeholder files, not indexed until a cloud client has fetched their content"),
        (report.partial, "partially indexed (truncated files)"),
        (report.changing, "changed while they were read; left for the next run"),
        (report.failed, "failed"),
    ):
        if problems:
            lines.append(f"  {len(problems):>7,}  {text}:")
            lines += _listed(problems)
    lines += _unreachable(report)
    lines += _skipped(report)
    if report.switched and report.model:
        lines.append(f"{report.model.spec} is now the active model")
    elif report.filling:
        lines.append(f"{report.filling} is being built: {counted(report.filling_left, 'picture')} pending")
    if report.model:
        lines.append(f"library: {short_path(report.library)}, {spec_text(report.model.spec)}")
    return "\n".join(lines) + "\n"


def _unreachable(report: IndexReport) -> list[str]:
    """Lines about the folders whose files are offline."""
    folders = report.unreachable
    lines = [f"{short_path(folder.path)} {UNREACHABLE[folder.why]}" for folder in folders[:SHOWN_PROBLEMS]]
    if len(folders) > SHOWN_PROBLEMS:
        lines.append(f"… nor can {counted(len(folders) - SHOWN_PROBLEMS, 'other folder')} be reached; --json lists all")
    return lines


def _skipped(report: IndexReport) -> list[str]:
    """Lines about files that are not images, and about folders without any image."""
    found = {noun: report.ignored[kind] for kind, noun in IGNORED.items() if report.ignored[kind]}
    beside = found.pop(IGNORED["sidecar"], 0)
    ignored = ", ".join(counted(count, noun) for noun, count in found.items())
    lines = [f"{counted(beside, IGNORED['sidecar'])} beside the pictures"] if beside else []
    lines += [f"{ignored} ignored"] if ignored else []
    left_out = ", ".join(filter(None, (_left_out(noun, report.left_out.get(why)) for why, noun in LEFT_OUT.items())))
    lines += [f"left out: {left_out}"] if left_out else []
    folders = report.without_images
    lines += [f"no images in {short_path(folder)}" for folder in folders[:SHOWN_PROBLEMS]]
    if len(folders) > SHOWN_PROBLEMS:
        lines.append(f"… nor in {counted(len(folders) - SHOWN_PROBLEMS, 'other folder')}; --json lists them all")
    return lines


def _left_out(noun: str, count: LeftOut | None) -> str:
    """How much was left out for one reason: "2 folders and 1 file of trash"."""
    if count is None or not any(count):
        return ""
    parts = [counted(number, unit) for number, unit in zip(count, ("folder", "file"), strict=True) if number]
    return f"{' and '.join(parts)} {noun}"


def _listed(problems: Sequence[Problem]) -> list[str]:
    lines = [f"           {short_path(p.path)}: {message(p.reason)}" for p in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"           … and {len(problems) - SHOWN_PROBLEMS:,} more; --json lists them all")
    return lines


def spec_text(spec: str) -> str:
    return NOT_CLIP if spec == "builtin" else output.printable(spec)
