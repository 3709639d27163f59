"""File names and files of every kind that a real disk holds, through the whole program."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pty
import shutil
import struct
import subprocess
import termios
from pathlib import Path

import pytest
from conftest import Cli

WITHOUT_ROOTS_POWERS = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
"""Root reads and writes everything unless these capabilities are taken away."""

ODD_NAMES = [
    b"new\nline.png",
    b"tab\there.png",
    b"\x1b[31mred\x1b[0m.png",
    "bell\x07 and \x9b31m.png".encode(),
    "right-\u202egnp.to-left.png".encode(),
    "🐈‍⬛ cat.png".encode(),
    b"invalid \xff\xfe utf-8.png",
    b"-k 3.png",
    b"--help.png",
    b" leading and trailing .png",
    b'quote\'s "both" $HOME `id`.png',
    b"#1 50% {label}.png",
]


@pytest.fixture(scope="module")
def odd(cli: Cli, indexed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One photograph under many names, each with another byte at its end, and their library."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "photos").mkdir()
    data = (indexed / "photos" / "rocket.jpg").read_bytes()
    for number, name in enumerate(ODD_NAMES):
        Path(os.fsdecode(os.path.join(os.fsencode(folder), b"photos", name))).write_bytes(data + bytes([number]))
    ran = cli("index", "photos", "--model", "builtin", "--json", cwd=folder)
    assert ran.code == 0 and ran.json["indexed"] == len(ODD_NAMES), ran.err
    return folder


def in_photos(folder: Path) -> set[bytes]:
    return {os.path.join(os.fsencode(folder), b"photos", name) for name in ODD_NAMES}


def test_every_name_comes_back_byte_for_byte(cli: Cli, odd: Path) -> None:
    ran = cli("query", "a rocket", "-k", "99", "-0", cwd=odd)
    assert set(ran.out.split(b"\0")[:-1]) == in_photos(odd)
    plain = cli("query", "a rocket", "-k", "99", cwd=odd)
    assert plain.out == ran.out.replace(b"\0", b"\n")
    assert cli("index", cwd=odd).lines[1].split() == [str(len(ODD_NAMES)), "unchanged"]


def test_json_is_readable_and_loses_nothing(cli: Cli, odd: Path) -> None:
    ran = cli("query", "a rocket", "-k", "99", "--json", cwd=odd)
    hits = json.loads(ran.out.decode("utf-8"))["hits"]
    paths = {base64.b64decode(h["path_b64"]) if "path_b64" in h else h["path"].encode() for h in hits}
    assert paths == in_photos(odd)
    assert [h["path"].endswith("invalid \ufffd\ufffd utf-8.png") for h in hits if "path_b64" in h] == [True]
    assert not set(ran.text) & {"\x1b", "\x07", "\x9b", "\x7f", "\u202e"}


def test_a_file_with_any_name_can_be_asked_for(cli: Cli, odd: Path) -> None:
    for name in ODD_NAMES:
        given = os.path.join(b"photos", name)
        ran = cli("query", given, "-k", "1", "-0", cwd=odd)
        assert ran.code == 0 and ran.out, name
        assert "\x1b" not in ran.err and ran.err.count("\n") == 1
        image = cli("classify", given, "--labels", "rocket", "cat", "-k", "1", "--json", cwd=odd)
        assert image.code == 0, name


def on_a_terminal(cli: Cli, *arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> bytes:
    """What a command writes to a terminal of 100 columns, stdout and stderr together."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    environment = cli.env | {"TERM": "xterm-256color", "COLUMNS": "100"} | (env or {})
    process = subprocess.Popen(
        cli.command(*arguments), cwd=cwd, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    parts = []
    while True:
        try:
            part = os.read(controller, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(controller)
    assert process.wait(timeout=60) == 0
    return b"".join(parts)


def test_no_name_steers_the_terminal(cli: Cli, odd: Path) -> None:
    shown = on_a_terminal(cli, "query", "a rocket", "-k", "99", cwd=odd, env={"NO_COLOR": "1"})
    text = shown.decode("utf-8").replace("\r\n", "\n")
    assert not set(text) & set(map(chr, [*range(9), *range(11, 32), *range(127, 160), 0x202E]))
    for escaped in ("new\\nline.png", "tab\\there.png", "\\x1b[31mred\\x1b[0m.png", "invalid \\xff\\xfe utf-8.png"):
        assert escaped in text
    assert len(text.splitlines()) == 1 + len(ODD_NAMES)
    assert "🐈" in text and "photos/" in text and str(odd) not in text


def test_colour_is_for_terminals_that_want_it(cli: Cli, odd: Path) -> None:
    assert b"\x1b[2m" in on_a_terminal(cli, "query", "a rocket", "-k", "1", cwd=odd)
    assert b"\x1b" not in on_a_terminal(cli, "query", "a rocket", "-k", "1", cwd=odd, env={"NO_COLOR": "1"})
    assert b"\x1b" not in on_a_terminal(cli, "query", "a rocket", "-k", "1", cwd=odd, env={"TERM": "dumb"})


def test_a_terminal_shows_progress_and_the_report(cli: Cli, odd: Path, tmp_path: Path) -> None:
    shown = on_a_terminal(cli, "index", odd / "photos", "--model", "builtin", cwd=tmp_path).decode()
    assert "scanning" in shown and f"| {len(ODD_NAMES)}/{len(ODD_NAMES)}, " in shown
    assert f"indexed {len(ODD_NAMES)} files in" in shown


# Kinds of files


def make_odd_files(folder: Path, photo: bytes) -> None:
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(photo)
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("hello")
    (folder / "cut.jpg").write_bytes(photo[: len(photo) // 2])
    (folder / "notes.txt").write_text("hello")
    (folder / "folder.jpg").mkdir()
    (folder / "nothing").mkdir()
    os.mkfifo(folder / "fifo.jpg")
    (folder / "dangling.jpg").symlink_to(folder / "gone.jpg")
    (folder / "link.jpg").symlink_to(folder / "photo.jpg")
    (folder / "loop").symlink_to(folder)
    (folder / "self.jpg").symlink_to(folder / "self.jpg")


@pytest.mark.parametrize("follow", [False, True])
def test_odd_files_neither_stop_a_run_nor_go_unmentioned(cli: Cli, indexed: Path, tmp_path: Path, follow: bool) -> None:
    make_odd_files(tmp_path / "odd", (indexed / "photos" / "rocket.jpg").read_bytes())
    options = ["--follow-symlinks"] if follow else []
    ran = cli("index", "odd", *options, "--model", "builtin", "--json", cwd=tmp_path, timeout=60)
    assert ran.code == 3
    report = ran.json
    assert report["indexed"] == 2 and report["copied"] == (1 if follow else 0)
    assert [Path(p["path"]).name for p in report["partial"]] == ["cut.jpg"]
    failed = {Path(p["path"]).name: p["reason"] for p in report["failed"]}
    assert failed["text.jpg"] == "not a picture in any known format"
    assert set(failed) - {"text.jpg", "dangling.jpg", "self.jpg"} == set()
    assert [Path(p["path"]).name for p in report["placeholders"]] == ["empty.jpg"]
    text = cli("index", "--rehash", cwd=tmp_path).text
    assert "indexed 0 files" in text


def test_a_file_that_is_no_regular_one_is_refused_by_name(cli: Cli, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jpg")
    ran = cli("index", "fifo.jpg", "--model", "builtin", cwd=tmp_path, timeout=60)
    assert ran.code == 2 and "fifo.jpg: neither a folder nor a regular file" in ran.err


def test_a_named_file_is_tried_whatever_its_suffix(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes((indexed / "photos" / "rocket.jpg").read_bytes())
    ran = cli("index", "picture", "--model", "builtin", "--json", cwd=tmp_path)
    assert ran.code == 0 and ran.json["indexed"] == 1
    like = cli("query", "picture", "-k", "1", cwd=tmp_path)
    assert like.lines == [str(tmp_path / "picture")]


def test_photographs_with_a_rare_suffix_are_found_in_a_folder(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    data = (indexed / "photos" / "rocket.jpg").read_bytes()
    (tmp_path / "photos").mkdir()
    for number, suffix in enumerate(("insp", "JPS", "pjpeg", "pjp")):
        (tmp_path / "photos" / f"{number}.{suffix}").write_bytes(data + bytes([number]))
    (tmp_path / "photos" / "modern.jxl").write_bytes(b"\xff\x0a\xfa\x7f")
    ran = cli("index", "photos", "--model", "builtin", "--json", cwd=tmp_path)
    assert ran.json["indexed"] == 4


def test_an_empty_folder_is_indexed_and_searched(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert cli("index", "photos", "--model", "builtin", cwd=tmp_path).code == 0
    assert cli("classify", "photos", "--labels", "cat", "dog", cwd=tmp_path).out == b""


# Permissions


def test_files_and_folders_without_permission_fail_alone(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(indexed / "photos", photos)
    (photos / "secret").mkdir()
    shutil.move(photos / "rocket.jpg", photos / "secret")
    (photos / "secret").chmod(0)
    (photos / "coffee.png").chmod(0)
    limited = {"prefix": WITHOUT_ROOTS_POWERS} if os.geteuid() == 0 else {}
    ran = cli("index", "photos", "--model", "builtin", "--json", cwd=tmp_path, **limited)
    reasons = {Path(p["path"]).name: p["reason"].lower() for p in ran.json["failed"]}
    (photos / "secret").chmod(0o755)
    assert ran.code == 3 and ran.json["indexed"] == 3, ran.out
    assert set(reasons) == {"secret", "coffee.png"} and all("permission denied" in r for r in reasons.values())
    (photos / "coffee.png").chmod(0o644)
    again = cli("index", "--json", cwd=tmp_path, **limited)
    assert again.code == 0 and again.json["indexed"] + again.json["copied"] + again.json["restored"] == 2


def test_a_library_that_cannot_be_written_still_answers(cli: Cli, copied: Path) -> None:
    limited = {"prefix": WITHOUT_ROOTS_POWERS} if os.geteuid() == 0 else {}
    for path in (copied / "index").iterdir():
        path.chmod(0o444)
    (copied / "index").chmod(0o555)
    try:
        ran = cli("query", "a cat", "-k", "1", cwd=copied, **limited)
        assert ran.code == 0 and ran.lines[0].endswith("chelsea.png") and ran.err == ""
        for command in (["index"], ["prune"]):
            refused = cli(*command, cwd=copied, **limited)
            assert refused.code == 2 and "cannot write to the library" in refused.err, refused
        (copied / "plain").mkdir(mode=0o555)
        made = cli("index", ".", "--index", "plain/new", "--model", "builtin", cwd=copied, **limited)
        assert made.code == 2 and "cannot make a library" in made.err
    finally:
        (copied / "index").chmod(0o755)
