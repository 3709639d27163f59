"""What the server costs beside the library behind it, with 100,000 vectors of tiny_clip: five minutes, Linux only.

    python -m benchmarks.serving [--only search commands load thumbnails] [--seconds 60] [--vectors 100000]

search      a warm query over HTTP, against `Library.query` in the client's process
commands    `clipsearch query` as a process, against the server's time, and against `query --server`
load        50 clients during an index run, against `Library.query` on one thread during the same run, in CPU time
thumbnails  a page of 50, against the same bytes from a handler that has them in memory; and the memory of 10,000

What is compared is done in turn; ratios are medians over the rounds. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.config import REPOSITORY
from benchmarks.processes import Task, run
from benchmarks.results import Row, Target
from benchmarks.tasks.pictures import PLAIN, texture
from benchmarks.tasks.served import Connection, known_texts, new_texts, search_path
from benchmarks.workers import Worker

MODEL = REPOSITORY / "tests" / "tinyclip" / "tiny_clip.pt"
DRAWINGS = 50
"""Different pictures; the others are copies of them with a longer file."""

SHOWN = 2500
"""Pictures with thumbnails, which are in the library before it is served."""
ADDED_PER_S = 150
"""Pictures of the index run for each second that it should go on: more than two cores reach under load."""
LARGE = (1200, 900)
"""Pixels of those: they take long to decode for the size of their files."""

SIDES = (160, 320, 640, 1600)
PAGE = 50
CLIENTS = 50
PARTS = 6
"""The minute under load comes in so many parts; before and after each, the library is measured."""

Say = Callable[[Row], None]


@dataclass(frozen=True)
class Bench:
    """Where everything is, and how much of it is measured."""

    work: Path
    vectors: int
    seconds: float
    rounds: int

    @property
    def library(self) -> Path:
        return self.work / "library"

    @property
    def env(self) -> dict[str, str]:
        left_out = ("CLIPSEARCH_INDEX", "CLIPSEARCH_SERVER", "CLIPSEARCH_TOKEN", "PYTHONDONTWRITEBYTECODE")
        env = {key: value for key, value in os.environ.items() if key not in left_out}
        return env | {"CLIPSEARCH_CACHE": str(self.work / "cache"), "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}

    def command(self, *words: str | Path) -> list[str]:
        script = Path(sys.executable).with_name("clipsearch")
        return [*([str(script)] if script.exists() else [sys.executable, "-m", "clipsearch"]), *map(str, words)]

    def task(self, *words: str | Path) -> Task:
        return Task(lambda: self.command(*words), self.env, self.work)

    def worker(self, task: str, **arguments: object) -> Worker:
        return Worker(task, env=self.env, **arguments)

    @property
    def is_whole(self) -> bool:
        return self.vectors >= 100_000


@dataclass(frozen=True)
class Server:
    """A running `clipsearch serve`."""

    pid: int
    port: int

    @property
    def cpu_s(self) -> float:
        """CPU seconds of the process so far, without its children."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory_mib(self) -> dict[str, float]:
        """Of the process without its children: what is its own, and with its share of mapped files (Pss)."""
        lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
        return {"pss": sizes["Pss"], "own": sizes["Pss_Anon"]}


@contextlib.contextmanager
def served(bench: Bench) -> Iterator[Server]:
    """A server on a free port, once its model is loaded."""
    command = bench.command("serve", "--port", "0", "--index", bench.library, "--device", "cpu")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=bench.env, cwd=bench.work, text=True, **pipes)
    assert process.stdout is not None
    try:
        address = process.stdout.readline()
        server = Server(process.pid, int(address.rsplit(":", 1)[1].strip().rstrip("/")))
        with contextlib.closing(Connection(server.port)) as connection:
            for text in known_texts():
                assert connection.get(search_path(text))[0] == 200
        yield server
    finally:
        process.terminate()
        process.communicate()


# What is measured


def search(bench: Bench, say: Say) -> None:
    with served(bench) as server, bench.worker("served:pairs", library=bench.library, port=server.port, count=60) as w:
        rounds = [w.round() for _ in range(bench.rounds + 1)][1:]
    for name in ("known", "new"):
        here, there = (statistics.median(found[name][side] for found in rounds) for side in (1, 0))
        ratios = [found[name][0] / (1.5 * found[name][1] + 0.001) for found in rounds]
        say(
            Row(
                "search",
                f"warm query over HTTP, {name} texts, against Library.query (p50)",
                Target("≤", 1, "≤ 1.5× + 1 ms"),
                ms(there),
                ms(here),
                statistics.median(ratios),
                shown=f"{statistics.median(found[name][0] / found[name][1] for found in rounds):.2f}×",
                note=f"{1000 * (there - here):.2f} ms more",
            )
        )


def commands(bench: Bench, say: Say) -> None:
    """Whole processes; each text that is new is new to all three, which share the library's cache."""
    from_server = "--server" in run_text(bench, "query", "--help")
    with served(bench) as server:
        url = f"http://127.0.0.1:{server.port}/"
        for kind in ("known", "new"):
            texts = {
                side: itertools.cycle(known_texts()) if kind == "known" else new_texts(side)
                for side in ("cold", "client", "server")
            }
            found: list[tuple[float, float, float]] = []
            for _ in range(2 * bench.rounds + 1):
                cold = run(bench.task("query", next(texts["cold"]), "--index", bench.library)).wall_s
                client = run(bench.task("query", next(texts["client"]), "--server", url)).wall_s if from_server else 0
                found.append((cold, client, posted(server.port, next(texts["server"]))))
            command_rows(kind, found[1:], say, is_asked=from_server)


def command_rows(kind: str, found: Sequence[tuple[float, float, float]], say: Say, *, is_asked: bool) -> None:
    cold, client, answer = (statistics.median(column) for column in zip(*found, strict=True))
    ratio = statistics.median(a / c for a, _, c in found)
    what = f"clipsearch query, {kind} text, as a process, against the server's time for it"
    say(Row("commands", what, Target("≥", 10), ms(cold), ms(answer), ratio))
    what, target = f"query --server, {kind} text, against query, both as processes", Target("≤", 0.6)
    if is_asked:
        say(Row("commands", what, target, ms(client), ms(cold), statistics.median(b / a for a, b, _ in found)))
    else:
        say(Row("commands", what, target, missing="there is no --server"))


def posted(port: int, text: str) -> float:
    """Seconds for a query as `query --server` sends it, with a connection of its own."""
    begun = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/api/v1/search", json.dumps({"q": text}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    taken = time.perf_counter() - begun
    connection.close()
    assert response.status == 200
    return taken


def load(bench: Bench, say: Say) -> None:
    """Clients, and between their turns the library on its own, while another process indexes."""
    seconds = bench.seconds / PARTS
    added = pictures(
        bench, "added", int(ADDED_PER_S * (bench.seconds * (1 + 1 / PARTS) + 30)) if bench.is_whole else 100, LARGE
    )
    with (
        served(bench) as server,
        bench.worker("served:clients", port=server.port, connections=CLIENTS, seconds=seconds) as clients,
        bench.worker("served:alone", library=bench.library, seconds=min(3.0, seconds)) as library,
        indexing(bench, added) as still_runs,
    ):
        library.round()
        alone, under_load, costs = [library.round()["cpu"]], [], []
        for _ in range(PARTS):
            before = server.cpu_s
            under_load.append(found := clients.round())
            costs.append((server.cpu_s - before) / max(1, sum(found["statuses"].values())))
            alone.append(library.round()["cpu"])
        before = server.cpu_s
        with ThreadPoolExecutor() as pool:
            rounds = pool.submit(clients.round), pool.submit(library.round)
            among = rounds[1].result()["cpu"] * sum(rounds[0].result()["statuses"].values()) / (server.cpu_s - before)
        ended = "" if still_runs() else "; THE INDEX RUN ENDED EARLY"
    statuses = sum((Counter(found["statuses"]) for found in under_load), Counter[str]())
    rate = sum(found["statuses"].get("200", 0) for found in under_load) / sum(found["took"] for found in under_load)
    p50, p95 = (ms(statistics.median(found[name] for found in under_load)) for name in ("p50", "p95"))
    failed = sum(count for status, count in statuses.items() if status not in ("200", "503"))
    what = f"{CLIENTS} clients for {bench.seconds:g} s during an index run: errors other than 503"
    note = f"{dict(statuses)}; p50 {p50}, p95 {p95}, {rate:.0f} requests/s{ended}"
    say(Row("load", what, Target("≤", 1, "none"), str(failed), "0", failed + 1, shown=str(failed), note=note))
    ratios = [statistics.mean(alone[i : i + 2]) / cost for i, cost in enumerate(costs)]
    ours, theirs = statistics.median(costs), statistics.median(alone)
    what = "the same, CPU time of the server for a request: that of Library.query on one thread is"
    note = f"{among:.2f}× where the two run at the same time{ended}"
    say(Row("load", what, Target("≥", 0.7), ms(ours), ms(theirs), statistics.median(ratios), note=note))


@contextlib.contextmanager
def indexing(bench: Bench, folder: Path) -> Iterator[Callable[[], bool]]:
    """An index run in another process; yields whether it still goes on. It is stopped in the end."""
    command = bench.command("index", folder, "--index", bench.library, "--device", "cpu")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=bench.env, cwd=bench.work, **quiet)
    time.sleep(2)
    try:
        yield lambda: process.poll() is None
    finally:
        process.terminate()
        process.wait()


def thumbnails(bench: Bench, say: Say) -> None:
    with served(bench) as server, contextlib.closing(Connection(server.port)) as connection:
        numbers = shown(bench, connection)
        paths = [thumbnail(number, side) for number in numbers for side in SIDES]
        status, body = connection.get(thumbnail(numbers[0], 320))
        if status == 404 and b"no such image" not in body:
            say(Row("thumbnails", "50 thumbnails", Target("≤", 3), missing="there are no thumbnails"))
            return
        page(bench, server, connection, [thumbnail(number, 320) for number in numbers[:PAGE]], say)
    with served(bench) as server:
        first = len(paths) // 10
        after = []
        for part in (paths[:first], paths[first:]):
            with fetching(bench, server.port, 2, part) as clients:
                assert clients.round()["statuses"] == {"200": len(part)}
            after.append(server.memory_mib)
        first_mib, last_mib = (found["own"] for found in after)
        what = f"private memory of the server after {len(paths):,} thumbnails, against after {first:,}"
        note = f"with mapped files (PSS): {after[1]['pss']:.1f} and {after[0]['pss']:.1f} MiB"
        sizes = f"{last_mib:.1f} MiB", f"{first_mib:.1f} MiB"
        say(Row("thumbnails", what, Target("≤", 1.1), *sizes, last_mib / first_mib, note=note))


def page(bench: Bench, server: Server, connection: Connection, paths: list[str], say: Say) -> None:
    """The first page, from our server and from memory, over one connection and over six."""
    folder = bench.work / "page"
    folder.mkdir(exist_ok=True)
    for i, path in enumerate(paths):
        (folder / f"{i:02}").write_bytes(connection.get(path)[1])
    with bench.worker("served:in_memory", folder=folder) as memory:
        port = memory.round()["port"]
        for connections in (1, 6):
            bare = [f"/{i}" for i in range(len(paths))]
            with (
                fetching(bench, server.port, connections, paths) as ours,
                fetching(bench, port, connections, bare) as theirs,
            ):
                rounds = [(ours.round(), theirs.round()) for _ in range(5 * bench.rounds + 2)][2:]
            assert all(side["statuses"] == {"200": len(paths)} for both in rounds for side in both)
            took = [[side["took"] for side in both] for both in rounds]
            ratio = statistics.median(a / b for a, b in took)
            over = f"{connections} connection" + "s" * (connections > 1)
            columns = [ms(statistics.median(column)) for column in zip(*took, strict=True)]
            what = f"{len(paths)} warm thumbnails, {over}, against bytes in memory"
            say(Row("thumbnails", what, Target("≤", 3), *columns, ratio))


def fetching(bench: Bench, port: int, connections: int, paths: list[str]) -> Worker:
    """Clients that get each of the paths once in a round."""
    listed = bench.work / f"paths-{time.monotonic_ns()}"
    listed.write_text("\n".join(paths))
    return bench.worker("served:clients", port=port, connections=connections, seconds=3600, paths=listed)


def shown(bench: Bench, connection: Connection) -> list[int]:
    """The ids of the pictures that were indexed first."""
    found: list[int] = []
    for number in itertools.count(1):
        path = search_path("a red circle", 1000) + f"&page={number}&in={bench.work / 'shown'}"
        hits = json.loads(connection.get(path)[1])["hits"]
        found += [hit["id"] for hit in hits]
        if len(hits) < 1000:
            return found
    raise AssertionError


def thumbnail(number: int, side: int) -> str:
    return f"/api/v1/images/{number}/thumbnail?side={side}"


# What is measured with


def make_library(bench: Bench) -> None:
    """Pictures with thumbnails, made-up vectors, and the snapshot of both."""
    folder = pictures(bench, "shown", SHOWN if bench.is_whole else 60)
    run(bench.task("index", folder, "--index", bench.library, "--model", MODEL, "--device", "cpu"))
    with bench.worker("stores:fill", library=bench.library, count=bench.vectors, engine="auto") as fill:
        fill.round()
    run(bench.task("index", "--index", bench.library, "--device", "cpu"))


def pictures(bench: Bench, name: str, count: int, size: tuple[int, int] = PLAIN) -> Path:
    """A folder of so many JPEGs, all different."""
    folder = bench.work / name
    folder.mkdir()
    drawn = folder / "drawn"
    for number in range(min(DRAWINGS, count)):
        texture(number, PLAIN).resize(size).save(drawn, "JPEG", quality=50, progressive=True)
        data = drawn.read_bytes()
        for copy in range(number, count, DRAWINGS):
            (folder / f"{copy:05}.jpg").write_bytes(data + name.encode() + b"%d" % copy)
    drawn.unlink()
    return folder


def run_text(bench: Bench, *words: str) -> str:
    return subprocess.run(bench.command(*words), env=bench.env, capture_output=True, text=True, check=True).stdout


def ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"


def print_row(row: Row) -> None:
    met = {True: "met", False: "MISSED", None: "not measured"}[row.met]
    figures = row.missing or f"{row.ours} / {row.reference} = {row.ratio_text}"
    note = f" ({row.note})" if row.note else ""
    print(f"{row.what}: {figures}; target {row.target}: {met}{note}", flush=True)


ITEMS = {"search": search, "commands": commands, "load": load, "thumbnails": thumbnails}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(ITEMS), default=list(ITEMS), help="some of the four")
    parser.add_argument("--seconds", type=float, default=60, help="of the clients")
    parser.add_argument("--vectors", type=int, default=100_000, help="fewer than 100,000 show that the code runs")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clipsearch-serving-") as work:
        bench = Bench(Path(work), given.vectors, given.seconds, given.rounds)
        make_library(bench)
        for name in given.only:
            ITEMS[name](bench, print_row)


if __name__ == "__main__":
    main()
