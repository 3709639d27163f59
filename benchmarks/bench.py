"""What the rows share: folders, weights, libraries and commands, each made when the first row needs it."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import workers
from benchmarks.config import REPOSITORY, Config
from benchmarks.peers import Rclip
from benchmarks.processes import Run, Task, run

THINGS = ("cat", "boat", "tree", "house", "bird", "red car", "flower", "clock", "bridge", "horse", "table", "lamp")
PLACES = ("", " at night", " in the snow", " from above", " on a table", " behind a fence", " in the rain")


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint and the architecture to read it with; None where the file says."""

    name: str
    checkpoint: Path
    arch: str | None = None

    @property
    def words(self) -> list[str]:
        words = ["--model", str(self.checkpoint)]
        return [*words, "--arch", self.arch] if self.arch else words


BUILTIN = Model("builtin", Path("builtin"))


class Bench:
    """One run's working folder, and what lies in it."""

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        self.config = config
        self.sizes = config.sizes
        self.say = say
        self.work = config.work / ("quick" if config.quick else "whole")
        self.work.mkdir(parents=True, exist_ok=True)
        if not config.keep:
            shutil.rmtree(self.work / "libraries", ignore_errors=True)
        # Compiled modules are kept, as an installation brings them and a checkout makes them once.
        left_out = ("CLIPSEARCH_INDEX", "PYTHONSTARTUP", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
        self.env = {key: value for key, value in os.environ.items() if key not in left_out}
        self.env |= {"CLIPSEARCH_CACHE": os.fspath(self.work / "cache"), "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
        script = Path(sys.executable).with_name("clipsearch")
        self.program = [os.fspath(script)] if script.exists() else [sys.executable, "-m", "clipsearch"]
        self.rclip = Rclip.find(config.peers, self.work, self.env)
        self._texts = self._new_texts()

    # Weights and pictures

    def model(self, arch: str) -> Model:
        """Random weights of an architecture; in a quick run the small trained model, whatever is asked for."""
        if self.config.quick:
            return self.tiny_model()
        path = self.work / f"{arch}.safetensors"
        if not path.exists():
            self.say(f"making random weights of {arch}")
            workers.once("weights:make", env=self.env, arch=arch, path=path)
        return Model(f"{arch} (random weights)", path, arch)

    def tiny_model(self) -> Model:
        return Model("tiny_clip", REPOSITORY / "tests" / "tinyclip" / "tiny_clip.pt")

    def pictures(self, kind: str) -> Path:
        """The folder of "small", "large" or "tiny" pictures."""
        folder, done = self.work / "pictures" / kind, self.work / "pictures" / f"{kind}.json"
        source = None if self.config.photos is None else os.fspath(self.config.photos.absolute())
        wanted = {"count": getattr(self.sizes, kind), "source": source, "size": list(self.sizes.large_pixels)}
        if not done.exists() or json.loads(done.read_text()) != wanted:
            self.say(f"making {wanted['count']:,} {kind} pictures")
            shutil.rmtree(folder, ignore_errors=True)
            done.unlink(missing_ok=True)
            workers.once("pictures:make", env=self.env, kind=kind, folder=folder, **wanted)
            done.write_text(json.dumps(wanted))
        return folder

    def fresh(self, name: str) -> Path:
        """An empty folder."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def new_text(self) -> str:
        """A description that was not asked for before in this run: a tool that remembers gains nothing."""
        return next(self._texts)

    def _new_texts(self) -> Iterator[str]:
        for number in range(1_000_000):
            for place in PLACES:
                for thing in THINGS:
                    yield f"a photo of a {thing}{place}" + (f", number {number}" if number else "")

    # Commands of ours

    def task(self, *words: str | os.PathLike[str], before: Callable[[], object] = lambda: None) -> Task:
        """A command of the program, as it stands."""
        return self.asked(lambda: words, before=before)

    def asked(
        self,
        words: Callable[[], Sequence[str | os.PathLike[str]]],
        *,
        before: Callable[[], object] = lambda: None,
        watch: bool = False,
    ) -> Task:
        """A command of the program whose words are asked for ahead of every run."""
        return Task(lambda: [*self.program, *words()], self.env, self.work, before=before, watch=watch)

    def index(self, folder: Path, library: Path, model: Model, *, precision: str | None = None) -> Task:
        """Index a folder into a library that is not there yet."""
        words: list[str | os.PathLike[str]] = ["index", folder, "--index", library, *model.words, "--device", "cpu"]
        words += ["--precision", precision] if precision else []
        return self.task(*words, before=lambda: shutil.rmtree(library, ignore_errors=True))

    def query(self, library: Path, *, watch: bool = False) -> Task:
        """Ask a library with words that it has not heard before."""
        return self.asked(lambda: ["query", self.new_text(), "-k", "10", "--index", library, "--json"], watch=watch)

    def two(self) -> Path:
        """A folder of two small pictures."""
        folder = self.fresh("pictures/two")
        for path in sorted(self.pictures("small").iterdir())[:2]:
            shutil.copy(path, folder)
        return folder

    def small_library(self, model: Model, *, precision: str | None = None) -> Path:
        """A library of two pictures. Making one converts the model's weights: later runs find that done."""
        name = f"{model.checkpoint.stem}-{precision}" if precision else model.checkpoint.stem
        return self._small_library(name, model, precision)

    @functools.cache  # noqa: B019, a run has one Bench
    def _small_library(self, name: str, model: Model, precision: str | None) -> Path:
        library = self.work / "libraries" / name
        run(self.index(self.two(), library, model, precision=precision))
        run(self.query(library))
        return library

    @functools.cached_property
    def has_int8(self) -> bool:
        """Whether the program offers int8, which may come later than this."""
        import subprocess

        said = subprocess.run([*self.program, "index", "--help"], env=self.env, capture_output=True, text=True)
        return "--precision" in said.stdout

    @functools.cache  # noqa: B019
    def store(self, count: int) -> Path:
        """A library of `count` made-up vectors of the model that rclip uses, with the snapshot that a run publishes."""
        model = self.model("ViT-B-32-256")
        library, done = self.work / "libraries" / f"store-{count}", self.work / "libraries" / f"store-{count}.done"
        if not (done.exists() and library.exists()):
            self.say(f"filling a library with {count:,} vectors")
            done.unlink(missing_ok=True)
            run(self.index(self.two(), library, model))
            engine = "ivf" if self.config.quick and count == self.sizes.stores[1] else "auto"
            workers.once("stores:fill", env=self.env, library=library, count=count, engine=engine)
            run(self.task("index", "--index", library, "--device", "cpu"))
            done.touch()
        run(self.query(library))
        return library

    # What several rows look at

    @functools.cached_property
    def unchanged(self) -> tuple[Path, Run]:
        """The library of many tiny pictures, and what making it cost."""
        folder, library = self.pictures("tiny"), self.work / "libraries" / "tiny"
        self.small_library(self.tiny_model())
        self.say(f"indexing {self.sizes.tiny:,} tiny pictures")
        return library, run(self.index(folder, library, self.tiny_model()))
