"""Decoder processes: a decoder that misbehaves costs only the file that it was decoding."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from conftest import Cli
from PIL import Image

from clipsearch import Library
from clipsearch.errors import ImageError
from clipsearch.images import decode, schedule
from clipsearch.images.limits import LimitError, Limits
from clipsearch.images.open import open_image
from clipsearch.images.requests import Steps
from clipsearch.images.workers import Workers
from clipsearch.indexing.run import RunOptions
from clipsearch.types import Preprocess

SMALL = Preprocess(32)

SITE = r"""
import mmap, os, sys, time

def change() -> None:
    from PIL import ImageFile

    load = ImageFile.ImageFile.load

    def misbehave(self):
        match self.size[0]:
            case 101: os.abort()
            case 102:
                while True: pass
            case 103: bytearray(8 << 30)
            case 104: time.sleep(1000)
            case 105: os._exit(3)
            case 106: os.kill(os.getpid(), 9)
            case 108: bytearray(1 << 62)
            case 110:
                for number in range(3, 8):
                    try: os.write(number, b"\xff\xff\xff\xff and so on")
                    except OSError: pass
            case 111: raise OSError("weird \udce9 text")
            case 112: mmap.mmap(-1, 8 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            case 109 if not os.path.exists(os.environ["MARK"]):
                open(os.environ["MARK"], "w").close()
                os.abort()
        return load(self)

    ImageFile.ImageFile.load = misbehave

if "clipsearch.images.worker" in sys.orig_argv:
    change()
"""
"""Decoders that fail on images of these widths; Python runs it as it starts."""


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images on which decoders fail, one of each kind, and of two others."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.syspath_prepend(str(site))
    folder = tmp_path / "photos"
    folder.mkdir()
    for width in (100, 101, 102, 103, 104, 105, 106, 107, 108):
        Image.linear_gradient("L").resize((width, 80)).convert("RGB").save(folder / f"{width}.png")
        os.utime(folder / f"{width}.png", (1e9, 1e9))  # The next run would read files that are as new as this one.
    return folder


def pixels(path: Path) -> Steps[np.ndarray]:
    yield from decode.opened(os.fsencode(path))
    return (yield from decode.whole_pixels(SMALL))[0]


def test_results_come_in_order_and_are_those_of_this_process(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(30)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (rng.integers(20, 900), 40, 3), np.uint8)).save(path)
    expected = [open_image(path.read_bytes()).pixels(SMALL) for path in paths]
    for count in (1, 3, None):
        with Workers(Limits(count)) as workers:
            found = list(workers.run(functools.partial(pixels, path) for path in paths))
        assert all(np.array_equal(one, other) for one, other in zip(expected, found, strict=True))


def test_what_a_task_raises_is_raised_at_its_turn(tmp_path: Path) -> None:
    Image.new("RGB", (50, 50)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    with Workers(Limits(2)) as workers:
        results = workers.run(
            functools.partial(pixels, tmp_path / name) for name in ("good.png", "bad.png", "none.png")
        )
        assert next(results).shape == (3, 32, 32)
        with pytest.raises(ImageError, match="not a picture in any known format"):
            next(results)
        with pytest.raises(FileNotFoundError):
            workers.do(functools.partial(pixels, tmp_path / "none.png"))
        assert workers.do(functools.partial(pixels, tmp_path / "good.png")).shape == (3, 32, 32)


def test_no_more_views_are_decoded_ahead_than_allowed(tmp_path: Path) -> None:
    Image.new("RGB", (50, 50)).save(tmp_path / "one.png")
    counts = [1, 1, 9, 1, 1, 1, 9, 9, 1] * 4
    begun = taken = most = 0

    def views(count: int) -> Steps[int]:
        nonlocal begun, most
        yield from decode.opened(os.fsencode(tmp_path / "one.png"))
        image = yield from decode.image()
        found = yield from image.pixels(SMALL, [None] * count, counted=True)
        begun += count
        most = max(most, begun - taken)
        return len(found.rows)

    with Workers(Limits(3)) as workers:
        for count in workers.run((functools.partial(views, count) for count in counts), ahead=20, views=10):
            taken += count
            time.sleep(0.001)
    assert taken == sum(counts) and 10 <= most <= 10 + 9


def test_closing_early_begins_nothing_more_and_leaves_no_process(tmp_path: Path) -> None:
    Image.new("RGB", (50, 50)).save(tmp_path / "one.png")
    begun: list[int] = []

    def task(number: int) -> Steps[int]:
        begun.append(number)
        yield from decode.opened(os.fsencode(tmp_path / "one.png"))
        return number

    before = children()
    with Workers(Limits(3)) as workers:
        ahead = workers.run((functools.partial(task, number) for number in itertools.count()), ahead=7)
        assert [next(ahead) for _ in range(10)] == list(range(10))
        ahead.close()
        assert len(begun) <= 10 + 7
    assert children() == before


def test_each_way_to_fail_costs_only_its_file(faulty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "SLOW_S", 3)
    slow: set[str | None] = set()
    with Library.create(tmp_path / "index", model="builtin") as library:
        run = RunOptions(workers=2, decode_timeout=0.5, decode_memory=2**30)
        first = library.index([faulty], run=run, progress=lambda step: slow.add(step.slow))
        assert first.indexed == 2
        assert slow - {None} == {str(faulty / "104.png")}
        reasons = {Path(problem.path).stem: problem.reason for problem in first.failed}
        assert reasons == {
            "101": "the decoder fails on it (SIGABRT)",
            "102": "decoding it takes more than 0.5 s of CPU time (`decode_timeout`)",
            "103": "decoding it takes more than 1024 MiB (`decode_memory`)",
            "104": "decoding it took more than 5 seconds",
            "105": "the decoder fails on it (exit code 3)",
            "106": "its decoder process was ended from outside (signal 9)",
            "108": "decoding it takes more than 1024 MiB (`decode_memory`)",
        }
        again = library.index([faulty], run=run)
        assert {Path(problem.path).stem for problem in again.failed} == {"104", "106"}
        assert (again.opened, again.failed_before) == (0, 5)
        more = library.index([faulty], run=replace(run, decode_timeout=0.6, decode_memory=2**31))
        assert {Path(problem.path).stem for problem in more.failed} == {"102", "103", "104", "106", "108"}


def test_a_crash_that_does_not_repeat_costs_nothing(
    faulty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    (faulty / "100.png").rename(tmp_path / "100.png")
    Image.linear_gradient("L").resize((109, 80)).save(tmp_path / "109.png")
    with Library.create(tmp_path / "index", model="builtin") as library:
        report = library.index([tmp_path / "100.png", tmp_path / "109.png"])
    assert (tmp_path / "mark").exists() and (report.indexed, report.failed) == (2, ())


def test_a_crash_in_a_process_of_a_large_program_is_not_taken_for_a_lack_of_memory(
    faulty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARK", str(faulty / "mark"))
    Image.linear_gradient("L").resize((109, 80)).save(faulty / "109.png")
    own = np.ones(600 * 2**20, np.uint8)  # As a model may take.
    with Workers(Limits(1, memory=2**29)) as workers:
        assert workers.do(functools.partial(pixels, faulty / "109.png")).shape == (3, 32, 32)
    assert own.all()


def test_what_a_decoder_writes_and_says_costs_only_its_file(faulty: Path, tmp_path: Path) -> None:
    paths = [faulty / "100.png", *(faulty / f"{width}.png" for width in (110, 111))]
    for path in paths[1:]:
        Image.linear_gradient("L").resize((int(path.stem), 80)).save(path)
        os.utime(path, (1e9, 1e9))
    with Library.create(tmp_path / "index", model="builtin") as library:
        assert library.index(paths).indexed == 1
        again = library.index()
    assert (again.failed_before, again.failed) == (2, ())


def test_limits_that_are_no_round_numbers_are_remembered(faulty: Path, tmp_path: Path) -> None:
    run = RunOptions(decode_memory=357_913_941, decode_timeout=0.1234567)
    Image.linear_gradient("L").resize((112, 80)).save(faulty / "112.png")
    os.utime(faulty / "112.png", (1e9, 1e9))
    with Library.create(tmp_path / "index", model="builtin") as library:
        report = library.index([faulty / f"{width}.png" for width in (102, 103, 112)], run=run)
        assert [problem.reason.rpartition(" (")[2] for problem in report.failed] == [
            "`decode_timeout`)",
            "`decode_memory`)",
            "`decode_memory`)",
        ]
        assert library.index(run=run).failed_before == 3


@pytest.mark.parametrize("width", [102, 104])
def test_a_process_at_work_ends_with_its_parent(width: int, faulty: Path, cli: Cli, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "clipsearch", "index", str(faulty / f"{width}.png"), "--model", "builtin"]
    parent = subprocess.Popen([*command, "--index", str(tmp_path / "index")], stderr=subprocess.DEVNULL)
    wait_for(lambda: any(cpu_or_sleep(pid) for pid in children(parent.pid)))
    orphans = children(parent.pid)
    parent.kill()
    parent.wait(30)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans), seconds=3)


def test_a_very_large_file_that_fails_costs_only_itself(faulty: Path, tmp_path: Path) -> None:
    os.truncate(faulty / "101.png", 257 * 2**20)  # It is decoded from the disk.
    with Library.create(tmp_path / "index", model="builtin") as library:
        report = library.index([faulty / "100.png", faulty / "101.png"])
    assert report.indexed == 1
    assert [problem.reason for problem in report.failed] == ["the decoder fails on it (SIGABRT)"]


def test_a_lower_limit_of_the_system_holds(cli: Cli, tmp_path: Path) -> None:
    Image.linear_gradient("L").save(tmp_path / "one.png")
    index = f"{sys.executable} -m clipsearch index one.png --model builtin --index index"
    done = subprocess.run(["bash", "-c", f"ulimit -d 1500000; {index}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nothing_on_standard_input_is_no_image(cli: Cli, tmp_path: Path) -> None:
    Image.linear_gradient("L").save(tmp_path / "one.png")
    assert cli("index", "one.png", "--model", "builtin", cwd=tmp_path).code == 0
    ran = cli("query", "-", cwd=tmp_path, input=b"")
    assert ran.code == 2 and "the file is empty" in ran.err


def test_a_fork_has_processes_of_its_own(tmp_path: Path) -> None:
    Image.linear_gradient("L").save(tmp_path / "one.png")
    task = functools.partial(pixels, tmp_path / "one.png")
    with Workers(Limits(1)) as workers:
        workers.do(task)
        before = children()
        with warnings.catch_warnings():  # Other threads of the test's process are none of its business.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            os._exit(0 if workers.do(task).shape == (3, 32, 32) and not children() & before else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert workers.do(task).shape == (3, 32, 32) and children() == before


@pytest.mark.parametrize("delay", [0.15, 0.3, 0.6])
def test_an_interrupt_of_the_whole_group_ends_a_run_in_order(delay: float, tmp_path: Path) -> None:
    for number in range(60):
        Image.linear_gradient("L").resize((900, 600 + number)).save(tmp_path / f"{number:03}.png")
    command = [sys.executable, "-m", "clipsearch", "index", str(tmp_path), "--index", str(tmp_path / "index")]
    run = subprocess.Popen(
        [*command, "--model", "builtin", "--workers", "6"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(delay)
    os.killpg(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode in (130, -signal.SIGINT), said
    assert "do not start" not in said


def test_queries_and_labels_survive_it_too(faulty: Path, cli: Cli, tmp_path: Path) -> None:
    (faulty / "104.png").unlink()  # It would take 200 seconds.
    env = {"PYTHONPATH": os.environ["PYTHONPATH"]}
    shutil.copytree(faulty, tmp_path / "good", ignore=shutil.ignore_patterns("10[1-68].png"))
    assert cli("index", "good", "--model", "builtin", cwd=tmp_path, env=env).code == 0
    ran = cli("query", "photos/101.png", cwd=tmp_path, env=env)
    assert ran.code == 2 and "101.png: the decoder fails on it (SIGABRT)" in ran.err
    ran = cli(
        "classify",
        str(faulty),
        "--labels",
        "red,blue",
        "--model",
        "builtin",
        "--json",
        cwd=tmp_path,
        env=env,
        timeout=200,
    )
    assert ran.code == 3 and ran.err.count("SIGABRT") == 1, ran.err


def test_thumbnails_and_evaluations_survive_it_too(faulty: Path, cli: Cli, tmp_path: Path) -> None:
    for slow in ("102.png", "104.png"):
        (faulty / slow).unlink()
    env = {"PYTHONPATH": os.environ["PYTHONPATH"]}
    for label in ("one", "two"):
        shutil.copytree(faulty, tmp_path / "labelled" / label)
    ran = cli("eval", "classify", "labelled", "--model", "builtin", "--json", cwd=tmp_path, env=env)
    assert ran.code == 3 and "SIGABRT" in ran.err, ran.err
    sound = {"PYTHONPATH": env["PYTHONPATH"].partition(os.pathsep)[2]}
    assert cli("index", "photos", "--model", "builtin", cwd=tmp_path, env=sound).code == 0
    ran = cli("query", "red", "--html", "hits.html", cwd=tmp_path, env=env)
    shown = (tmp_path / "hits.html").read_text().count("data:image/")
    assert (ran.code, shown) == (0, 2), ran.err  # 100 and 107


@pytest.mark.parametrize("form", ["WEBP", "JPEG2000", "JXL", "AVIF", "PNG"])
def test_a_lack_of_memory_is_not_taken_for_damage(form: str, tmp_path: Path) -> None:
    """Most decoders report it as damage, and some abort."""
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    image = Image.fromarray(noise).resize((6000, 6000))
    if form == "JXL":
        (tmp_path / "large").write_bytes(imagecodecs.jpegxl_encode(np.asarray(image), effort=1))
    else:
        quick = {"WEBP": {"method": 0}, "AVIF": {"speed": 10}, "PNG": {"compress_level": 1}}
        image.save(tmp_path / "large", form, **quick.get(form, {}))
    with Workers(Limits(1, memory=2**27)) as workers, pytest.raises(LimitError, match="more than 128 MiB"):
        workers.do(functools.partial(pixels, tmp_path / "large"))
    with Workers(Limits(1, memory=2**31)) as workers:
        assert workers.do(functools.partial(pixels, tmp_path / "large")).shape == (3, 32, 32)


def test_without_a_limit_a_lack_of_memory_is_not_remembered(faulty: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (faulty / "108.png").rename(tmp_path / "one" / "108.png")
    with Library.create(tmp_path / "index", model="builtin") as library:
        report = library.index([tmp_path / "one"], run=RunOptions(decode_memory=0))
        assert [problem.reason for problem in report.failed] == ["not enough memory to decode it now"]
        assert library.index(run=RunOptions(decode_memory=0)).failed_before == 0


@pytest.mark.parametrize("way", ["file", "stdin", "module"])
def test_a_script_without_a_main_guard_works(way: str, tmp_path: Path) -> None:
    Image.new("RGB", (50, 50), "red").save(tmp_path / "one.png")
    script = (
        "from clipsearch import Library\n"
        "library = Library.create('index', model='builtin')\n"
        "print(library.index(['one.png']).indexed)\n"
    )
    (tmp_path / "script.py").write_text(script)
    (tmp_path / "PIL.py").write_text("raise SystemExit('imported from the working directory')")
    command = {"file": ["script.py"], "stdin": ["-"], "module": ["-c", script]}[way]
    done = subprocess.run(
        [sys.executable, "-P", *command], cwd=tmp_path, input=script, capture_output=True, text=True, check=False
    )
    assert done.stdout == "1\n", done.stderr


def test_killed_processes_cost_no_image(tmp_path: Path) -> None:
    for number in range(40):
        Image.new("RGB", (600, 400), (number, 100, 0)).save(tmp_path / f"{number:02}.png")
    paths = sorted(tmp_path.glob("*.png"))
    ends: list[str] = []

    def killed(path: Path) -> Steps[str]:
        try:
            yield from pixels(path)
        except OSError as exc:
            return str(exc)
        return "decoded"

    with Workers(Limits(2)) as workers:
        for number, end in enumerate(workers.run(functools.partial(killed, path) for path in paths)):
            ends.append(end)
            if number % 5 == 0:
                os.kill(min(children()), signal.SIGKILL)
    assert len(ends) == len(paths)
    assert {end for end in ends if end != "decoded"} <= {"its decoder process was ended from outside (signal 9)"}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_parent_that_is_killed_leaves_no_process(how: signal.Signals, tmp_path: Path) -> None:
    for number in range(200):
        Image.new("RGB", (900, 600), (number, 100, 0)).save(tmp_path / f"{number:03}.png")
    command = [sys.executable, "-m", "clipsearch", "index", str(tmp_path), "--index", str(tmp_path / "index")]
    parent = subprocess.Popen([*command, "--model", "builtin"], stderr=subprocess.DEVNULL)
    wait_for(lambda: len(children(parent.pid)) > 0)
    orphans = children(parent.pid)
    parent.send_signal(how)
    parent.wait(30)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))


def cpu_or_sleep(pid: int) -> bool:
    """Whether a decoder process has had its file for a while: it loops, or waits for something else than a request."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11]
        return int(ticks) > 50 or "nanosleep" in Path(f"/proc/{pid}/wchan").read_text()
    return False


def children(parent: int = 0) -> set[int]:
    """The ids of the running child processes of this one, or of `parent`."""
    return set(_children(parent or os.getpid()))


def _children(parent: int) -> Iterator[int]:
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, owner = status.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(owner) == parent and state != "Z":
            yield int(status.parent.name)


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
