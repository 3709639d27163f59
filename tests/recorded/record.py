"""Runs the commands and keeps what they answer, so that any change of it is seen.

Run by hand, in `tests/`: `python -m recorded.record` records anew with the clipsearch that Python finds, group by
group, as JSON beside this file. Look at what changed before you commit it.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from conftest import Cli
from recorded.commands import GROUPS, HERE, Group, build

FOLDER = Path(__file__).parent
TEMPORARY = re.compile(re.escape(os.path.join(tempfile.gettempdir(), "clipsearch-")) + r"\w+")
"""Where a dry run without a library has one."""

PROSE = frozenset({"reason", "text", "advice", "what", "note", "fallback"})
"""Keys of sentences for people, which may be put in other words."""
PASSING = frozenset(
    {"seconds", "finished_at", "started_at", "added_at", "library_id", "p50_ms", "p95_ms", "build_seconds"}
    | {"catalog_bytes", "decoder"}
)
"""Keys of what differs from run to run, or between versions of SQLite and of decoders."""
LOOSE = frozenset({"fingerprint", "explain", "view", "box", "guesses", "reliability", "confusion", "relevance"})
"""Keys of what follows from the figures of a network that computes in integers, and of what only a run of over half a
minute prepares for queries: their relevance."""
ABSENT = "…"

TOLERANCE = 2e-6
"""Scores differ by 1e-7 between processors, and what is printed with six digits by one in the last."""
MAGNIFIED = frozenset(
    {"probability", "relevance", "margin", "confidence", "expected_calibration_error"}
    | {"scale", "floor", "ece_before", "ece_after"}
)
MAGNIFIED_TOLERANCE = 1e-4
"""Of what follows from scores by way of a logit scale or a deviation, tens of times as large."""
ANGLES = "angles"

Record = dict[str, Any]


class Recorder:
    """A `Shell` that records."""

    def __init__(self, cli: Cli, folder: Path) -> None:
        self.folder = folder
        self.records: list[Record] = []
        self._cli = cli

    def __call__(self, line: str, *, input: bytes = b"", prose: bool = False, loose: bool = False) -> None:
        root = os.fspath(self.folder.parent)
        ran = self._cli(*(word.replace(HERE, root) for word in shlex.split(line)), cwd=self.folder, input=input)
        said = [text.partition(":")[0] for text in ran.err.splitlines()]
        output = numbers(ran.text) if prose else parsed(line, ran.out)
        self.records.append(
            {
                "command": line,
                "code": ran.code,
                **{f"{mark.lower()}s": said.count(mark) for mark in ("note", "error", "WARNING")},
                "output": normal(output, self.folder.parent, loose=loose),
            }
        )


def numbers(text: str) -> list[str]:
    return re.findall(r"\d+(?:\.\d+)?", text)


def parsed(line: str, out: bytes) -> Any:
    """What a command wrote: a JSON object, one a line, or rows of cells."""
    if not out:
        return None
    if line.endswith("--json"):
        return json.loads(out)
    text = out.decode("utf-8", "backslashreplace")
    if "--jsonl" in line or ("--file" in line and out.startswith(b"{")):
        return [json.loads(each) for each in text.splitlines()]
    if "--csv" in line:
        return list(csv.reader(io.StringIO(text)))
    return [each.split("\t") for each in re.split("[\n\0]", text)]


def normal(value: Any, here: Path, key: str = "", *, loose: bool = False) -> Any:
    """A value without what another run may say otherwise; if loose, without figures, and hits in order of their ids."""
    if key in PASSING or (loose and key in LOOSE) or (key in PROSE and value and isinstance(value, str)):
        return ABSENT
    if isinstance(value, dict):
        return {name: normal(each, here, name, loose=loose) for name, each in value.items()}
    if isinstance(value, list) and key == "notices":
        return len(value)
    if isinstance(value, list):
        found = [normal(each, here, key, loose=loose) for each in value]
        by_id = loose and key in ("hits", "neighbours")
        return sorted(found, key=lambda hit: hit["id"]) if by_id else found
    if isinstance(value, str):
        if key.endswith("_b64"):
            value = base64.b64decode(value).decode("utf-8", "backslashreplace")
        return TEMPORARY.sub("TEMPORARY", value.replace(os.fspath(here), HERE))
    if isinstance(value, float):
        return ABSENT if loose else round(value, 8)
    return value


def record(base: Path) -> dict[str, list[Record]]:
    """Make the library in the empty folder `base`, run every group, and give the records by group."""
    base = base.resolve()
    (base / "home").mkdir()
    cli = Cli(base / "cache", base / "home")
    cli.env["CUDA_VISIBLE_DEVICES"] = ""  # A GPU's half precision is not what is recorded.
    root = base / "work"
    (root / "library").mkdir(parents=True)
    first = Recorder(cli, root / "library")
    build(first)

    def run(group: Group) -> tuple[str, list[Record]]:
        folder = root / group.__name__
        shutil.copytree(first.folder, folder)
        recorder = Recorder(cli, folder)
        group(recorder)
        return group.__name__, recorder.records

    with ThreadPoolExecutor(2) as pool:
        return {"build": first.records, **dict(pool.map(run, GROUPS))}


def differences(was: Any, now: Any, at: str = "", key: str = "") -> Iterator[str]:
    """Where two values differ by more than figures do between processors, a line each."""
    if isinstance(was, dict) and isinstance(now, dict):
        for name in [*was, *(name for name in now if name not in was)]:
            if name in was and name in now:
                yield from differences(was[name], now[name], f"{at}.{name}", key if key in MAGNIFIED else name)
            else:
                yield f"{at}.{name}: {'is new' if name in now else 'is gone'}"
    elif isinstance(was, list) and isinstance(now, list):
        if len(was) != len(now):
            yield f"{at}: has {len(now)} items, not {len(was)}"
        for number, (one, other) in enumerate(zip(was, now, strict=False)):
            yield from differences(one, other, f"{at}[{number}]", key)
    elif not alike(was, now, key):
        yield f"{at}: {now!r}, not {was!r}"


def alike(was: Any, now: Any, key: str) -> bool:
    if isinstance(was, str) and isinstance(now, str) and was != now:
        return _printed_alike(was, now)
    if not (isinstance(was, float) or isinstance(now, float)):
        return type(was) is type(now) and bool(was == now)
    if not (isinstance(was, float | int) and isinstance(now, float | int)):
        return False
    if key == ANGLES:  # Near 0°, a cosine's last digit is a large part of an angle.
        was, now = math.cos(math.radians(was)), math.cos(math.radians(now))
    tolerance = MAGNIFIED_TOLERANCE if key in MAGNIFIED else TOLERANCE
    return math.isclose(was, now, rel_tol=tolerance, abs_tol=tolerance)


def _printed_alike(was: str, now: str) -> bool:
    """Whether two cells of a table are the same number but for the last digit."""
    if not (re.fullmatch(r"-?\d+\.\d+", was) and re.fullmatch(r"-?\d+\.\d+", now)):
        return False
    last_digit = 10.0 ** -len(was.partition(".")[2])
    return abs(float(was) - float(now)) <= max(1.01 * last_digit, TOLERANCE)


def recorded() -> dict[str, list[Record]]:
    """The records that are kept, by group."""
    return {path.stem: json.loads(path.read_bytes()) for path in FOLDER.glob("*.json")}


def main() -> None:
    with tempfile.TemporaryDirectory() as base:
        found = record(Path(base))
    for name, records in found.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
