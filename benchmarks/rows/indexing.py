"""`clipsearch index`, whole processes: against the machine's limit, rclip and plain loops; and its memory."""

from __future__ import annotations

import functools
import shutil
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.peers import open_clip_loop, transformers_loop
from benchmarks.processes import Run, Task, cpu, in_turn, ratio, run, wall
from benchmarks.results import Row, Target, seconds
from benchmarks.workers import Round, Worker

NO_RCLIP = "not installed: rclip"
MODEL = "ViT-B-32-256"
"""What rclip uses."""

INDEX_MIB = 850


@dataclass(frozen=True, slots=True)
class Indexed:
    """Rounds of indexing the small photographs: our index run and one query, rclip's one command for both, int8's
    index run, and between them what decoding and encoding take alone."""

    runs: Mapping[str, list[Run]]
    shares: list[Round]


@functools.cache
def measured(bench: Bench) -> Indexed:
    folder, model = bench.pictures("small"), bench.model(MODEL)
    library = bench.work / "libraries" / "timed"
    idle = bench.small_library(model)
    tasks: dict[str, Task] = {"index": bench.index(folder, library, model), "query": bench.query(library)}
    if bench.rclip:
        tasks["rclip"] = _rclip_from_nothing(bench, "timed", folder)
    if bench.has_int8:
        tasks["int8"] = _calibrated_before(bench, bench.small_library(model, precision="int8"), folder)
    bench.say(f"indexing {bench.sizes.small} photographs, {bench.sizes.few} times")
    rounds, shares = [], []
    some = min(64, bench.sizes.small)
    with Worker("encode:shares", env=bench.env, library=idle, folder=folder, count=some) as worker:
        worker.round()
        for _ in range(bench.sizes.few):
            rounds.append(in_turn(list(tasks.values()), 1, patience=bench.config.patience))
            shares.append(worker.round())
    runs = {name: [found[place][0] for found in rounds] for place, name in enumerate(tasks)}
    return Indexed(runs, shares)


def _calibrated_before(bench: Bench, library: Path, folder: Path) -> Task:
    """Index a folder into a library that knows already how it rounds, as all but its first run do."""
    copy = bench.work / "libraries" / "timed-int8"

    def renew() -> None:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(library, copy)

    return bench.task("index", folder, "--index", copy, "--device", "cpu", before=renew)


def against_limit(bench: Bench) -> list[Row]:
    """Images a second of a whole run over what the cores could do if they did nothing but decode and encode."""
    found, count = measured(bench), bench.sizes.small
    limits = [share["cores"] / (share["decode_cpu_s"] + share["encode_cpu_s"]) for share in found.shares]
    reached = [count / one.wall_s / limit for one, limit in zip(found.runs["index"], limits, strict=True)]
    decode, encode = (statistics.median(s[key] for s in found.shares) for key in ("decode_cpu_s", "encode_cpu_s"))
    return [
        Row(
            "index-limit",
            f"index {count} photographs, {bench.model(MODEL).name}: whole run against cores ÷ (decode + encode)",
            Target("≥", 0.85),
            f"{count / wall(found.runs['index']):.1f} images/s",
            f"{statistics.median(limits):.1f} images/s",
            statistics.median(reached),
            label=f"index {count}: against decode + encode alone",
            note=f"decode {decode * 1000:.1f} + encode {encode * 1000:.1f} CPU-ms a picture",
            facts={"shares": [dict(share) for share in found.shares], "runs": costs(found.runs["index"])},
        )
    ]


def against_rclip(bench: Bench) -> list[Row]:
    """The same pictures and the same model; rclip's command indexes and answers a query, so with ours it is counted."""
    what = f"index {bench.sizes.small} photographs, {bench.model(MODEL).name}, against rclip"
    targets = {"wall": Target("≥", 1.15), "CPU": Target("≥", 1.1), "int8": Target("≥", 1.6)}
    if not bench.rclip:
        return [Row("index-rclip", f"{what}, {kind}", target, missing=NO_RCLIP) for kind, target in targets.items()]
    runs = measured(bench).runs
    ours, query, theirs = runs["index"], runs["query"], runs["rclip"]
    both = [Run(a.wall_s + b.wall_s, a.cpu_s + b.cpu_s, 0, 0) for a, b in zip(ours, query, strict=True)]
    note = "with our query added, as rclip's command answers one: {:.2f}×"
    facts = {"ours": costs(ours), "query": costs(query), "rclip": costs(theirs)}
    rows = [
        Row(
            "index-rclip",
            f"{what}, wall",
            targets["wall"],
            seconds(wall(ours)),
            seconds(wall(theirs)),
            ratio(theirs, ours),
            label=f"index {bench.sizes.small}: against rclip",
            note=note.format(ratio(theirs, both)),
            facts=facts,
        ),
        Row(
            "index-rclip",
            f"{what}, CPU",
            targets["CPU"],
            f"{cpu(ours):.1f} CPU-s",
            f"{cpu(theirs):.1f} CPU-s",
            ratio(theirs, ours, lambda one: one.cpu_s),
            label=f"index {bench.sizes.small}: CPU against rclip",
            note=note.format(ratio(theirs, both, lambda one: one.cpu_s)),
        ),
    ]
    if "int8" not in runs:
        missing = "not available: index has no --precision yet"
        return [*rows, Row("index-rclip", f"{what}, int8, wall", targets["int8"], missing=missing)]
    small = runs["int8"]
    times = seconds(wall(small)), seconds(wall(theirs))
    label = f"index {bench.sizes.small}: int8 against rclip"
    note = "into a library that was calibrated by its first run; that looks at up to 192 pictures, once"
    return [
        *rows,
        Row(
            "index-rclip", f"{what}, int8, wall", targets["int8"], *times, ratio(theirs, small), label=label, note=note
        ),
    ]


def large(bench: Bench) -> list[Row]:
    """Pictures from a telephone: decoding is most of the work."""
    width, height = bench.sizes.large_pixels
    what = f"index {bench.sizes.large} photographs of {width * height / 1e6:.0f} MP against rclip"
    target = Target("≥", 1.7)
    if not bench.rclip:
        return [Row("index-large", what, target, missing=NO_RCLIP)]
    folder, model = bench.pictures("large"), bench.model(MODEL)
    bench.small_library(model)
    library = bench.work / "libraries" / "large"
    tasks = [
        bench.index(folder, library, model),
        bench.query(library),
        _rclip_from_nothing(bench, "large", folder),
    ]
    ours, query, theirs = in_turn(tasks, bench.sizes.few, patience=bench.config.patience)
    both = [Run(a.wall_s + b.wall_s, a.cpu_s + b.cpu_s, 0, 0) for a, b in zip(ours, query, strict=True)]
    return [
        Row(
            "index-large",
            what,
            target,
            seconds(wall(ours)),
            seconds(wall(theirs)),
            ratio(theirs, ours),
            label=f"index {bench.sizes.large} large ones: against rclip",
            note=f"with our query added, as rclip's command answers one: {ratio(theirs, both):.2f}×",
            facts={"ours": costs(ours), "query": costs(query), "rclip": costs(theirs)},
        )
    ]


def unchanged(bench: Bench) -> list[Row]:
    """A folder that was indexed before and is looked through again."""
    what, target = f"nothing changed, {bench.sizes.tiny:,} files, against rclip", Target("≥", 4)
    if not bench.rclip:
        return [Row("unchanged", what, target, missing=NO_RCLIP)]
    folder = bench.pictures("tiny")
    library, _ = bench.unchanged
    bench.rclip.fill("unchanged", folder)
    tasks = [
        bench.task("index", folder, "--index", library, "--device", "cpu"),
        bench.query(library),
        bench.rclip.task("unchanged", folder, lambda: [bench.new_text()]),
    ]
    ours, query, theirs = in_turn(tasks, bench.sizes.many, patience=bench.config.patience)
    both = [Run(a.wall_s + b.wall_s, a.cpu_s + b.cpu_s, 0, 0) for a, b in zip(ours, query, strict=True)]
    return [
        Row(
            "unchanged",
            what,
            target,
            seconds(wall(ours)),
            seconds(wall(theirs)),
            ratio(theirs, ours),
            label=f"nothing changed, {bench.sizes.tiny:,} files: against rclip",
            note=f"with our query added, as rclip's command answers one: {ratio(theirs, both):.2f}×",
            facts={"ours": costs(ours), "query": costs(query), "rclip": costs(theirs)},
        )
    ]


def memory(bench: Bench) -> list[Row]:
    """Largest resident set of an index run, mapped files included."""
    model, tiny = bench.model(MODEL), bench.tiny_model()
    peak = max(one.peak_mib for one in measured(bench).runs["index"])
    few = bench.fresh("pictures/few-tiny")
    for path in sorted(bench.pictures("tiny").rglob("*.jpg"))[: bench.sizes.small]:
        shutil.copy(path, few)
    _, many_run = bench.unchanged
    few_run = run(bench.index(few, bench.work / "libraries" / "few-tiny", tiny))
    many_peak, few_peak = many_run.peak_mib, few_run.peak_mib
    return [
        Row(
            "memory",
            f"peak memory, index {bench.sizes.small} photographs, {model.name}",
            Target("≤", 1, f"≤ {INDEX_MIB} MiB"),
            f"{peak:.0f} MiB",
            f"{INDEX_MIB} MiB",
            peak / INDEX_MIB,
            label=f"memory: index {bench.sizes.small}",
        ),
        Row(
            "memory",
            f"peak memory, {tiny.name}: index {bench.sizes.tiny:,} small files against {bench.sizes.small}",
            Target("≤", 1.15),
            f"{many_peak:.0f} MiB",
            f"{few_peak:.0f} MiB",
            many_peak / few_peak,
            label=f"memory: {bench.sizes.tiny:,} small files against {bench.sizes.small}",
        ),
    ]


def loops(bench: Bench) -> list[Row]:
    """For information: what one would write without a tool, on the same pictures. Nothing of it lasts."""
    model, folder, names = bench.model(MODEL), bench.pictures("small"), ("open_clip", "transformers")
    whats = {name: f"index {bench.sizes.small} photographs and query, against a loop over {name}" for name in names}
    library = bench.work / "libraries" / "loops"
    bench.small_library(model)
    tasks: dict[str, Task] = {"index": bench.index(folder, library, model), "query": bench.query(library)}
    if model.arch is not None:
        tasks["open_clip"] = open_clip_loop(folder, model.checkpoint, model.arch, env=bench.env, work=bench.work)
    other = transformers_loop(folder, bench.config.peers, env=bench.env, work=bench.work)
    if other is not None:
        tasks["transformers"] = other
    found = dict(zip(tasks, in_turn(list(tasks.values()), 1, patience=bench.config.patience), strict=True))
    ours = wall(found["index"]) + wall(found["query"])
    rows = []
    for name in names:
        if name not in found:
            why = f"not installed: {name}" if model.arch is not None else "not in a quick run"
            rows.append(Row("loops", whats[name], None, missing=why))
            continue
        theirs = wall(found[name])
        rows.append(Row("loops", whats[name], None, seconds(ours), seconds(theirs), theirs / ours))
    return rows


def _rclip_from_nothing(bench: Bench, name: str, folder: Path) -> Task:
    rclip = bench.rclip
    assert rclip is not None
    words: Callable[[], list[str]] = lambda: [bench.new_text()]  # noqa: E731
    return rclip.task(name, folder, words, before=lambda: rclip.forget(name))


def costs(runs: list[Run]) -> list[dict[str, float | None]]:
    """JSON-able."""
    return [asdict(one) for one in runs]
