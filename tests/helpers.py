"""A small library for tests of the catalog's rules: real files, a real catalog, and an encoder of a few lines."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import CATALOG_NAME, Catalog, EncoderRow
from clipsearch.evaluate import comparison
from clipsearch.files import absolute
from clipsearch.indexing.results import IndexReport, Progress
from clipsearch.indexing.roots import GivenOptions
from clipsearch.indexing.run import IndexRun, RunOptions, dry_run
from clipsearch.library import library, models
from clipsearch.search.neighbours import Searcher
from clipsearch.types import EncoderInfo, Preprocess, Seen

AN_HOUR_AGO = time.time() - 3600


def draw(path: Path, seed: int = 0, *, side: int = 24, **save: Any) -> Path:
    """An image of its own for each seed, an hour old, so that no file of a test is racy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    image = Image.frombytes("RGB", (4, 4), rng.randbytes(48)).resize((side, side), Image.Resampling.NEAREST)
    if path.suffix == ".png":
        save = {"compress_level": 0} | save  # all of one size: changes that only the bytes tell of can be made
    image.save(path, **save)
    return age(path)


def age(path: Path, seconds: float = 0) -> Path:
    os.utime(path, (AN_HOUR_AGO + seconds,) * 2)
    return path


class TinyEncoder:
    """Sees the average colours of an image's 4 × 4 parts. Counts what it encodes; `name` makes it another encoder."""

    def __init__(self, name: str = "tiny") -> None:
        shape = Preprocess(size=8)
        self.info = EncoderInfo(name, f"fingerprint of {name}", 48, 100.0, None, shape, is_clip=False)
        self.encoded = 0
        self._turn = np.random.default_rng(sum(name.encode())).permutation(48)

    def load_images(self) -> None:
        pass

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.encoded += len(batch)
        parts = batch.reshape(len(batch), 3, 4, 2, 4, 2).mean(axis=(3, 5)).reshape(len(batch), 48)
        vectors = parts[:, self._turn] - 127.4
        return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise NotImplementedError("it knows no words")

    def overflow(self, text: str) -> str:
        return ""

    def convert(self) -> None:
        pass

    def quantised(self, pixels: NDArray[np.uint8]) -> EncoderInfo:
        raise NotImplementedError("it has no 8-bit form")

    def explain(self, vector: NDArray[np.float32]) -> tuple[Seen, ...]:
        return ()


def load_tiny(spec: str, options: object = None) -> TinyEncoder:
    """What stands in for `encoders.load_encoder` in a test: every spec is a `TinyEncoder` of that name."""
    return TinyEncoder(spec)


def reload_tiny(info: EncoderInfo, options: object = None) -> TinyEncoder:
    return TinyEncoder(info.spec)


def use_encoders(put: Callable[[Any, str, Any], object], load: Callable[..., Any], reload: Callable[..., Any]) -> None:
    """Have these load every encoder that a library or an evaluation asks for: `put` is `setattr`, or undoes itself."""
    for module in (models, library, comparison):
        put(module, "load_encoder", load)
        if hasattr(module, "reload_encoder"):
            put(module, "reload_encoder", reload)


class Shelf:
    """A library that is filled by `TinyEncoder`, without the command line and without a model.

    `encoder` is the one it was made with, `loaded` how often a run asked for one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.encoder = TinyEncoder()
        self.loaded = 0
        if (folder / CATALOG_NAME).exists():
            return
        catalog = Catalog.create(folder)
        with catalog.transaction():
            catalog.set_meta("encoder_id", str(catalog.add_encoder(self.encoder.info).id))
        catalog.close()

    def index(
        self,
        *paths: Path | bytes,
        encoder: TinyEncoder | None = None,
        exclude: Sequence[str] | None = None,
        hidden: bool | None = None,
        follow: bool | None = None,
        all_files: bool | None = None,
        default_excludes: bool | None = None,
        ignore_files: bool | None = None,
        stop: Callable[[], bool] = lambda: False,
        batch_size: int = 16,
        progress: Callable[[Progress], None] | None = None,
        preview: bool = False,
        device: str = "cpu",
        **options: Any,
    ) -> IndexReport:
        given = GivenOptions(
            None if exclude is None else tuple(exclude), hidden, follow, all_files, default_excludes, ignore_files
        )
        run = RunOptions(given=given, batch_size=batch_size, **options)
        wanted = [absolute(p) for p in paths]
        catalog = Catalog.open(self.folder, writable=not preview)
        try:
            row = self._choose(catalog, encoder)
            if preview:
                return dry_run(catalog, wanted, run, encoder=row)
            chosen = encoder or self.encoder
            return IndexRun(
                catalog,
                lambda: self._load(chosen),
                row,
                run,
                device=device,
                progress=progress,
                stop=stop,
            ).run(wanted)
        finally:
            catalog.close()

    def _load(self, encoder: TinyEncoder) -> TinyEncoder:
        self.loaded += 1
        return encoder

    def _choose(self, catalog: Catalog, encoder: TinyEncoder | None) -> EncoderRow:
        answering = catalog.active()
        assert answering is not None
        if encoder is None or encoder.info.fingerprint == answering.info.fingerprint:
            return answering
        with catalog.transaction():
            row = catalog.add_encoder(encoder.info)
            catalog.set_meta("filling_id", str(row.id))
        return row

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        catalog = Catalog.open(self.folder)
        try:
            return catalog.conn.execute(sql, values).fetchall()
        finally:
            catalog.close()

    def states(self) -> dict[str, str]:
        """The state of every known file, by its path."""
        return {os.fsdecode(path): state for path, state in self.rows("SELECT path, state FROM files ORDER BY path")}

    def vectors(self) -> int:
        return int(self.rows("SELECT count(*) FROM embeddings")[0][0])

    def hits(self, image: Path | None = None, k: int = 1000) -> list[str]:
        """First paths of the images nearest to one (any, for all hits), best first."""
        catalog = Catalog.open(self.folder)
        try:
            row = catalog.active()
            assert row is not None
            query = np.full(48, 48**-0.5, np.float32)
            if image is not None:
                from clipsearch.images.open import open_image

                query = self.encoder.encode_images(
                    open_image(image.read_bytes()).pixels(self.encoder.info.preprocess)[None]
                )[0]
                self.encoder.encoded -= 1
            found = Searcher(catalog, QueryCache(self.folder)).nearest(row, query, k)
            contents = catalog.contents.with_files([n.content_id for n in found])
            return [os.fsdecode(contents[n.content_id].files[0][0]) for n in found]
        finally:
            catalog.close()


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """File permissions hold inside, even for root: for this thread, and the threads and processes that it starts."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: the low half, then the high half
    assert libc.capget(header, held) == 0
    dropped = (ctypes.c_uint32 * 6)(*held)
    dropped[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    set_securebits, no_root = 28, 1  # prctl(2), capabilities(7): a program that root starts gets no capabilities
    assert libc.prctl(set_securebits, no_root, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
    assert libc.capset(header, dropped) == 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        assert libc.capset(header, held) == 0
        assert libc.prctl(set_securebits, 0, 0, 0, 0) == 0


class Drive:
    """Another file system at `at`, that can be unplugged and plugged in again with what was on it.

    "tmpfs" is mounted there, and "bind" a folder of the same device, which both need to be root; "link" is a symbolic
    link to a folder on another device, which needs nothing but has to be followed.
    """

    def __init__(self, kind: str, at: Path) -> None:
        self.kind = kind
        self.at = at
        self._away = at.parent.parent / f"unplugged-{at.name}"
        if kind == "link":
            self._behind = Path(tempfile.mkdtemp(dir="/dev/shm"))
            at.symlink_to(self._behind / "drive")
            (self._behind / "drive").mkdir()
        else:
            at.mkdir(exist_ok=True)
            self._away.mkdir()
            tmpfs = ["-t", "tmpfs", "-o", "size=4m", "tmpfs"]
            subprocess.run(["mount", *(["--bind", self._away] if kind == "bind" else tmpfs), at], check=True)

    @staticmethod
    def possible(kind: str) -> bool:
        if kind == "link":
            return os.path.isdir("/dev/shm") and os.stat("/dev/shm").st_dev != os.stat(tempfile.gettempdir()).st_dev
        with tempfile.TemporaryDirectory() as folder:
            mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True).returncode == 0
            if mounted:
                subprocess.run(["umount", folder], check=True)
            return mounted

    def unplug(self) -> None:
        if self.kind == "link":
            (self._behind / "drive").rename(self._behind / "unplugged")
        elif self.kind == "bind":
            subprocess.run(["umount", self.at], check=True)
        else:
            subprocess.run(["mount", "--move", self.at, self._away], check=True)

    def plug(self) -> None:
        if self.kind == "link":
            (self._behind / "unplugged").rename(self._behind / "drive")
        elif self.kind == "bind":
            subprocess.run(["mount", "--bind", self._away, self.at], check=True)
        else:
            subprocess.run(["mount", "--move", self._away, self.at], check=True)

    def remove(self) -> None:
        if self.kind == "link":
            shutil.rmtree(self._behind)
        else:
            for place in (self.at, self._away):
                subprocess.run(["umount", "-l", place], capture_output=True)
