"""How the catalog of a library is reached: threads share one reader, and one process writes at a time."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import CATALOG_NAME, Catalog, exists
from clipsearch.catalog.connections import damage_translated
from clipsearch.catalog.lock import LOCK_NAME, writer_lock
from clipsearch.errors import ClipsearchError, NoLibraryError, UsageError, reason
from clipsearch.files import making_folder, sync
from clipsearch.search.neighbours import Searcher
from clipsearch.types import EncoderInfo

Answer = TypeVar("Answer")

ATTEMPTS = 3


class Access:
    """The way into the library in the folder `path`, whether there is one yet or not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._catalog: Catalog | None = None
        self._cache: QueryCache | None = None
        self._searcher: Searcher | None = None
        self._answering = threading.RLock()
        self._closed = False

    @property
    def exists(self) -> bool:
        """Whether there is a catalog in the folder. Raises UsageError where that cannot be seen."""
        catalog = self.path / CATALOG_NAME
        return exists(catalog) and catalog.stat().st_size > 0

    def require(self) -> None:
        """Raise UsageError once the library was closed, NoLibraryError where there is no catalog."""
        self._refuse_closed()
        if not self.exists:
            raise NoLibraryError(f"no library in {self.path}", advice="`clipsearch index FOLDER` creates one")

    def refuse_existing(self) -> None:
        """Raise UsageError where there is a catalog."""
        if self.exists:
            raise UsageError(f"there is already a library in {self.path}")

    def create(self, info: EncoderInfo, fallback: str | None) -> None:
        """Make the catalog, with the encoder `info` as the active one; `fallback` tells why it is the built-in one.

        Raises UsageError where the folder cannot be written, or where another process was faster.
        """
        try:
            with making_folder(self.path), self.lock():
                if not self.exists:
                    _make_catalog(self.path, info, fallback)
        except OSError as exc:
            raise UsageError(f"cannot make a library in {self.path}: {reason(exc)}") from exc
        made = self.reader().active()
        if made is None or made.info.fingerprint != info.fingerprint:
            self._drop()
            self.refuse_existing()

    def close(self) -> None:
        """Wait for the thread that reads the catalog now, and refuse what comes later."""
        with self._answering:
            self._closed = True
            self._drop()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise UsageError(f"the library in {self.path} is closed", advice="open it again")

    def _drop(self) -> None:
        if self._catalog is not None:
            self._catalog.close()
        if self._cache is not None:
            self._cache.close()
        self._catalog = self._cache = self._searcher = None

    def reader(self) -> Catalog:
        """The catalog for reading; opened again where it was read without SQLite's locks and has changed since."""
        self._refuse_closed()
        if self._catalog is not None and self._catalog.is_stale():
            self._drop()
        if self._catalog is None:
            self._catalog = Catalog.open(self.path)
        return self._catalog

    def answer(self, question: Callable[[Catalog], Answer]) -> Answer:
        """Put a question to the catalog; again where it was read without SQLite's locks and changed meanwhile.

        Also where another process has dropped an encoder: it may be the one that was active when the question began.
        """
        with self._answering, damage_translated(self.path):
            for attempt in range(1, ATTEMPTS + 1):
                catalog = self.reader()
                encoders = catalog.fingerprints()
                try:
                    answer = question(catalog)
                except ClipsearchError:
                    if attempt == ATTEMPTS or not self._is_outdated(catalog, encoders):
                        raise
                else:
                    if attempt == ATTEMPTS or not self._is_outdated(catalog, encoders):
                        return answer
            raise AssertionError("unreachable")

    def _is_outdated(self, catalog: Catalog, encoders: set[str]) -> bool:
        if catalog.is_stale():
            self._drop()
            return True
        return not encoders <= catalog.fingerprints()

    def search_tools(self, catalog: Catalog) -> tuple[QueryCache, Searcher]:
        """The query cache and the searcher of the catalog that `answer` hands to a question."""
        if self._cache is not None and self._cache.is_replaced():
            self._cache.close()
            self._cache = None
        if self._cache is None or self._searcher is None:
            self._cache = QueryCache(self.path)
            self._searcher = Searcher(catalog, self._cache)
        return self._cache, self._searcher

    @contextmanager
    def lock(self, *, wait: bool = False, stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Keep all other writers out. Raises LockedError unless `wait`, which ends once `stop` is true."""
        with writer_lock(self.path / LOCK_NAME, wait=wait, stop=stop):
            yield

    @contextmanager
    def writer(self, *, wait: bool = False, stop: Callable[[], bool] = lambda: False) -> Iterator[Catalog]:
        """The catalog for writing, locked. Raises NoLibraryError and LockedError."""
        self.require()
        with self.lock(wait=wait, stop=stop):
            catalog = Catalog.open(self.path, writable=True)
            try:
                with damage_translated(self.path):
                    yield catalog
            finally:
                catalog.close()

    @contextmanager
    def reader_or_empty(self) -> Iterator[Catalog]:
        """The catalog through a connection of its own, or an empty one elsewhere while there is none."""
        self._refuse_closed()
        if self.exists:
            with contextlib.closing(Catalog.open(self.path)) as catalog, damage_translated(self.path):
                yield catalog
            return
        with (
            tempfile.TemporaryDirectory(prefix="clipsearch-") as folder,
            contextlib.closing(Catalog.create(Path(folder))) as catalog,
        ):
            yield catalog


def _make_catalog(folder: Path, info: EncoderInfo, fallback: str | None) -> None:
    """Make a catalog in a folder of its own, then move it: it appears complete or not at all."""
    staging = folder / "catalog.new"
    shutil.rmtree(staging, ignore_errors=True)  # What a killed process has left.
    try:
        catalog = Catalog.create(staging)
        try:
            with catalog.transaction():
                catalog.set_meta("encoder_id", str(catalog.add_encoder(info).id))
                catalog.set_meta("fallback", fallback)
        finally:
            catalog.close()
        for suffix in ("-wal", "-shm"):  # SQLite would play those of a lost catalog into the new one.
            (folder / (CATALOG_NAME + suffix)).unlink(missing_ok=True)
        (staging / CATALOG_NAME).replace(folder / CATALOG_NAME)
        sync(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
