"""Completion, in real shells on a pseudo-terminal: what a person's TAB gives, and what install does to their files."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from conftest import Cli, Ran
from helpers import Shelf, TinyEncoder
from test_imports import HEAVY

from clipsearch.catalog.catalog import Catalog
from clipsearch.classify import store
from clipsearch.classify.classifier import Classifier
from clipsearch.classify.labels import Label
from clipsearch.cli import completion, shells
from clipsearch.encoders.known import ROWS

ROOT = Path(__file__).parents[1]
INSIDE_CI = "CI_RUN_LIMITED" in os.environ


def needs(shell: str) -> Any:
    """CI installs all three; elsewhere a shell may be missing."""
    return pytest.mark.skipif(not INSIDE_CI and shutil.which(shell) is None, reason=f"{shell} is not installed")


EVERY_SHELL = [pytest.param(shell, marks=needs(shell)) for shell in get_args(shells.Shell)]


@pytest.fixture
def home(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home, with `clipsearch` on the PATH and a few files in `work/`."""
    home, programs = tmp_path / "home", tmp_path / "bin"
    programs.mkdir()
    program = programs / "clipsearch"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m clipsearch "$@"\n')
    program.chmod(0o755)
    work = home / "work"
    (work / "photos").mkdir(parents=True)
    for name in ("beach.jpg", "my dog.jpg", "pets.txt", "plants of mine.txt"):
        (work / name).touch()
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR", "CLIPSEARCH_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SHELL", "/bin/sh")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("TERM", "xterm")
    return home


class Terminal:
    """An interactive shell in `home`/work. Ctrl-G prints the line being edited, Alt-* puts all candidates into it."""

    def __init__(self, shell: str, home: Path) -> None:
        command = {"bash": ["bash", "--noprofile", "-i"], "zsh": ["zsh", "-d", "-i"]}[shell]
        self.child, self.fd = pty.fork()
        if self.child == 0:
            os.chdir(home / "work")
            os.execvp(command[0], command)
        self.send(KEYS[shell] + "\r")
        self.until("ready>>")

    def send(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def until(self, sign: str) -> str:
        heard, end = "", time.monotonic() + 60
        while sign not in heard:
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"no {sign!r} in {heard!r}")
            heard += os.read(self.fd, 65536).decode(errors="replace")
        return heard

    def line(self, keys: str) -> str:
        """What stands on the line after these keys."""
        self.send(f"\x15{keys}\x07")
        return re.search(r"<<(.*?)>>", self.until(">>"), re.DOTALL)[1]  # type: ignore[index]

    def close(self) -> None:
        os.kill(self.child, 9)
        os.waitpid(self.child, 0)
        os.close(self.fd)


KEYS = {
    "bash": r"""bind -x '"\C-g": printf "<<%s>>" "$READLINE_LINE"'; bind '"\e*": insert-completions'; echo ready'>>'""",
    "zsh": (
        "dump() { print -rn -- '<<'$BUFFER'>'; print -rn -- '>' }; zle -N dump; bindkey '^G' dump; "
        "bindkey '^U' kill-whole-line; bindkey '\\e*' all-matches; zle -C all-matches complete-word _generic; "
        "zstyle ':completion:all-matches::::' completer _all_matches; "
        "zstyle ':completion:all-matches:*' old-matches only; zstyle ':completion:all-matches::::' insert true; "
        "echo ready'>>'"
    ),
}


@contextlib.contextmanager
def terminal(shell: str, home: Path) -> Iterator[Terminal]:
    opened = Terminal(shell, home)
    try:
        yield opened
    finally:
        opened.close()


def offered(shell: str, home: Path, line: str) -> list[str]:
    """All that a shell would complete `line` with."""
    if shell == "fish":
        command = ["fish", "-c", f"cd {home}/work; complete -C {subprocess.list2cmdline([line])}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return [found.partition("\t")[0] for found in done.stdout.splitlines()]
    with terminal(shell, home) as opened:
        keys = "\t\x1b*" if shell == "zsh" else "\x1b*"
        return opened.line(line + keys).removeprefix(line.rpartition(" ")[0] + " ").split()


def install(cli: Cli, home: Path, shell: str, *, code: int = 0) -> str:
    ran = cli("completion", "install", "--shell", shell, cwd=home, env={"HOME": str(home)})
    assert ran.code == code, ran.err
    return ran.text + ran.err


@needs("bash")
def test_bash_completes_as_one_types(cli: Cli, home: Path) -> None:
    install(cli, home, "bash")
    with terminal("bash", home) as bash:
        assert bash.line("clipsearch rer\t") == "clipsearch reroot "
        assert bash.line("clipsearch models p\t") == "clipsearch models pull "
        assert bash.line("clipsearch index --til\tau\t") == "clipsearch index --tiles auto "
        assert bash.line("clipsearch index --model xlm\t") == (
            "clipsearch index --model xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k "
        )
        # What bash takes apart at @ and = comes out whole.
        assert bash.line("clipsearch index --model ViT-L/14@\t") == "clipsearch index --model ViT-L/14@336px "
        assert bash.line("clipsearch index --model=RN50x1\t") == "clipsearch index --model=RN50x16 "
        assert bash.line("clipsearch classify b.jpg --labels @pe\t") == "clipsearch classify b.jpg --labels @pets.txt "
        assert bash.line("clipsearch classify b.jpg --labels @pl\t") == (
            "clipsearch classify b.jpg --labels @plants\\ of\\ mine.txt "
        )
        assert bash.line("clipsearch classify b.jpg --labels 'a cat' \"@pl\t") == (
            "clipsearch classify b.jpg --labels 'a cat' \"@plants of mine.txt\""
        )
        assert bash.line("clipsearch query my\t") == "clipsearch query my\\ dog.jpg "
        assert bash.line("clipsearch query x --copy-to ph\t") == "clipsearch query x --copy-to photos/"
        assert bash.line("clipsearch query x --copy-to be\t") == "clipsearch query x --copy-to be"
        assert bash.line("clipsearch query x -k b\t") == "clipsearch query x -k b"
        assert bash.line("clipsearch nonsense --mo\t") == "clipsearch nonsense --mo"
        assert bash.line("true; A=1 clipsearch rer\t") == "true; A=1 clipsearch reroot "
        assert bash.line("clipsearch classify --labels=@pe\t") == "clipsearch classify --labels=@pets.txt "
        assert bash.line("clipsearch classify --labels a:b @pe\t") == "clipsearch classify --labels a:b @pets.txt "
        assert bash.line("clipsearch query x --copy-to=ph\t") == "clipsearch query x --copy-to=photos/"
        assert bash.line("clipsearch query ~/work/be\t") == "clipsearch query ~/work/beach.jpg "
        assert bash.line('clipsearch query "$HOME/work/be\t') == 'clipsearch query "$HOME/work/beach.jpg"'
        assert bash.line("clipsearch index --model 'ViT-L/14@\t") == "clipsearch index --model 'ViT-L/14@336px'"


@needs("zsh")
def test_zsh_completes_as_one_types(cli: Cli, home: Path) -> None:
    install(cli, home, "zsh")
    with terminal("zsh", home) as zsh:
        assert zsh.line("clipsearch rer\t") == "clipsearch reroot "
        assert zsh.line("clipsearch index --til\tau\t") == "clipsearch index --tiles auto "
        assert zsh.line("clipsearch index --model ViT-L/14@\t") == "clipsearch index --model ViT-L/14@336px "
        assert zsh.line("clipsearch index --model=RN50x1\t") == "clipsearch index --model=RN50x16 "
        assert zsh.line("clipsearch classify b.jpg --labels @pe\t") == "clipsearch classify b.jpg --labels @pets.txt "
        assert zsh.line("clipsearch classify b.jpg --labels 'a cat' @pl\t") == (
            "clipsearch classify b.jpg --labels 'a cat' @plants\\ of\\ mine.txt "
        )
        assert zsh.line("clipsearch classify b.jpg --labels @ph\t") == "clipsearch classify b.jpg --labels @photos/"
        assert zsh.line("clipsearch query my\t") == "clipsearch query my\\ dog.jpg "
        assert zsh.line("clipsearch query x --copy-to ph\t") == "clipsearch query x --copy-to photos/"
        assert zsh.line("clipsearch query x -k b\t") == "clipsearch query x -k b"


@needs("fish")
def test_fish_offers_with_meanings(cli: Cli, home: Path) -> None:
    install(cli, home, "fish")
    assert offered("fish", home, "clipsearch rer") == ["reroot"]
    assert offered("fish", home, "clipsearch index --til") == ["--tiles"]
    assert offered("fish", home, "clipsearch index --model ViT-L/14@") == ["ViT-L/14@336px"]
    assert offered("fish", home, "clipsearch classify b.jpg --labels @p") == [
        "@pets.txt",
        "@photos/",
        "@plants of mine.txt",
    ]
    assert offered("fish", home, "clipsearch query my") == ["my dog.jpg"]
    assert offered("fish", home, "clipsearch query x --copy-to p") == ["photos/"]
    assert offered("fish", home, "clipsearch query x -k b") == []


@pytest.mark.parametrize("shell", EVERY_SHELL)
def test_every_command_and_model_is_offered(cli: Cli, home: Path, shell: str) -> None:
    from clipsearch.cli.app import COMMANDS

    install(cli, home, shell)
    assert sorted(offered(shell, home, "clipsearch ")) == sorted(COMMANDS)
    assert sorted(offered(shell, home, "clipsearch models pull ")) == sorted(row.spec for row in ROWS)


@pytest.mark.parametrize("shell", EVERY_SHELL)
def test_a_query_is_offered_the_models_that_its_library_holds(cli: Cli, home: Path, indexed: Path, shell: str) -> None:
    install(cli, home, shell)
    assert offered(shell, home, f"clipsearch query --index {indexed / 'index'} dog --model ") == ["builtin"]


@pytest.mark.parametrize("shell", EVERY_SHELL)
def test_ids_and_what_the_library_holds_are_offered(cli: Cli, home: Path, indexed: Path, shell: str) -> None:
    install(cli, home, shell)
    library = Shelf(home / "work/index").folder
    store.save_labels(library, "pens", [Label("oak")])
    assert offered(shell, home, "clipsearch classify b.jpg --labels cat @pe") == ["@pens", "@pets.txt"]
    assert offered(shell, home, f"clipsearch query --index {indexed / 'index'} id:4") == ["id:4"]


# The answer to a shell


def words(*before: str, current: str = "") -> list[str]:
    line = " ".join(["clipsearch", *before, current])
    return [found.partition("\t")[0] for found in completion.answer("fish", line).splitlines()]


CHOICES = {
    ("index", "--engine"): "auto exact ivf",
    ("index", "--precision"): "fp32 int8",
    ("index", "--tiles"): "none auto all",
    ("query", "--sort"): "score taken path",
    ("query", "--state"): "ok partial",
    ("query", "--format"): "jpeg png gif webp bmp tiff jpeg2000 ppm jxl avif heif raw",
    ("info", "--files"): "failed unsupported partial missing offline unreadable",
    ("index", "--device"): "auto cpu cuda mps",
    ("completion show", "--shell"): "bash zsh fish",
}


@pytest.mark.parametrize(("command", "option"), list(CHOICES))
def test_every_choice_is_one_that_the_command_takes(cli: Cli, indexed: Path, command: str, option: str) -> None:
    assert sorted(words(command, option)) == sorted(CHOICES[command, option].split())
    more = {"query": ["cat"], "index": ["--dry-run"]}.get(command, [])
    for choice in words(command, option):
        if choice not in ("cuda", "mps"):  # where there is such a device
            assert cli(*command.split(), *more, option, choice, cwd=indexed).code == 0, choice
    assert cli(*command.split(), *more, option, "nonsense", cwd=indexed).code == 2


def test_what_comes_before_decides() -> None:
    assert words("classify", "--labels", "a") == ["@imagenet"]
    assert words("classify", "--labels", "a", "b", current="--cs") == ["--csv"]
    assert words("classify", "--labels", "a", "--csv", "--template") == []
    assert words("query", "--", current="--mod") == [completion.FILES]
    assert words("--debug", "cla", current="x") == []
    assert words("--debug", current="rer") == ["reroot"]
    assert words(current="--deb") == ["--debug"]
    assert words("models", "pull", current="RN101") == ["RN101"]
    assert words("reroot", "a") == words("eval", "classify") == [completion.FOLDERS]
    assert words("index", "--model", current="./w") == words("query", "--with") == [completion.FILES]
    assert words("query", "-k") == words("query", "--taken") == []


def test_kept_label_sets_and_classifiers_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    library = Shelf(tmp_path / "index").folder
    store.save_labels(library, "pets", [Label("cat"), Label("dog")])
    store.save_labels(library, "places", [Label("beach")])
    assert words("classify", "x.jpg", "--labels", current="@pe") == ["@pets"]
    assert words("classify", "x.jpg", "--labels") == ["@pets", "@places", "@imagenet"]
    assert words("labels", "show") == ["pets", "places"]
    info = TinyEncoder().info
    store.save_classifier(library, "kinds", Classifier(info, (Label("cat"),), np.ones((1, info.dim), np.float32)))
    assert words("classify", "x.jpg", "--use") == words("classifiers", "delete") == ["kinds"]
    assert words("classify", "--index", "nowhere", "--use") == []


def test_ids_begin_with_the_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    catalog = Catalog.open(Shelf(tmp_path / "index").folder, writable=True)
    with catalog.transaction():
        for number in range(1, 124):
            digest = number.to_bytes(32, "big")
            content = catalog.contents.put(digest, size=1, state="ok", reason=None, decoder="", now="")
            catalog.files.put(f"/photos/{number}.jpg".encode(), content_id=content, size=1, mtime_ns=1)
    catalog.close()
    assert words("show", current="id:12") == ["id:12", "id:120", "id:121", "id:122", "id:123"]
    assert len(words("query", "--like", current="id:")) == 20
    assert words("query", current="id:999") == words("query", current="id:-1") == [completion.FILES]
    assert "id:123\t/photos/123.jpg\n" in completion.answer("fish", "clipsearch query id:123")


def test_broken_lines_and_odd_names_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("$(touch harm) `x`;.txt", "two\nlines.txt", os.fsdecode(b"\xff.txt")):
        (tmp_path / name).touch()
    assert words("query", "x", "--model") == [completion.FILES], "without a library"
    answer = completion.answer("bash", "clipsearch classify --labels @", "@")
    assert "\n@\\$\\(touch\\ harm\\)\\ \\`x\\`\\;.txt \n" in answer and "two" not in answer and "ff" not in answer
    for line in ("", "clipsearch", "clipsearch '", 'clipsearch "\\', "clipsearch query 'a\\' b", "clipsearch -- ''"):
        for shell in get_args(shells.Shell):
            completion.answer(shell, line)
    assert completion.answer("zsh", "clipsearch ").startswith("index:")


def asked(cli: Cli, cwd: Path, shell: str, *before: str, current: str = "") -> Ran:
    """What a shell's script gets."""
    line = " ".join(["clipsearch", *before, current])
    return cli(current, cwd=cwd, env={"_CLIPSEARCH_COMPLETE": shell, "COMP_LINE": line, "COMP_POINT": str(len(line))})


@pytest.mark.parametrize("shell", get_args(shells.Shell))
def test_nothing_but_the_answer_is_printed(cli: Cli, tmp_path: Path, shell: str) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "catalog.db").write_bytes(b"not a catalog")
    for line in (["--version"], ["query", "--model", "nonsense", "--device", "nonsense"], ["nonsense", "x"]):
        ran = asked(cli, tmp_path, shell, *line, current="--vers")
        assert (ran.code, ran.err) == (0, "") and "0." not in ran.text, line
    ran = asked(cli, tmp_path, shell, "query", "--model", current="R")
    assert (ran.code, ran.err) == (0, "") and ran.text in ("", completion.FILES + "\n")
    assert asked(cli, tmp_path, shell, current="--debug").text.startswith("--debug")


def test_the_scripts_of_earlier_versions_get_no_answer(cli: Cli, tmp_path: Path) -> None:
    for line in (["bash", "clipsearch rer", " =:@"], ["zsh", "--debug"], ["fish"], []):
        ran = cli("__complete", *line, cwd=tmp_path)
        assert (ran.code, ran.out, ran.err) == (0, b"", "")


@pytest.mark.parametrize("line", ["index --model ", "classify --labels @", "query id:", "classify --use ", ""])
def test_a_key_press_waits_for_no_heavy_import(cli: Cli, indexed: Path, line: str) -> None:
    program = "import sys; from clipsearch.cli.run import main; main(['']); sys.stderr.write(' '.join(sys.modules))"
    env = cli.env | {"_CLIPSEARCH_COMPLETE": "zsh", "COMP_LINE": f"clipsearch {line}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=env, cwd=indexed, capture_output=True, text=True)
    assert done.stdout or "--use" in line
    assert not (HEAVY | {"matplotlib", "skimage", "jinja2", "click"}) & set(done.stderr.split())
    declared = {name for name in done.stderr.split() if name.startswith("clipsearch.cli.commands.")}
    assert len(declared) == 1 or not line, "only the command that is named"


# Installing

RC = b"# mine, \xff too\nalias ll='ls -l'\n"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_install_adds_to_an_rc_file_once_and_uninstall_takes_it_back(cli: Cli, home: Path, shell: str) -> None:
    real = home / "dotfiles"
    real.write_bytes(RC)
    real.chmod(0o640)
    rc = home / f".{shell}rc"
    rc.symlink_to(real)
    said = install(cli, home, shell)
    assert f"~/.{shell}rc" in said and "uninstall" in said and "~/.local/share/clipsearch/completion" in said
    once = rc.read_bytes()
    assert once.startswith(RC) and once.count(b"clipsearch completion") == 2
    assert "already" in install(cli, home, shell)
    assert rc.read_bytes() == once
    ran = cli("completion", "uninstall", "--shell", shell, cwd=home, env={"HOME": str(home)})
    assert ran.code == 0 and f"~/.{shell}rc" in ran.text
    assert rc.is_symlink() and rc.read_bytes() == RC and stat.S_IMODE(real.stat().st_mode) == 0o640
    assert not (home / ".local/share/clipsearch" / f"completion.{shell}").exists()
    assert "is not set up" in cli("completion", "uninstall", "--shell", shell, cwd=home, env={"HOME": str(home)}).text
    assert sorted(p.name for p in home.iterdir() if p.is_file()) == sorted(["dotfiles", f".{shell}rc"])


def test_what_stands_behind_our_lines_stays_behind_them(cli: Cli, home: Path) -> None:
    rc = home / ".bashrc"
    rc.write_bytes(b"no newline at the end")
    install(cli, home, "bash")
    with rc.open("ab") as file:
        file.write(b"export LATER=1\n")
    moved = {"HOME": str(home), "XDG_DATA_HOME": str(home / "it's data")}
    assert cli("completion", "install", "--shell", "bash", cwd=home, env=moved).code == 0
    lines = rc.read_bytes().splitlines()
    assert lines[:2] == [b"no newline at the end", b"export LATER=1"] and len(lines) == 5
    check = f'. {home}/.bashrc && echo "$LATER" && complete -p clipsearch'
    done = subprocess.run(["bash", "--norc", "-c", check], capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == "1" and "clipsearch" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_file_that_is_not_ours_is_left_alone(cli: Cli, home: Path, shell: str) -> None:
    script = shells.Place(home / ".config/fish/completions/clipsearch.fish", None).script
    if shell == "bash":
        script = home / ".local/share/clipsearch/completion.bash"
    script.parent.mkdir(parents=True)
    script.write_text("# mine\n")
    said = install(cli, home, shell, code=2)
    assert str(script) in said and len(said.splitlines()) == 1
    assert script.read_text() == "# mine\n" and not (home / ".bashrc").exists()
    cli("completion", "uninstall", "--shell", shell, cwd=home, env={"HOME": str(home)})
    assert script.read_text() == "# mine\n"


def test_half_a_mark_or_a_folder_in_the_way_is_said_and_nothing_is_written(cli: Cli, home: Path) -> None:
    (home / ".bashrc").write_bytes(RC + shells.BEGIN + b"\n")
    assert "by hand" in install(cli, home, "bash", code=2)
    assert (home / ".bashrc").read_bytes() == RC + shells.BEGIN + b"\n"
    (home / ".zshrc").mkdir()
    said = install(cli, home, "zsh", code=2)
    assert ".zshrc" in said and len(said.splitlines()) == 1
    assert not (home / ".local").exists()


def test_the_shell_is_the_one_that_it_runs_in(cli: Cli, home: Path) -> None:
    env = cli.env | {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", "-c", "clipsearch completion show; true"], env=env, capture_output=True, text=True)
    assert done.stdout == shells.script("bash")
    ran = cli("completion", "show", cwd=home, env={"HOME": str(home), "SHELL": "/usr/bin/fish"})
    assert ran.text == shells.script("fish")
    ran = cli("completion", "install", cwd=home, env={"HOME": str(home), "SHELL": "/bin/tcsh"})
    assert ran.code == 2 and "--shell" in ran.err
    assert cli("completion", "install", "--shell", "tcsh", cwd=home, env={"HOME": str(home)}).code == 2
    ran = cli("completion", cwd=home)
    assert ran.code == 2 and len(ran.err.splitlines()) == 1 and "completion install" in ran.err


def test_an_rc_file_that_cannot_be_is_refused_before_anything_is_written(cli: Cli, home: Path) -> None:
    (home / ".bashrc").symlink_to(home / "gone" / "bashrc")
    assert "whose folder does not exist" in install(cli, home, "bash", code=2)
    (home / ".bashrc").unlink()
    os.mkfifo(home / ".bashrc")
    assert "not a regular file" in install(cli, home, "bash", code=2)
    assert not list(home.glob("**/completion.bash"))


def test_lines_that_stand_twice_are_both_removed(cli: Cli, home: Path) -> None:
    install(cli, home, "bash")
    rc = home / ".bashrc"
    rc.write_bytes(rc.read_bytes() * 2)
    assert cli("completion", "uninstall", "--shell", "bash", cwd=home, env={"HOME": str(home)}).code == 0
    assert b"clipsearch" not in rc.read_bytes()
