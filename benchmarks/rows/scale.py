"""Large libraries: cold queries, one more picture, and searches in a library that stays open."""

from __future__ import annotations

import statistics
import time

from benchmarks.bench import Bench
from benchmarks.machine import ONE_THREAD
from benchmarks.processes import in_turn, ratio, wall
from benchmarks.results import Row, Target, seconds
from benchmarks.rows.indexing import NO_RCLIP, costs
from benchmarks.workers import Worker, once, rounds_in_turn

ANON_MIB = 700
WRITTEN = 5_000_000
DIM = 512
ONLY_FULL = "takes minutes to make: --full"


def cold(bench: Bench) -> list[Row]:
    """A new process and new words over many vectors; files are in the page cache."""
    rows = []
    for count, target in zip(bench.sizes.stores, (10, 30), strict=True):
        if count == bench.sizes.stores[1] and not (bench.config.full or bench.config.quick):
            what = f"cold text query over {count:,} vectors"
            rows.append(Row("scale", f"{what}, against rclip", Target("≥", target), missing=ONLY_FULL))
            rows.append(Row("scale", f"{what}, private memory", _anon_target(), missing=ONLY_FULL))
        else:
            rows += _cold_over(bench, count, target)
    return rows


def _anon_target() -> Target:
    return Target("≤", 1, f"≤ {ANON_MIB} MiB")


def _cold_over(bench: Bench, count: int, target: float) -> list[Row]:
    library = bench.store(count)
    about = once("stores:snapshot", env=bench.env, library=library)
    tasks = {"ours": bench.query(library, watch=True)}
    if bench.rclip:
        nowhere = bench.work / "nowhere"
        nowhere.mkdir(exist_ok=True)
        bench.say(f"filling rclip's database with {count:,} vectors")
        name = f"store-{count}"
        bench.rclip.fill(name, nowhere, count)
        tasks["rclip"] = bench.rclip.task(name, nowhere, lambda: ["-n", bench.new_text()], watch=True)
    runs = in_turn(list(tasks.values()), bench.sizes.few, patience=bench.config.patience)
    found = dict(zip(tasks, runs, strict=True))
    ours = found["ours"]
    facts = {"snapshot": dict(about), **{name: costs(one) for name, one in found.items()}}
    what = f"cold text query over {count:,} vectors"
    anon = max(one.anon_mib or 0 for one in ours)
    memory = Row(
        "scale",
        f"{what}, private memory",
        _anon_target(),
        f"{anon:.0f} MiB",
        f"{ANON_MIB} MiB",
        anon / ANON_MIB,
        label=f"cold query, {count:,} vectors: private memory",
        note="" if "rclip" not in found else f"rclip: {max(one.anon_mib or 0 for one in found['rclip']):.0f} MiB",
    )
    if "rclip" not in found:
        return [Row("scale", f"{what}, against rclip", Target("≥", target), missing=NO_RCLIP, facts=facts), memory]
    theirs = found["rclip"]
    note = f"engine {about['engine']}"
    if "nprobe" in about:
        note += f", nprobe {about['nprobe']} of {about['nlist']}"
    times = seconds(wall(ours)), seconds(wall(theirs))
    row = Row(
        "scale",
        f"{what}, against rclip",
        Target("≥", target),
        *times,
        ratio(theirs, ours),
        label=f"cold query, {count:,} vectors: against rclip",
        note=note,
        facts=facts,
    )
    return [row, memory]


def add_one(bench: Bench) -> list[Row]:
    """One picture more: what the whole process has written."""
    count = bench.sizes.stores[1]
    what, target = f"one picture added to {count:,} vectors", Target("≤", 1, f"≤ {WRITTEN / 1e6:g} MB written")
    if not (bench.config.full or bench.config.quick):
        return [Row("add-one", what, target, missing=ONLY_FULL)]
    library, base = bench.store(count), bench.fresh("pictures/added")
    folders = [base / str(place) for place in range(bench.sizes.few)]
    for folder in folders:
        # Drawn from the clock, so that a library that was kept has never seen it.
        once("pictures:one_more", env=bench.env, folder=folder, number=time.time_ns() % 10**9)
    left = iter(folders)
    task = bench.asked(lambda: ["index", next(left), "--index", library, "--device", "cpu"], watch=True)
    (runs,) = in_turn([task], len(folders))
    written = [one.written for one in runs if one.written is not None]
    if len(written) < len(runs):
        return [Row("add-one", what, target, missing="this kernel does not count what a process writes")]
    return [
        Row(
            "add-one",
            what,
            target,
            f"{max(written) / 1e6:.2f} MB",
            f"{WRITTEN / 1e6:g} MB",
            max(written) / WRITTEN,
            label=f"one more of {count:,}: written",
            note=f"in {seconds(wall(runs))}",
            facts={"ours": costs(runs)},
        )
    ]


def warm(bench: Bench) -> list[Row]:
    """A `Library` that stays open, words that it knows, against reading the vectors once on one thread."""
    count = bench.sizes.warm
    library = bench.store(count)
    env = {**bench.env, **ONE_THREAD}
    with (
        Worker("stores:warm", env=env, library=library, queries=20) as search,
        Worker("limits:bandwidth", env=env, vectors=count, dim=DIM, times=5) as memory,
    ):
        ours, limit = rounds_in_turn([search, memory], min(5, 2 * bench.sizes.few))
    pairs = [mine["seconds"] / read["seconds"] for mine, read in zip(ours, limit, strict=True)]
    times = [statistics.median(found["seconds"] for found in rounds) for rounds in (ours, limit)]
    return [
        Row(
            "warm",
            f"warm Library.query, {count:,} vectors, one thread, against reading them once",
            Target("≤", 1.4),
            f"{times[0] * 1000:.1f} ms",
            f"{times[1] * 1000:.1f} ms",
            statistics.median(pairs),
            label=f"warm query, {count:,} vectors: against memory",
            note=f"{1e-9 * statistics.median(found['bytes_per_s'] for found in limit):.1f} GB/s on one thread; "
            f"of ours, {1000 * statistics.median(found['engine_s'] for found in ours):.1f} ms are the engine's search",
        )
    ]
