"""Other tools, where they are installed: rclip, and loops over open_clip and transformers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.config import REPOSITORY
from benchmarks.processes import Task

LOOPS = REPOSITORY / "benchmarks" / "loops.py"


@dataclass(frozen=True, slots=True)
class Rclip:
    """rclip with a data folder of its own for each purpose; its model files, stand-ins, are linked into it."""

    program: Path
    weights: Path
    work: Path
    env: Mapping[str, str]

    @classmethod
    def find(cls, peers: Path | None, work: Path, env: Mapping[str, str]) -> Rclip | None:
        """The one in the folder of peers: venv-rclip/ holds it, weights/rclip/ what it would have downloaded."""
        if peers is None:
            return None
        program, weights = peers / "venv-rclip" / "bin" / "rclip", peers / "weights" / "rclip"
        return cls(program.absolute(), weights.absolute(), work, env) if program.exists() and weights.exists() else None

    def data(self, name: str) -> Path:
        """A data folder; made where it is not there."""
        folder = self.work / "rclip" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            for item in self.weights.iterdir():
                if not item.name.startswith("."):
                    (folder / item.name).symlink_to(item)
        return folder

    def forget(self, name: str) -> None:
        """Remove what it has indexed."""
        for file in self.data(name).glob("db.sqlite3*"):
            file.unlink()

    def fill(self, name: str, folder: Path, count: int = 0) -> None:
        """Fill its database with random vectors: `count` made-up pictures below a folder, or the pictures in it."""
        done = self.data(name) / ".filled"
        wanted = f"{folder} {folder.stat().st_mtime_ns} {count}"
        if done.exists() and done.read_text() == wanted:
            return
        self.forget(name)
        python = self.program.with_name("python")
        command: list[str | Path] = [python, REPOSITORY / "benchmarks" / "fill_rclip.py", folder, str(count)]
        env = {**self.env, "RCLIP_DATADIR": os.fspath(self.data(name))}
        subprocess.run(command, check=True, env=env, capture_output=True)
        done.write_text(wanted)

    def task(
        self,
        name: str,
        folder: Path,
        words: Callable[[], list[str]],
        *,
        before: Callable[[], object] = lambda: None,
        watch: bool = False,
    ) -> Task:
        """Run it in a folder: it indexes what is below, unless told not to, and answers a query."""
        env = {**self.env, "RCLIP_DATADIR": os.fspath(self.data(name))}
        return Task(lambda: [self.program, *words()], env, folder, before=before, watch=watch)


def open_clip_loop(folder: Path, checkpoint: Path, arch: str, *, env: Mapping[str, str], work: Path) -> Task:
    """The plain loop over open_clip, which is installed wherever clipsearch is."""
    return Task(lambda: [sys.executable, LOOPS, "open_clip", folder, checkpoint, arch], env, work)


def transformers_loop(folder: Path, peers: Path | None, *, env: Mapping[str, str], work: Path) -> Task | None:
    """The loop over transformers: venv-torch/ in the folder of peers holds it, weights/hf/ a model. None: neither."""
    if peers is None:
        return None
    python, model = peers / "venv-torch" / "bin" / "python", peers / "weights" / "hf"
    if not (python.exists() and model.exists()):
        return None
    command: list[str | Path] = [python.absolute(), LOOPS, "transformers", folder, model.absolute()]
    return Task(lambda: command, env, work)
