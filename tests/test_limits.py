"""Values at the edge of what a file system, an option or an environment can hold: none of them ends in a traceback."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from conftest import Cli
from helpers import draw

from clipsearch import Library
from clipsearch.catalog.filters import Filter, Near
from clipsearch.errors import UsageError
from clipsearch.indexing.run import RunOptions
from clipsearch.search.query import QueryOptions
from clipsearch.search.terms import Indexed, Text


def _at(path: Path, time: int) -> int:
    """Set a file's modification time in nanoseconds, as near as the file system can; the time that it now has."""
    os.utime(path, ns=(time, time))
    return path.stat().st_mtime_ns


@pytest.mark.parametrize(
    "time", [2**63, 2**63 + 5, 2**64, 2**70, 2**63 - 1, -1, -2, 0, -(2**63), -(2**63) - 1, -(2**70)]
)
def test_any_modification_time_is_indexed_once(time: int, cli: Cli, tmp_path: Path) -> None:
    odd = _at(draw(tmp_path / "photos" / "odd.png", 1), time)
    draw(tmp_path / "photos" / "plain.png", 2)
    first = cli("index", "photos", "--model", "builtin", "--json", cwd=tmp_path)
    assert first.code == 0, first.err
    assert (first.json["indexed"], first.json["failed"]) == (2, [])
    reported = [text for text in first.json["notices"] if "modification time" in text]
    assert len(reported) == (abs(odd) >= 2**63 - 1)
    assert all("odd.png" in text for text in reported)
    again = cli("index", "--json", cwd=tmp_path)
    assert (again.code, again.json["unchanged"], again.json["opened"], again.json["notices"]) == (0, 2, 0, [])
    assert cli("show", "photos/odd.png", "--json", cwd=tmp_path).code == 0
    assert cli("classify", "photos/odd.png", "--labels", "cat", "dog", cwd=tmp_path).code == 0
    assert cli("query", "photos/odd.png", cwd=tmp_path).code == 0


def test_many_odd_times_take_few_lines(cli: Cli, tmp_path: Path) -> None:
    for number in range(8):
        _at(draw(tmp_path / "photos" / f"{number}.png", number), 2**63)
    ran = cli("index", "photos", "--model", "builtin", cwd=tmp_path)
    lines = [line for line in ran.err.splitlines() if "modification time" in line]
    assert ran.code == 0
    assert len(lines) == 6
    assert "0.png" in lines[0]
    assert "3 more files" in lines[-1]


def test_a_changed_file_of_an_odd_time_is_read_again(cli: Cli, tmp_path: Path) -> None:
    photo = draw(tmp_path / "photos" / "a.png", 1)
    _at(photo, 2**63)
    assert cli("index", "photos", "--model", "builtin", cwd=tmp_path).code == 0
    draw(photo, 2, side=40)
    _at(photo, 2**63)
    assert cli("index", "--json", cwd=tmp_path).json["indexed"] == 1


# Numbers and dates that an option can hold

HUGE = str(10**30)
DIGITS = "9" * 5000

WORKS = [
    ("query", "cat", "--indexed-since", "0001-01-01T00:00:00+10:00"),
    ("query", "cat", "--indexed-since", "9999-12-31T23:59:59-10:00"),
    ("query", "cat", "--min-size", f"{DIGITS}x1"),
    ("query", "cat", "--min-size", f"{'0' * 5000}1x1"),
    ("query", "cat", "-k", HUGE),
    ("show", "1", "-k", HUGE),
    ("eval", "index", "--sample", HUGE),
    ("index", "--dry-run", "--max-pixels", "1e308"),
]
REFUSED = [
    (("query", f"id:{DIGITS}"), "the library holds no such image"),
    (("show", DIGITS), "no such image"),
    (("similarity", f"id:{DIGITS}", "cat"), "the library holds no such image"),
    (("query", "cat", "--with", f"dog^{DIGITS}"), "a weight must be from 0.001 to 1000"),
    (("query", "cat", "--without", f"dog^0.{'0' * 400}1"), "a weight must be from 0.001 to 1000"),
    (("query", "cat", "--near", "0,0,1e400"), "kilometres above 0"),
    (("query", "cat", "--near", "nan,0,1"), "latitude within ±90"),
    (("index", "--workers", str(10**9)), "--workers 1000000000: must be from 0 to 256"),
    (("index", "--batch-size", HUGE), "must be from 0 to 4096"),
    (("index", "--max-pixels", "nan"), "must be a number of megapixels"),
]


@pytest.mark.parametrize("line", WORKS, ids=lambda line: " ".join(line)[:60])
def test_extreme_values_that_work(line: tuple[str, ...], cli: Cli, copied: Path) -> None:
    ran = cli(*line, cwd=copied, timeout=100)
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(("line", "said"), REFUSED, ids=lambda value: " ".join(value)[:60])
def test_extreme_values_that_are_refused(line: tuple[str, ...], said: str, cli: Cli, copied: Path) -> None:
    ran = cli(*line, cwd=copied)
    assert (ran.code, said in ran.err, ran.err.count("\n")) == (2, True, 1), ran.err


def test_a_region_of_any_size_is_a_region_or_refused(cli: Cli, indexed: Path) -> None:
    for region in (f"{DIGITS},0,10,10", f"0,0,{DIGITS},10", f"0%,0%,1%,{DIGITS}%"):
        ran = cli("query", f"photos/chelsea.png#{region}", cwd=indexed)
        assert ran.code == 2
        assert "is outside the image" in ran.err


def test_the_same_numbers_in_python(copied: Path) -> None:
    with Library.open(copied / "index") as library:
        for wrong in (10**30, -(10**30), 0):
            with pytest.raises(UsageError, match="no such image"):
                library.query(Indexed(wrong))
            with pytest.raises(UsageError, match="no such image"):
                library.show(wrong)
        for weight in (float("nan"), float("inf"), 1e38, 1e-45, 0, -1):
            with pytest.raises(UsageError, match="a weight must be from"):
                library.query("cat", options=QueryOptions(negative=[Text("dog", weight)]))
        assert not library.query("cat", where=Filter(min_size=(10**30, 1))).hits
        assert not library.query("cat", where=Filter(near=Near(0, 0, 10**30))).hits
    for place in ((float("nan"), 0, 1), (0, float("inf"), 1), (0, 0, float("inf")), (91, 0, 1)):
        with pytest.raises(UsageError, match="`near`"):
            Near(*place)
    for number in (-1, 10**30, float("nan")):
        for name in ("workers", "batch_size", "decode_timeout"):
            with pytest.raises(UsageError, match=name):
                RunOptions(**{name: number})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="max_pixels"):
        RunOptions(max_pixels=0)


# Words and paths that are not UTF-8

LATIN = b"caf\xe9"


@pytest.mark.parametrize(
    "line",
    [
        ("query", LATIN),
        ("query", "--text", "red", LATIN),
        ("query", "cat", "--with", LATIN),
        ("query", "cat", "--without", LATIN),
        ("query", "cat", "--like", LATIN),
        ("query", "cat", "--camera", LATIN),
        ("query", "cat", "--model", LATIN),
        ("query", "cat", "--model", b"./caf\xe9.pt"),
        ("similarity", "cat", LATIN),
        ("similarity", "cat", "dog", "--model", LATIN),
        ("classify", "photos", "--labels", LATIN),
        ("classify", "photos", "--labels", "cat", "--template", LATIN + b" {}"),
        ("classify", "photos", "--labels", "cat", "--model", LATIN),
        ("index", "photos", "--model", LATIN),
        ("labels", "save", LATIN, "cat"),
    ],
)
@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0"}], ids=["UTF-8", "C"])
def test_words_that_are_not_utf8_take_one_line(
    line: tuple[str | bytes, ...], locale: dict[str, str], cli: Cli, indexed: Path
) -> None:
    ran = cli(*line, cwd=indexed, env=locale)
    assert ran.code == 2, ran.err
    assert (ran.out, ran.err.count("\n")) == (b"", 1)
    assert "caf\\" in ran.err


def test_words_that_are_not_utf8_in_python(copied: Path) -> None:
    with Library.open(copied / "index") as library:
        for words in ("\udc80", "\ud800"):
            for wrong in (
                lambda words=words: library.query(words),
                lambda words=words: library.query_many(["cat", words]),
                lambda words=words: library.similarity(["cat", words]),
                lambda words=words: library.query("cat", where=Filter(camera=words)),
                lambda words=words: library.query("cat", options=QueryOptions(model=words)),
            ):
                with pytest.raises(UsageError, match="not valid UTF-8"):
                    wrong()
        for path in ("a\0b", "\ud800.jpg"):
            with pytest.raises(UsageError, match="a path cannot contain"):
                library.show(Path(path))


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0"}], ids=["UTF-8", "C"])
def test_file_names_that_are_not_utf8_keep_their_bytes(locale: dict[str, str], cli: Cli, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/f\xfcr"
    photo = folder + b"/caf\xe9.png"
    os.mkdir(folder)
    os.rename(draw(tmp_path / "plain.png"), photo)
    library = b"b\xfccher"

    def run(*line: str | bytes) -> bytes:
        ran = cli(*line, "--index", library, cwd=tmp_path, env=locale)
        assert ran.code == 0, ran.err
        assert "cannot" not in ran.err
        return ran.out

    run("index", folder, "--model", "builtin")
    assert run("query", photo) == photo + b"\n"
    assert run("query", "cat", "--in", folder) == photo + b"\n"
    assert run("classify", photo, "--labels", "cat", "dog").startswith(photo + b"\t")
    run("show", photo)
    run("doctor")
    run("query", "cat", "--copy-to", b"c\xf6pies")
    assert os.listdir(os.fsencode(tmp_path) + b"/c\xf6pies") == [b"caf\xe9.png"]


# No home folder, no cache


@pytest.mark.parametrize(
    "home",
    [
        {"HOME": "~"},  # As where there is neither HOME nor an entry in the password database.
        {"HOME": "relative"},
        {"HOME": "/nonexistent/home"},
        {"HOME": os.devnull},
        {"HOME": "~", "TMPDIR": "/nonexistent"},
        {"XDG_CACHE_HOME": os.devnull},
        {"XDG_CACHE_HOME": "relative"},
    ],
    ids=str,
)
def test_everything_works_without_a_home_folder(home: dict[str, str], cli: Cli, indexed: Path, tmp_path: Path) -> None:
    shutil.copytree(indexed / "photos", tmp_path / "photos")
    env = home | {"CLIPSEARCH_CACHE": "", "HF_HOME": ""}
    for line in (
        ("index", "photos"),
        ("index", "photos", "--rehash"),
        ("query", "a cat"),
        ("query", "photos/chelsea.png"),
        ("classify", "photos/chelsea.png", "--labels", "cat", "dog"),
        ("similarity", "cat", "dog"),
        ("info",),
        ("models",),
        ("doctor",),
        ("demo", "demo"),
        ("completion", "show", "--shell", "bash"),
        ("eval", "index"),
    ):
        ran = cli(*line, cwd=tmp_path, env=env)
        assert ran.code == 0, (line, ran.err)
        assert "unexpected" not in ran.err
    assert {"~", "dev"}.isdisjoint(os.listdir(tmp_path))


def test_a_home_folder_that_does_not_exist_is_part_of_the_name(cli: Cli, indexed: Path) -> None:
    for line in (
        ("query", "cat", "--index", "~nobody-here/x"),
        ("show", "~nobody-here/x"),
        ("forget", "~nobody-here/x"),
    ):
        ran = cli(*line, cwd=indexed)
        assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
        assert "~nobody-here/x" in ran.err
    ran = cli("completion", "install", "--shell", "zsh", cwd=indexed, env={"HOME": "~"})
    assert (ran.code, ran.err) == (2, "error: there is no home folder to install completion in; set HOME\n")


# What a refused run leaves behind


@pytest.mark.parametrize(
    "line",
    [
        ("index", "fifo", "--model", "builtin"),
        ("index", os.devnull, "--model", "builtin"),
        ("index", "nowhere", "--model", "builtin"),
        ("index", "photos", "--index", "photos", "--model", "builtin"),
        ("index", "photos", "--model", "nothing-like-that"),
        ("index", "photos", "--model", "builtin", "--threads", str(10**9)),
        ("index", "photos", "--model", "builtin", "--engine", "none"),
        ("index", "photos", "--model", "builtin", "--precision", "int8"),
        ("index", "photos", "--model", "builtin", "--index", f"new/{'x' * 300}/index"),
        ("index", "photos", "--model", "builtin", "--index", "fifo/index"),
        ("demo", f"new/{'x' * 300}"),
        ("demo", "fifo/demo"),
        ("classify", "nowhere", "--labels", "cat", "--model", "builtin", "--copy-to", "new/copies"),
        ("query", "cat", "--index", "nowhere", "--copy-to", "new/copies", "--html", "new/page.html"),
        ("labels", "save", "name", "cat", "--index", "nowhere"),
    ],
    ids=lambda line: " ".join(line)[:60],
)
def test_a_refused_run_leaves_nothing_behind(line: tuple[str, ...], cli: Cli, tmp_path: Path) -> None:
    draw(tmp_path / "photos" / "a.png")
    os.mkfifo(tmp_path / "fifo")
    ran = cli(*line, cwd=tmp_path)
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.png", "fifo", "photos"]
