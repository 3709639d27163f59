"""What a run leaves: figures as JSON, a table in Markdown, and the part of docs/benchmarks.md that holds both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.plot import draw
from benchmarks.results import Row

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
NAME = "benchmarks"
INFORMATION = ("loops",)
"""Rows that have no target."""
MARKS = {True: "yes", False: "**no**", None: "–"}


@dataclass(frozen=True, slots=True)
class Report:
    """One run. `machine` is what `machine.facts` and `machine.measure` gave."""

    date: str
    seconds: float
    quick: bool
    machine: Mapping[str, Any]
    rows: Sequence[Row]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "date": self.date,
            "seconds": round(self.seconds, 1),
            "quick": self.quick,
            "machine": dict(self.machine),
            "rows": [row.to_json() for row in self.rows],
        }

    def to_markdown(self) -> str:
        """The machine in a few lines, then the table; what is only for information stands in a second one."""
        aimed = [row for row in self.rows if row.name not in INFORMATION]
        others = [row for row in self.rows if row.name in INFORMATION]
        parts = [self._head(), _table(aimed)]
        if others:
            parts += ["For information, without a target:", _table(others)]
        return "\n\n".join(parts) + "\n"

    def _head(self) -> str:
        about = self.machine
        lines = [
            f"Measured on {self.date} in one run of {self.seconds / 60:.0f} minutes: {about['processor']}, "
            f"{about['cores']} cores, {about['instructions']}, {about['memory_gib']:.0f} GiB; {about['system']}, "
            f"Python {about['python']}. Weights: {about['weights']}; pictures: {about['pictures']}."
        ]
        if "gemm_gflops" in about:
            products = ", ".join(f"{name} {value:.0f}" for name, value in about["gemm_gflops"].items())
            start = about["start_s"]
            lines.append(
                f"The machine's own limits: GEMM {about['gemm_size']}³ in GF/s: {products}; memory read by one thread: "
                f"{about['read_gb_per_s']:.1f} GB/s; `python -c pass` {start['pass'] * 1000:.0f} ms, "
                f"`import numpy` {start['numpy'] * 1000:.0f} ms."
            )
        if self.quick:
            lines.insert(0, "**A quick run: everything is tiny, and the figures mean nothing.**")
        return "\n\n".join(lines)


def write(report: Report, folder: Path) -> None:
    """Write benchmarks.json, .md and .svg into a folder; an earlier run's are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    _put(folder / f"{NAME}.json", json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n")
    _put(folder / f"{NAME}.md", report.to_markdown())
    _put(folder / f"{NAME}.svg", draw(report.rows))


def write_docs(report: Report, folder: Path) -> None:
    """Renew the results in a folder's benchmarks.md, between its two marks, and the plot and figures beside it."""
    page = folder / f"{NAME}.md"
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    results = f"{BEGIN}\n\n![How far each target was reached]({NAME}.svg)\n\n{report.to_markdown()}\n{END}"
    _put(page, before + results + after)
    _put(folder / f"{NAME}.svg", draw(report.rows))
    _put(folder / f"{NAME}.json", json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n")


def _table(rows: Sequence[Row]) -> str:
    lines = ["| what | ours | reference | ratio | target | met |", "|---|--:|--:|--:|--:|:-:|"]
    for row in rows:
        what = row.what + (f" ({row.note})" if row.note else "")
        if row.missing:
            cells = [what, row.missing, "–", "–", str(row.target or ""), "–"]
        else:
            cells = [what, row.ours, row.reference, row.ratio_text, str(row.target or ""), MARKS[row.met]]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _put(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text)
    temporary.replace(path)
