"""Readers of a server stay open for days, while other processes index, switch encoders, publish and prune."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from helpers import draw

from clipsearch import Library
from clipsearch.catalog import snapshots
from clipsearch.catalog.filters import Filter
from clipsearch.encoders.base import Encoder, EncoderOptions
from clipsearch.errors import NoLibraryError
from clipsearch.library import models
from clipsearch.search.query import QueryOptions
from clipsearch.search.terms import Indexed
from clipsearch.types import EncoderInfo, Hit

TINY = str(Path(__file__).parent / "tinyclip" / "tiny_clip.pt")
BASE = 60
SMALL = 4

WRITER = f"""
import json, sys
from clipsearch.catalog import snapshots
from clipsearch.__main__ import main
snapshots.SMALL = snapshots.MIN_TAIL = snapshots.MAX_TAIL = {SMALL}  # So that each run publishes.
sys.argv = ["clipsearch", *json.loads(sys.argv[1])]
sys.exit(main())
"""


def write(cli: Cli, folder: Path, *arguments: str) -> None:
    """Run a command in a process of its own."""
    command = [sys.executable, "-c", WRITER, json.dumps(arguments)]
    done = subprocess.run(command, cwd=folder, env=cli.env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def folder(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`photos/`, and `index/`, their library with the built-in encoder and a snapshot."""
    monkeypatch.setattr(snapshots, "SMALL", SMALL)
    monkeypatch.setenv("CLIPSEARCH_CACHE", cli.env["CLIPSEARCH_CACHE"])
    for number in range(BASE):
        draw(tmp_path / "photos" / f"{number:03}.png", number)
    write(cli, tmp_path, "index", "photos", "--model", "builtin")
    return tmp_path


@dataclass(frozen=True, eq=False)
class Answer:
    """What is to be equal, and numbers that may differ in their last digits: texts are embedded with or without others.

    Without what is judged by the baseline: it is measured once all images are there.
    """

    exact: Any
    numbers: Any

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Answer)
        return self.exact == other.exact and np.allclose(self.numbers, other.numbers, rtol=0, atol=1e-4)

    @classmethod
    def of(cls, model: str, hits: Sequence[Hit]) -> Answer:
        return cls((model, [replace(hit, score=0, relevance=None) for hit in hits]), [hit.score for hit in hits])


def query(terms: Any, **options: Any) -> Callable[[Library, Path], Answer]:
    def ask(library: Library, folder: Path) -> Answer:
        result = library.query(terms, **options)
        return Answer.of(result.model.spec, result.hits)

    return ask


def many(library: Library, folder: Path) -> Answer:
    results = library.query_many(["a ring", "a star"], k=5)
    return Answer.of(results[0].model.spec, [hit for result in results for hit in result.hits])


def show(library: Library, folder: Path) -> Answer:
    shown = library.show(9, k=4)
    # Views of another encoder appear before it is active.
    about = Answer.of("", shown.neighbours)
    return Answer((replace(shown, views=(), neighbours=()), about.exact), about.numbers)


def classify(library: Library, folder: Path) -> Answer:
    results = library.classify(None, ["red", "green", "blue"]).results
    labels = ["red", "green", "blue"]
    shares = [{p.label: p.probability for p in each.predictions} for each in results]
    return Answer([each.path for each in results], [[share[label] for label in labels] for share in shares])


def embed(library: Library, folder: Path) -> Answer:
    result = library.embed(["a ring", Indexed(11)])
    return Answer(result.model.spec, result.vectors)


KINDS: dict[str, Callable[[Library, Path], Answer]] = {
    "words": query("a red circle", k=12),
    "filtered": query("a red circle", k=9, where=Filter(formats=("PNG",))),
    "two terms": query(["a red circle", Indexed(7)], k=6),
    "excluded": query("a ring", k=6, options=QueryOptions(negative=["a red circle"], judge=False)),
    "many": many,
    "show": show,
    "classify": classify,
    "embed": embed,
    "digest": lambda library, folder: Answer(library.digest(11), []),
}


@dataclass
class Seen:
    """What one thread saw of one kind of question: the answers in a row, and what was raised."""

    answers: list[Any]
    error: BaseException | None = None


class Readers:
    """Two threads for each kind of question, each with a reader, that ask it again and again."""

    def __init__(self, library: Library, folder: Path) -> None:
        self._library = library
        self._folder = folder
        self._stop = threading.Event()
        self.readers = {(kind, number): library.reader() for kind in KINDS for number in range(2)}
        self._seen: dict[tuple[str, int], Seen] = {}

    def during(self, work: Callable[[], None]) -> dict[tuple[str, int], Seen]:
        """The answers while `work` is done; of equal ones in a row, one."""
        self._seen = {key: Seen([]) for key in self.readers}
        self._stop.clear()
        threads = [threading.Thread(target=self._ask, args=(*key, self._seen[key])) for key in self.readers]
        for thread in threads:
            thread.start()
        try:
            work()
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(120)
        return self._seen

    def _ask(self, kind: str, number: int, seen: Seen) -> None:
        try:
            while not self._stop.is_set():
                answer = KINDS[kind](self.readers[kind, number], self._folder)
                if not seen.answers or seen.answers[-1] != answer:
                    seen.answers.append(answer)
        except BaseException as exc:
            seen.error = exc

    def close(self) -> None:
        for reader in self.readers.values():
            reader.close()


@pytest.fixture
def readers(folder: Path) -> Iterator[Readers]:
    with Library.open(folder / "index", serving=True) as library:
        readers = Readers(library, folder)
        yield readers
        readers.close()


def fresh(folder: Path) -> dict[str, Any]:
    with Library.open(folder / "index") as library:
        return {kind: ask(library, folder) for kind, ask in KINDS.items()}


def judged(library: Library) -> Any:
    """Results with all that depends on the baseline of relevance."""
    few, relevant = QueryOptions(), QueryOptions(relevant=True)
    results = [
        library.query(terms, k=70, where=where, options=options)
        for terms in ("a red circle", ["a red circle", Indexed(7)])
        for where in (None, Filter(formats=("PNG",)))
        for options in (few, relevant)
    ]
    return [(result.hits, result.relevant, result.notices) for result in results]


def add(folder: Path, count: int) -> Callable[[], None]:
    def work() -> None:
        first = 1000 + len(list((folder / "photos").iterdir()))
        for number in range(first, first + count):
            draw(folder / "photos" / f"{number}.png", number)

    return work


def test_each_answer_is_that_of_a_fresh_library_before_or_after(cli: Cli, folder: Path, readers: Readers) -> None:
    def remove() -> None:
        for path in sorted((folder / "photos").iterdir())[20:30]:
            path.unlink()

    steps: list[tuple[Callable[[], None], list[str]]] = [
        (add(folder, 8), ["index"]),  # One transaction, and a new snapshot.
        (lambda: None, ["index", "--model", TINY]),
        (remove, ["index"]),
        (lambda: None, ["prune", "--encoder", "builtin"]),
        (lambda: None, ["index", "--model", "builtin"]),
        (lambda: None, ["prune", "--encoder", TINY, "--cache"]),
        (add(folder, 8), ["index"]),
        (add(folder, 8), ["index", "--engine", "ivf"]),
        (lambda: None, ["reroot", "photos", "elsewhere"]),
    ]
    shutil.copytree(folder / "photos", folder / "elsewhere")
    with Library.open(folder / "index") as library:
        library.query("a red circle", options=QueryOptions(relevant=True))  # Measures a baseline.
    for prepare, command in steps:
        prepare()
        before = fresh(folder)
        seen = readers.during(lambda command=command: write(cli, folder, *command))
        after = fresh(folder)
        for (kind, _), each in seen.items():
            assert each.error is None, (command, kind, each.error)
            for answer in each.answers:
                assert answer in (before[kind], after[kind]), (command, kind)
        for (kind, _), reader in readers.readers.items():
            assert KINDS[kind](reader, folder) == after[kind], (command, kind)


@pytest.fixture
def reader(folder: Path) -> Iterator[Library]:
    with Library.open(folder / "index", serving=True) as library, library.reader() as reader:
        yield reader


def facts(folder: Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(folder / "index" / "cache.db")) as cache:
        return cache.execute("SELECT * FROM facts").fetchall()


def test_relevance_is_judged_by_the_newest_baseline(cli: Cli, folder: Path, reader: Library) -> None:
    judged(reader)
    before = facts(folder)
    add(folder, 40)()
    write(cli, folder, "index")  # Grown by more than a fifth: it is measured again.
    now = facts(folder)
    assert now != before
    # As between the run's last transaction and its end.
    with contextlib.closing(sqlite3.connect(folder / "index" / "cache.db")) as cache, cache:
        cache.executemany("REPLACE INTO facts VALUES (?, ?, ?, ?)", before)
    unloaded = QueryOptions(explain=False)  # A query that has the model at hand measures it again.
    plain = reader.query("a red circle", k=70, options=unloaded)
    with contextlib.closing(sqlite3.connect(folder / "index" / "cache.db")) as cache, cache:
        cache.executemany("REPLACE INTO facts VALUES (?, ?, ?, ?)", now)
    assert reader.query("a red circle", k=70, options=unloaded) != plain
    with Library.open(folder / "index") as library:
        assert judged(reader) == judged(library)


def test_a_baseline_is_the_same_for_who_measures_it_and_later_queries(folder: Path, reader: Library) -> None:
    first = judged(reader)
    assert first[1][1] is not None
    with Library.open(folder / "index") as library:
        assert judged(library)[1:] == first[1:]


@pytest.mark.parametrize("ask", [KINDS["words"], KINDS["embed"], KINDS["many"]], ids=["words", "embed", "many"])
def test_an_encoder_that_is_dropped_during_a_question(
    cli: Cli,
    folder: Path,
    reader: Library,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[Library, Path], Answer],
) -> None:
    real, loaded = models.reload_encoder, []

    def reload(info: EncoderInfo, options: EncoderOptions) -> Encoder:
        loaded.append(info.spec)
        if len(loaded) == 1:  # It takes as long as all of this.
            write(cli, folder, "index", "--model", TINY)
            write(cli, folder, "prune", "--encoder", "builtin")
        return real(info, options)

    monkeypatch.setattr(models, "reload_encoder", reload)
    answer = ask(reader, folder)
    assert loaded == ["builtin", TINY]
    with Library.open(folder / "index") as library:
        assert answer == ask(library, folder)


def test_another_library_in_the_same_place(cli: Cli, folder: Path, reader: Library) -> None:
    assert reader.query("a circle", k=1).model.spec == "builtin"
    shutil.rmtree(folder / "index")
    with pytest.raises(NoLibraryError):
        reader.query("a circle", k=1)
    write(cli, folder, "index", "photos", "--model", TINY)
    assert KINDS["words"](reader, folder) == fresh(folder)["words"]
    os.rename(folder / "index", folder / "moved")
    shutil.copytree(folder / "moved", folder / "index")
    (folder / "photos" / "new.png").symlink_to(draw(folder / "new.png", 999))
    write(cli, folder, "index", "photos")
    assert {kind: ask(reader, folder) for kind, ask in KINDS.items()} == fresh(folder)


def test_a_cache_that_is_cleared_or_removed(cli: Cli, folder: Path, reader: Library) -> None:
    file = folder / "index" / "cache.db"
    for remove in (
        lambda: write(cli, folder, "prune", "--cache"),
        lambda: file.unlink(),
        lambda: file.write_bytes(b"not a database" * 1000),
        lambda: write(cli, folder, "prune", "--cache"),
    ):
        judged(reader)
        remove()
        with Library.open(folder / "index") as library:
            for _ in range(2):
                assert [hit.relevance for hit in reader.query("a ring", k=3)] == [None] * 3
                assert KINDS["words"](reader, folder) == KINDS["words"](library, folder)
            assert judged(reader)[1:] == judged(library)[1:]


def test_what_was_asked_is_gone_after_the_cache_was_cleared(cli: Cli, folder: Path, reader: Library) -> None:
    reader.query("something private", k=1)
    file = folder / "index" / "cache.db"
    assert b"something private" in file.read_bytes()
    write(cli, folder, "prune", "--cache")
    assert b"something private" not in file.read_bytes()
