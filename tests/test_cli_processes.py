"""Several processes at once, signals, and pipes that close."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Cli
from PIL import Image

IMAGES = 112


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images that take a run some seconds."""
    folder = tmp_path_factory.mktemp("many")
    noise = random.Random(0)
    for number in range(IMAGES):
        Image.frombytes("RGB", (16, 12), noise.randbytes(576)).resize((320, 240)).save(folder / f"{number:03}.jpg")
    return folder


def counted(cli: Cli, cwd: Path) -> int:
    return int(cli("info", "--json", cwd=cwd).json["contents"].get("ok", 0))


def wait_for_a_batch(cli: Cli, cwd: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        assert process.poll() is None, process.communicate()
        if (cwd / "index" / "catalog.db").exists() and counted(cli, cwd):
            return
        time.sleep(0.02)
    raise AssertionError("no batch was committed")


def test_one_of_two_writers_works_and_the_other_names_it(cli: Cli, copied: Path) -> None:
    with open(copied / "index" / "lock", "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(b"%d\n" % os.getpid())
        lock.flush()
        ran = cli("index", cwd=copied)
        assert ran.code == 75 and f"process {os.getpid()} " in ran.err and "--wait" in ran.err
        assert cli("prune", cwd=copied).code == 75
        assert cli("query", "a cat", "-k", "1", cwd=copied).code == 0
        waiting = cli.start("index", "--wait", cwd=copied)
        time.sleep(1.5)
        assert waiting.poll() is None
    _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err


def test_two_runs_that_begin_at_once_make_one_library(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    def both(folder: Path, *options: str) -> list[tuple[int, bytes]]:
        folder.mkdir()
        line = ["index", indexed / "photos", "--model", "builtin", *options]
        processes = [cli.start(*line, cwd=folder) for _ in range(2)]
        ended = [(process, process.communicate(timeout=120)[1]) for process in processes]
        return sorted((process.returncode, err) for process, err in ended)

    (first, _), (second, said) = both(tmp_path / "one")
    assert first == 0 and (second == 0 or (second == 75 and b"is writing to the library" in said))
    assert [code for code, _ in both(tmp_path / "two", "--wait")] == [0, 0]
    for folder in (tmp_path / "one", tmp_path / "two"):
        assert counted(cli, folder) == 4 and cli("doctor", cwd=folder).code == 0


def test_a_run_in_progress_locks_out_another_and_answers_queries(cli: Cli, many: Path, tmp_path: Path) -> None:
    process = cli.start("index", many, "--model", "builtin", cwd=tmp_path)
    wait_for_a_batch(cli, tmp_path, process)
    asked = cli("query", "anything", "-k", "3", cwd=tmp_path)
    second = cli("index", cwd=tmp_path)
    running = process.poll() is None
    out, _ = process.communicate(timeout=120)
    assert running, "the run was over too soon to show anything"
    assert asked.code == 0 and len(asked.lines) == 3
    assert second.code == 75 and f"process {process.pid} " in second.err
    assert process.returncode == 0 and b"indexed %d files" % IMAGES in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_keeps_what_is_done(cli: Cli, many: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = cli.start("index", many, "--model", "builtin", "--json", cwd=tmp_path)
    wait_for_a_batch(cli, tmp_path, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"finishing the current batch" in err and b"picks up where it left off" in err and b"Traceback" not in err
    done = counted(cli, tmp_path)
    assert 0 < done < IMAGES and f'"indexed": {done}'.encode() in out and b'"interrupted": true' in out
    rest = cli("index", "--json", cwd=tmp_path).json
    assert (rest["indexed"], rest["unchanged"]) == (IMAGES - done, done)


def test_a_second_signal_ends_at_once(cli: Cli, many: Path, tmp_path: Path) -> None:
    process = cli.start("index", many, "--model", "builtin", cwd=tmp_path)
    wait_for_a_batch(cli, tmp_path, process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT) and b"Traceback" not in err
    assert cli("doctor", cwd=tmp_path).code == 0


def test_ctrl_c_while_waiting_for_the_lock(cli: Cli, copied: Path) -> None:
    with open(copied / "index" / "lock", "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = cli.start("index", "--wait", cwd=copied)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and b"Traceback" not in err


def test_ctrl_c_at_any_moment_of_a_query_is_one_line(cli: Cli, indexed: Path) -> None:
    """While modules are imported, too: an extension makes an ImportError of it, and Typer an exit code."""
    seen = set()
    for moment in range(14):
        process = subprocess.Popen(
            cli.command("query", f"a thing {moment}", "-k", "9"),
            cwd=indexed,
            env=cli.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        time.sleep(0.08 + 0.03 * moment)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        seen.add(process.returncode)
        if process.returncode == 130:
            assert err.splitlines()[-1:] == [b"error: interrupted"] and b"Traceback" not in err, err
        elif b"runpy" not in err and b"<frozen" not in err:  # before `main` is reached, Python itself answers
            assert process.returncode == 0 and b"error" not in err, (out, err)
    assert 130 in seen


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_quiet(cli: Cli, indexed: Path, unbuffered: str) -> None:
    for command in (["query", "a cat"], ["query", "a cat", "--json"], ["--help"], ["models"], ["info"]):
        reader, writer = os.pipe()
        os.close(reader)
        process = cli.start(*command, cwd=indexed, stdout=writer, unbuffered=unbuffered)
        os.close(writer)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (141, b""), command


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_no_success(cli: Cli, indexed: Path, unbuffered: str) -> None:
    with open("/dev/full", "wb") as full:
        process = cli.start("query", "a cat", cwd=indexed, stdout=full, unbuffered=unbuffered)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and b"no space left" in err.lower() and err.count(b"\n") == 1


def test_closed_standard_input_is_one_line(cli: Cli, indexed: Path) -> None:
    for command in ("query -", "index --files-from -", "classify photos --labels @-"):
        line = f"{shlex.join(map(str, cli.command(*command.split())))} <&-"
        done = subprocess.run(["bash", "-c", line], cwd=indexed, env=cli.env, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (2, "error: standard input is closed\n")


def test_without_any_standard_stream(cli: Cli, indexed: Path) -> None:
    line = " ".join(map(str, cli.command("query", "cat")))
    done = subprocess.run(["sh", "-c", f"exec {line} <&- >&- 2>&-"], cwd=indexed, env=cli.env, timeout=60)
    assert done.returncode == 0


def test_the_console_script_leaves_with_the_code_and_all_of_its_output(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    """It does not wait for Python to take everything apart: what was written into a file is there all the same."""
    script = Path(sys.executable).with_name("clipsearch")
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        done = subprocess.run([script, "query", "a cat", "--json"], cwd=indexed, env=cli.env, stdout=out, stderr=err)
    assert done.returncode == 0 and json.loads((tmp_path / "out").read_bytes())["hits"]
    failed = subprocess.run([script, "query"], cwd=indexed, env=cli.env, capture_output=True, text=True)
    assert failed.returncode == 2 and failed.stderr.startswith("error: ")
