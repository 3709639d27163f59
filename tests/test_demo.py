"""`clipsearch demo`: right answers on real photographs, without a network."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from conftest import Cli, Ran

from clipsearch.cli.commands import demo


@pytest.fixture(scope="module")
def shown(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    folder = tmp_path_factory.mktemp("demo")
    ran = cli("demo", cwd=folder)
    assert ran.code == 0, ran.err
    return folder, ran


def parts(ran: Ran) -> dict[str, list[str]]:
    """What was printed after each command."""
    found: dict[str, list[str]] = {}
    command = ""
    for line in ran.lines:
        if line.startswith("$ "):
            command = line[2:]
        elif command:
            found.setdefault(command, []).append(line)
    return found


def test_it_answers_rightly(shown: tuple[Path, Ran]) -> None:
    best = {}
    for command, lines in parts(shown[1]).items():
        words = shlex.split(command)
        if words[1] == "query":
            best[words[2]] = lines[1].split()[-1]
    assert best == {
        "a cat": "clipsearch-demo/chelsea.png",
        "a rocket launch": "clipsearch-demo/rocket.jpg",
        "a cup of coffee": "clipsearch-demo/coffee.png",
    }
    [classes] = [lines for command, lines in parts(shown[1]).items() if " classify " in command]
    assert classes[0] == "clipsearch-demo/chelsea.png" and classes[1].split()[2] == "cat"


def test_every_command_that_it_prints_works_as_printed(cli: Cli, shown: tuple[Path, Ran]) -> None:
    folder, ran = shown
    commands = list(parts(ran))
    assert [shlex.split(command)[1] for command in commands] == ["index", "query", "query", "query", "classify"]
    for command in commands:
        again = cli(*shlex.split(command)[1:], cwd=folder)
        assert again.code == 0 and again.out, command
    assert "What next?" in ran.text


def test_it_says_that_the_encoder_is_not_clip(shown: tuple[Path, Ran]) -> None:
    assert "not CLIP" in shown[1].text


def test_it_can_be_run_again(cli: Cli, shown: tuple[Path, Ran]) -> None:
    again = cli("demo", cwd=shown[0])
    assert again.code == 0 and f"{len(demo.PHOTOS)}  unchanged" in again.text


def test_it_writes_into_no_folder_with_other_things(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    ran = cli("demo", tmp_path, cwd=tmp_path)
    assert ran.code == 2 and "mine.txt" in ran.err and list(tmp_path.iterdir()) == [tmp_path / "mine.txt"]


def test_without_scikit_image_it_names_the_extra(cli: Cli, tmp_path: Path) -> None:
    # A path entry that finds no package of that name comes before those that do.
    code = (
        "import sys, importlib.machinery as m\n"
        "find = m.PathFinder.find_spec\n"
        "class Without:\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        return None if name == 'skimage' else find(name, path, target)\n"
        "sys.meta_path[:] = [Without if f is m.PathFinder else f for f in sys.meta_path]\n"
        "sys.argv = ['clipsearch', 'demo']\n"
        "from clipsearch.__main__ import main\n"
        "sys.exit(main())\n"
    )
    ran = Ran(*_run(code, cli, tmp_path))
    assert ran.code == 1 and "pip install 'clipsearch[demo]'" in ran.err and ran.err.count("\n") == 1


def _run(code: str, cli: Cli, cwd: Path) -> tuple[int, bytes, str]:
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=cli.env, capture_output=True, timeout=60)
    return done.returncode, done.stdout, done.stderr.decode()
