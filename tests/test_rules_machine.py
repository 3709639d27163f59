"""Random file operations with index runs in between, held against the catalog's rules in a few lines."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from helpers import Shelf, draw
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

FOLDERS = ("", "a", "a/b", "c", ".h", "c/x")
NAMES = ("1.png", "2.png", "3.PNG", "note.txt")
EXCLUSIONS = ((), ("a",), ("2.png",), ("c/x",), ("*.PNG", "/a/b"))


class FilesAndRuns(RuleBasedStateMachine):
    """What is on the disk is its own model; `encoded` are the contents that a run has met and could decode."""

    paths = Bundle("paths")

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="clipsearch-rules-"))
        self.root = self.base / "photos"
        self.root.mkdir()
        self.shelf = Shelf(self.base / "library")
        self.exclude: tuple[str, ...] = ()
        self.hidden = False
        self.all_files = False
        self.clock = 0
        self.encoded: set[bytes] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.base)

    # What a person does to the files

    @initialize(target=paths)
    def first(self) -> Path:
        return self._write(self.root / "1.png", 0)

    @rule(target=paths, folder=st.sampled_from(FOLDERS), name=st.sampled_from(NAMES), seed=st.integers(0, 8))
    def write(self, folder: str, name: str, seed: int) -> Path:
        return self._write(self.root / folder / name, seed)

    def _write(self, path: Path, seed: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if seed == 8:
            path.write_bytes(b"no picture")
        else:
            draw(path, seed, format="PNG")
        return self._stamp(path)

    def _stamp(self, path: Path) -> Path:
        self.clock += 1
        os.utime(path, (1_600_000_000 + self.clock,) * 2)
        return path

    @rule(path=paths)
    def delete(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    @rule(path=paths)
    def touch(self, path: Path) -> None:
        if path.exists():
            self._stamp(path)

    @rule(target=paths, path=paths, folder=st.sampled_from(FOLDERS), name=st.sampled_from(NAMES), keep=st.booleans())
    def carry(self, path: Path, folder: str, name: str, keep: bool) -> Path:
        """Move or copy, over whatever is there; a move keeps the file's time, as `mv` does."""
        to = self.root / folder / name
        if path.exists() and to != path:
            to.parent.mkdir(parents=True, exist_ok=True)
            if keep:
                shutil.copyfile(path, to)
                self._stamp(to)
            else:
                path.rename(to)
        return to

    @rule(folder=st.sampled_from(FOLDERS[1:]))
    def remove_folder(self, folder: str) -> None:
        shutil.rmtree(self.root / folder, ignore_errors=True)

    @rule(exclude=st.sampled_from(EXCLUSIONS), hidden=st.booleans(), all_files=st.booleans())
    def change_options(self, exclude: tuple[str, ...], hidden: bool, all_files: bool) -> None:
        self.exclude, self.hidden, self.all_files = exclude, hidden, all_files
        self.index()

    @rule(path=paths)
    def remove_and_index_and_put_back(self, path: Path) -> None:
        if path.exists():
            about, data = path.stat(), path.read_bytes()
            path.unlink()
            self.index()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            os.utime(path, ns=(about.st_mtime_ns, about.st_mtime_ns))
            self.index()

    @rule()
    def index(self) -> None:
        report = self.shelf.index(self.root, exclude=self.exclude, hidden=self.hidden, all_files=self.all_files)
        on_disk, others = self._on_disk()
        contents = {hashlib.sha256(path.read_bytes()).digest() for path in on_disk}
        sound = {digest for digest in contents if digest != hashlib.sha256(b"no picture").digest()}
        assert report.encoded == len(sound - self.encoded)
        self.encoded |= sound
        counted = report.indexed + report.unchanged + report.moved + report.copied + report.restored
        assert counted + len(report.failed) + report.failed_before == len(on_disk)
        assert sum(report.ignored.values()) == others
        again = self.shelf.index()
        assert (again.opened, again.encoded, again.missing, again.excluded) == (0, 0, 0, 0)
        self._check(on_disk)

    def _on_disk(self) -> tuple[list[Path], int]:
        """What a run must find, and the number of files that are not images."""
        found = []
        others = 0
        for path in self.root.rglob("*"):
            parts = path.relative_to(self.root).parts
            inner = "/".join(parts)
            left_out = (
                ("a" in self.exclude and "a" in parts)
                or ("2.png" in self.exclude and path.name == "2.png")
                or ("c/x" in self.exclude and inner.startswith("c/x/"))
                or ("/a/b" in self.exclude and (inner.startswith("a/b/") or path.name.endswith(".PNG")))
                or (not self.hidden and any(part.startswith(".") for part in parts))
            )
            if not path.is_file() or left_out:
                continue
            if path.suffix.lower() == ".png" or (self.all_files and path.read_bytes() != b"no picture"):
                found.append(path)
            else:
                others += 1
        return found, others

    def _check(self, on_disk: list[Path]) -> None:
        known = self.shelf.states()
        assert {path for path, state in known.items() if state == "present"} == {str(path) for path in on_disk}
        rows = self.shelf.rows(
            "SELECT f.path, c.digest FROM files f JOIN contents c ON c.id = f.content_id WHERE f.state = 'present'"
        )
        for path, digest in rows:
            assert hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).digest() == digest
        for path, state in known.items():
            assert state in ("present", "missing") or self._may_be_away(Path(path)), (path, state)
        assert len(self.shelf.hits()) == self._live_contents()

    def _may_be_away(self, path: Path) -> bool:
        """Offline is only what lies below an empty folder."""
        return any(at.is_dir() and not any(at.iterdir()) for at in path.parents if at.is_relative_to(self.root))

    def _live_contents(self) -> int:
        return int(
            self.shelf.rows(
                "SELECT count(DISTINCT c.id) FROM contents c JOIN files f ON f.content_id = c.id "
                "WHERE f.state != 'missing' AND c.state = 'ok'"
            )[0][0]
        )

    @invariant()
    def vectors_are_never_lost(self) -> None:
        assert self.shelf.vectors() == len(self.encoded)


FilesAndRuns.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
test_files_and_runs = FilesAndRuns.TestCase
