"""Opens the encoders that an evaluation compares: those named, or the library's own, or a new library's."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.catalog.connections import damage_translated
from clipsearch.encoders.base import Encoder, EncoderOptions
from clipsearch.encoders.cache import cache_dir
from clipsearch.encoders.load import load_alone, load_encoder, reload_encoder
from clipsearch.encoders.specs import parse_spec
from clipsearch.evaluate.encode import VectorSource, Workplace
from clipsearch.evaluate.store import VectorStore
from clipsearch.files import PathLike, absolute
from clipsearch.indexing.progress import Meter
from clipsearch.types import EncoderInfo


@contextlib.contextmanager
def opened(models: Sequence[str], place: Workplace, *, items: int) -> Iterator[list[VectorSource]]:
    """A source per model; by default, one for the library's own encoder, or that of a new library.

    `items`: images and texts that each will embed, for the progress. Raises NoLibraryError, DamagedError, and as
    `load_encoder` does.
    """
    with contextlib.ExitStack() as stack:
        catalog = stack.enter_context(open_catalog(place.library)) if place.library is not None else None
        store = stack.enter_context(contextlib.closing(VectorStore(place.cache or cache_dir())))
        meter = Meter(place.progress)
        sources = []
        for info, row, encoder, notices in _chosen(models, catalog, place.options):
            load = _once(info, encoder, place.options)
            sources.append(
                VectorSource(
                    info, load, row=row, catalog=catalog, store=store, place=place, meter=meter, notices=notices
                )
            )
        meter.start(items * len(sources))
        yield sources
        for source in sources:
            store.trim(source.info.fingerprint)


@contextlib.contextmanager
def open_catalog(library: PathLike) -> Iterator[Catalog]:
    """The catalog of a library, for reading; any damage raises DamagedError.

    Raises NoLibraryError, and as `damage_translated` does.
    """
    folder = Path(os.fsdecode(absolute(library)))
    with damage_translated(folder), contextlib.closing(Catalog.open(folder)) as catalog:
        yield catalog


def _chosen(
    models: Sequence[str], catalog: Catalog | None, options: EncoderOptions
) -> Iterator[tuple[EncoderInfo, EncoderRow | None, Encoder | None, Sequence[str]]]:
    """(info, the library's row of it, the encoder where it had to be looked up, notices) for each model."""
    rows = catalog.encoders() if catalog is not None else []
    if not models:
        answering = catalog.active() if catalog is not None else None
        if answering is not None:
            yield answering.info, answering, None, ()
            return
        encoder, notices = load_alone(None, options)
        yield encoder.info, None, encoder, notices
        return
    for model in dict.fromkeys(models):
        names = (model, parse_spec(model).name)
        row = next((r for r in reversed(rows) if r.info.spec in names), None)
        if row is not None:
            yield row.info, row, None, ()
            continue
        encoder = load_encoder(model, options)
        same = (r for r in rows if r.info.fingerprint == encoder.info.fingerprint)
        yield encoder.info, next(same, None), encoder, ()


def _once(info: EncoderInfo, encoder: Encoder | None, options: EncoderOptions) -> Callable[[], Encoder]:
    """A function that loads the encoder on its first call, once for all threads."""
    lock = threading.Lock()
    held = [] if encoder is None else [encoder]

    def load() -> Encoder:
        with lock:
            if not held:
                held.append(reload_encoder(info, options))
            return held[0]

    return load
