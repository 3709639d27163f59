"""One index run: scan, compare, decode ahead, encode in batches, commit each batch, record what is missing.

The caller holds the library's lock. Every batch is one transaction, so a kill loses at most the current batch.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from clipsearch.catalog import pending, snapshots
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.encoders import devices
from clipsearch.encoders.base import Encoder, encode_halving
from clipsearch.errors import UsageError
from clipsearch.images.limits import LEAST_MEMORY_BYTES, MEMORY_BYTES, SECONDS, Limits
from clipsearch.images.open import decoder_version
from clipsearch.images.requests import Task
from clipsearch.images.sniff import IMAGE_SUFFIXES, MAX_PIXELS
from clipsearch.images.tiles import Tiles
from clipsearch.images.workers import shared as workers_of
from clipsearch.indexing.progress import Meter
from clipsearch.indexing.reader import Broken, Decoded, Done, Outcome, Reader, Unread, under_all_names, work_of
from clipsearch.indexing.reconcile import Reconciler
from clipsearch.indexing.recorder import Batch, Recorder, now
from clipsearch.indexing.results import Counts, IndexReport, Progress
from clipsearch.indexing.roots import GivenOptions, Roots
from clipsearch.types import MAX_INTEGER
from clipsearch.vectors import engines
from clipsearch.vectors.index import SnapshotError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_ROWS_A_COMMIT = 512
"""Files that need no encoding are committed this many at a time."""

_LOOKED_AT = 1000
"""Files of a run of which one must be new to load the encoder at once."""

MAX_WORKERS = 256
"""More than the machines of users have cores; each process also holds a decoded image."""

MAX_BATCH = 4096
"""Images of 224 × 224 pixels that are in such a batch or wait for the next one take 2 GB."""

_RECORDED = (
    "indexed unchanged moved copied restored missing offline placeholders excluded unsupported failed failed_before "
    "changing partial encoded pictures corrected reread facts deleted opened filling_left switched interrupted dry_run "
    "published seconds"
)
"""What `info` knows of the last run: fields of its report, of lists their length."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How one run works.

    workers: decoder processes, 0 for one per core, None to decode in this process. decode_timeout: seconds of CPU time
    for one image, or ten times as many by the clock. decode_memory: bytes for one decoder process, 0 for no limit.
    batch_size: images that are encoded together; 0 leaves it to the device. `engine` and `tiles` are remembered for
    later runs; None leaves them unchanged. Raises UsageError for numbers that no run can work with.
    """

    given: GivenOptions = field(default_factory=GivenOptions)
    workers: int | None = 0
    decode_timeout: float = SECONDS
    decode_memory: int = MEMORY_BYTES
    batch_size: int = 0
    max_pixels: int = MAX_PIXELS
    rehash: bool = False
    switch: bool = False
    engine: str | None = None
    tiles: Tiles | None = None

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("workers", self.workers or 0, 0, MAX_WORKERS),
            ("decode_timeout", self.decode_timeout, 0.1, 1e6),
            ("decode_memory", self.decode_memory or LEAST_MEMORY_BYTES, LEAST_MEMORY_BYTES, MAX_INTEGER // 4),
            ("batch_size", self.batch_size, 0, MAX_BATCH),
            ("max_pixels", self.max_pixels, 1, MAX_INTEGER),
        ):
            if not least <= value <= most:
                raise UsageError(f"`{name}={value}`: must be from {least} to {most}")

    @property
    def limits(self) -> Limits:
        """Those of the decoder processes."""
        return Limits(self.workers, self.decode_timeout, self.decode_memory)


def dry_run(
    catalog: Catalog, paths: Sequence[bytes], options: RunOptions, *, encoder: EncoderRow | None
) -> IndexReport:
    """What a run would read, by file names and times alone; nothing is opened and nothing recorded.

    `indexed` are the files it would read, `missing` those that are gone or have moved.
    """
    started = time.monotonic()
    roots = Roots(catalog)
    reconciler = _reconciler(catalog, roots, options, encoder.id if encoder else None, lambda: False)
    reconciler.scan(roots.plan(paths, options.given, suffixes=IMAGE_SUFFIXES, own=_own(catalog)))
    if catalog.building() is not None or options.tiles is not None:
        reconciler.add_pending_elsewhere()
    reconciler.count_missing()
    reconciler.counts.indexed = len(reconciler.worklist)
    reconciler.count_skipped()
    return IndexReport(
        model=encoder.info if encoder else None,
        library=str(catalog.folder),
        tiles=_tiles(catalog, options),
        dry_run=True,
        seconds=time.monotonic() - started,
        notices=tuple(reconciler.notices(options.given.exclude)),
        **_counted(reconciler.counts),
    )


def check_paths(catalog: Catalog, paths: Sequence[bytes], options: RunOptions, *, own: bytes | None = None) -> None:
    """Raise UsageError for paths that a run would refuse. `own`: where the library will be, if not there."""
    Roots(catalog).plan(paths, options.given, suffixes=IMAGE_SUFFIXES, own=own or _own(catalog))


class IndexRun:
    """One run over `paths` (none: over all known roots), filling the vectors of `row`.

    `load` gives the encoder of `row`; it is called only if there is a file to read. `device` is where
    it runs. `stop` is called between files.
    """

    def __init__(
        self,
        catalog: Catalog,
        load: Callable[[], Encoder],
        row: EncoderRow,
        options: RunOptions,
        *,
        device: str = "auto",
        progress: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._catalog = catalog
        self._load = load
        self._row = row
        self._options = options
        self._batch_size = options.batch_size or devices.batch_size(device)
        self._device = devices.kind(device)
        self._meter = Meter(progress)
        self._stop = stop
        self._tiles = _tiles(catalog, options)
        self._deleted = 0
        self._batch = Batch()
        self._opened = 0
        self._published = False
        self._notices: list[str] = []

    def run(self, paths: Sequence[bytes]) -> IndexReport:
        """Do it. Raises UsageError for paths that cannot be, EncoderError where the encoder fails."""
        started = time.monotonic()
        catalog = self._catalog
        roots = Roots(catalog)
        filling = catalog.building()
        if self._options.engine is not None:
            engines.check_choice(self._options.engine)
        areas = roots.plan(paths, self._options.given, suffixes=IMAGE_SUFFIXES, own=_own(catalog))
        self._reconciler = _reconciler(catalog, roots, self._options, self._row.id, self._stop)
        self._recorder = Recorder(
            catalog,
            self._reconciler,
            self._row,
            tiles=self._tiles,
            decoder=decoder_version(self._options.max_pixels),
            device=self._device,
        )
        with catalog.transaction():
            roots.save()
            if self._options.engine is not None:
                catalog.set_meta("engine", self._options.engine)
            if self._tiles != catalog.tiles():
                catalog.set_meta("tiles", self._tiles)
                self._deleted = pending.delete_surplus(catalog, self._tiles)
            if self._tiles != "none":
                pending.delete_oversized_tiles(catalog, self._options.max_pixels)
            pending.retry_failed(catalog, self._row.id, device=self._device)
        with catalog.transaction():
            self._reconciler.scan(areas, found=self._meter.found)
            if filling is not None or self._options.tiles is not None:
                self._reconciler.add_pending_elsewhere()
            self._reconciler.restore()
            roots.save()
        self._reconciler.counts.facts = self._reconciler.path_facts.update(self._stop)
        self._pending = pending.count(catalog, self._row.id) if filling is not None else 0
        self._meter.start(len(self._reconciler.worklist))
        self._work_through()
        interrupted = self._stop()
        if not interrupted:
            with catalog.transaction():
                self._reconciler.record_missing()
                roots.save(scanned=self._reconciler.scanned_roots(), now=now())
        switched = self._switch_if_filled() or (filling is not None and catalog.building() is None)
        self._meter.publishing()
        self._publish_at_end()
        self._reconciler.count_skipped()
        report = self._report(interrupted=interrupted, switched=switched, seconds=time.monotonic() - started)
        self._record(report)
        return report

    # Reading and encoding

    def _work_through(self) -> None:
        if self._stop() or not self._meter.left:
            return
        with (
            contextlib.closing(Catalog.open(self._catalog.folder)) as catalog,
            workers_of(self._options.limits) as workers,
        ):
            reader = Reader(
                catalog,
                self._row,
                tiles=self._tiles,
                max_pixels=self._options.max_pixels,
                limits=workers.limits,
                sizes=catalog.contents.sizes(),
            )
            is_new = any(map(reader.is_new, itertools.islice(self._reconciler.worklist, _LOOKED_AT)))
            if is_new:
                workers.warm_up(self._meter.left)
            ahead = 2 * self._batch_size + workers.count
            tasks = (reader.task(work) for work in self._reconciler.worklist)
            outcomes = workers.run(tasks, ahead=ahead, views=ahead, stop=self._stop, slow=self._report_slow)
            with contextlib.closing(outcomes):
                if is_new:
                    self._load().load_images()  # While the first files are decoded.
                for outcome in outcomes:
                    self._opened += not isinstance(outcome, Done | Unread)
                    for each in under_all_names(outcome, self._reconciler.worklist):
                        self._take(each)
                    if self._stop():
                        break
            if self._batch:
                self._flush()

    def _report_slow(self, task: Task[Outcome]) -> None:
        self._meter.slow(os.fsdecode(work_of(task).path))

    def _take(self, outcome: Outcome) -> None:
        if isinstance(outcome, Decoded):
            outcome = self._recorder.already_done(outcome) or outcome
        if isinstance(outcome, Decoded):
            self._batch.add(outcome)
        else:
            self._batch.others.append(outcome)
            self._meter.done(1, skipped=isinstance(outcome, Broken | Unread))
        if self._batch.views >= self._batch_size or len(self._batch.others) >= MAX_ROWS_A_COMMIT:
            self._flush()

    def _flush(self) -> None:
        """Encode and commit the current batch."""
        batch, self._batch = self._batch, Batch()
        self._commit(batch)

    def _commit(self, batch: Batch) -> None:
        if batch.pictures:
            import numpy as np

            pixels = np.concatenate([image.pixels for image in batch.pictures.values()])
            starts = range(0, len(pixels), self._batch_size)  # An image of many views may exceed it.
            parts = [encode_halving(self._load(), pixels[start : start + self._batch_size]) for start in starts]
            self._recorder.commit(batch, np.concatenate(parts))
            files = sum(len(same) for same in batch.files.values())
            self._meter.done(files, encoded=len(batch.pictures))
            self._pending -= sum(any(f.work.pending for f in same) for same in batch.files.values())
            if self._pending <= 0:
                self._switch_if_filled()
            self._publish(final=False)
        else:
            self._recorder.commit(batch, ())

    # Switching encoders and publishing

    def _switch_if_filled(self) -> bool:
        """Make the encoder that was built the active one, once no live content is pending."""
        catalog = self._catalog
        if catalog.building() is None:
            return False
        owed = pending.count(catalog, self._row.id, reachable=self._options.switch)
        if owed:
            return False
        with catalog.transaction():
            catalog.set_meta("encoder_id", str(self._row.id))
            catalog.set_meta("filling_id", None)
            catalog.set_meta("fallback", None)
        return True

    def _publish_at_end(self) -> None:
        """Bring the snapshots of both encoders up to date; a damaged one is written again."""
        self._notices.clear()
        self._publish(final=True)
        answering = self._catalog.active()
        if answering is not None and answering.id != self._row.id:
            self._publish(answering, final=True)

    def _publish(self, other: EncoderRow | None = None, *, final: bool) -> None:
        if self._notices and not final:
            return  # It failed before in this run; it is tried again at the end.
        embed = None if other else self._embed
        try:
            self._published |= snapshots.publish_if_due(self._catalog, other or self._row, final=final, embed=embed)
        except SnapshotError as exc:
            # The vectors are in the catalog, and queries answer from there.
            self._notices.append(str(exc))

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._load().encode_texts(texts)

    # Reporting

    def _report(self, *, interrupted: bool, switched: bool, seconds: float) -> IndexReport:
        filling = self._catalog.building()
        answering = self._catalog.active()
        return IndexReport(
            model=answering.info if answering else None,
            library=str(self._catalog.folder),
            deleted=self._deleted,
            tiles=self._tiles,
            opened=self._opened,
            filling=filling.info.spec if filling else None,
            filling_left=pending.count(self._catalog, filling.id) if filling else 0,
            switched=switched,
            interrupted=interrupted,
            published=self._published,
            seconds=seconds,
            notices=(*self._notices, *self._reconciler.notices(self._options.given.exclude)),
            **_counted(self._reconciler.counts),
        )

    def _record(self, report: IndexReport) -> None:
        last_run = {name: getattr(report, name) for name in _RECORDED.split()}
        last_run = {name: len(value) if isinstance(value, tuple) else value for name, value in last_run.items()}
        last_run["finished_at"] = now()
        with self._catalog.transaction():
            self._catalog.set_meta("last_run", json.dumps(last_run))


def _counted(counts: Counts) -> dict[str, Any]:
    """The counts as attributes of an `IndexReport`."""
    found = {each.name: getattr(counts, each.name) for each in fields(counts)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _reconciler(
    catalog: Catalog, roots: Roots, options: RunOptions, encoder_id: int | None, stop: Callable[[], bool]
) -> Reconciler:
    return Reconciler(
        catalog,
        roots,
        encoder_id=encoder_id,
        tiles=_tiles(catalog, options),
        decoder=decoder_version(options.max_pixels),
        limits=options.limits,
        suffixes=IMAGE_SUFFIXES,
        own=_own(catalog),
        rehash=options.rehash,
        stop=stop,
    )


def _tiles(catalog: Catalog, options: RunOptions) -> Tiles:
    """The tiles that this run makes: those of the options, then the library's."""
    return options.tiles or catalog.tiles()


def _own(catalog: Catalog) -> bytes:
    return os.fsencode(catalog.folder.absolute())
