"""One index run: scan, compare, decode ahead, encode in batches, commit each batch, judge what was not seen.

The caller holds the library's lock. Every batch is one transaction, so a kill loses at most the batch in hand.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from clipsearch import images, prompts, snapshots
from clipsearch.catalog import Catalog, EncoderRow
from clipsearch.encoders import Encoder, encode_halving
from clipsearch.reading import Broken, Changing, Decoded, Known, Outcome, Reader, Settled, Truncated, Unread
from clipsearch.reconcile import Reconciler, Work
from clipsearch.roots import GivenOptions, Roots
from clipsearch.types import ContentState, IndexReport, Problem, Progress
from clipsearch.vectors import EngineChoice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_ROWS_A_COMMIT = 512
"""Files that need no encoding are committed this many at a time."""

PROBES = 256
"""Prompts that nprobe is chosen with."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How one run works. `threads` are decoders, 0 for one a core; `batch_size` 0 leaves it to the device.

    `engine` is kept for later runs; None leaves it as it is.
    """

    given: GivenOptions = field(default_factory=GivenOptions)
    threads: int = 0
    batch_size: int = 0
    max_pixels: int = images.MAX_PIXELS
    rehash: bool = False
    switch: bool = False
    engine: EngineChoice | None = None


def dry_run(
    catalog: Catalog, paths: Sequence[bytes], options: RunOptions, *, encoder: EncoderRow | None
) -> IndexReport:
    """What a run would read, by file names and times alone; nothing is opened and nothing recorded."""
    started = time.monotonic()
    roots = Roots(catalog)
    reconciler = _reconciler(catalog, roots, options, encoder.id if encoder else None, lambda: False)
    reconciler.scan(roots.plan(paths, options.given, suffixes=images.PICTURE_SUFFIXES, own=_own(catalog)))
    counts = reconciler.counts
    return IndexReport(
        model=encoder.info if encoder else None,
        library=str(catalog.folder),
        indexed=reconciler.count_work(),
        unchanged=counts.unchanged,
        restored=counts.restored,
        unsupported=counts.unsupported,
        failed=tuple(counts.problems),
        failed_before=counts.failed_before,
        dry_run=True,
        seconds=time.monotonic() - started,
    )


class IndexRun:
    """One run over `paths` (none: over all known roots), filling the vectors of `row` with `encoder`."""

    def __init__(
        self,
        catalog: Catalog,
        encoder: Encoder,
        row: EncoderRow,
        options: RunOptions,
        *,
        batch_size: int,
        progress: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._catalog = catalog
        self._encoder = encoder
        self._row = row
        self._options = options
        self._batch_size = max(1, batch_size)
        self._meter = _Meter(progress)
        self._stop = stop
        self._tally = _Tally()
        self._batch = _Batch()
        self._truncated: list[Work] = []
        self._published = False

    def run(self, paths: Sequence[bytes]) -> IndexReport:
        """Do it. Raises UsageError for paths that cannot be, EncoderError where the encoder fails."""
        started = time.monotonic()
        catalog = self._catalog
        roots = Roots(catalog)
        filling = catalog.filling()
        areas = roots.plan(paths, self._options.given, suffixes=images.PICTURE_SUFFIXES, own=_own(catalog))
        self._reconciler = _reconciler(catalog, roots, self._options, self._row.id, self._stop)
        with catalog.transaction():
            roots.save()
            if self._options.engine is not None:
                catalog.set_meta("engine", self._options.engine)
        with catalog.transaction():
            self._reconciler.scan(areas, found=self._meter.found)
            if filling is not None:
                self._reconciler.add_owing_elsewhere()
            self._reconciler.restore()
        self._meter.start(self._reconciler.count_work())
        reader_catalog = Catalog.open(catalog.folder)
        try:
            reader = Reader(reader_catalog, self._encoder, self._row.id, max_pixels=self._options.max_pixels)
            self._work_through(reader)
        finally:
            reader_catalog.close()
        interrupted = self._stop()
        if not interrupted:
            with catalog.transaction():
                self._reconciler.judge()
                roots.save(scanned=self._reconciler.scanned_roots(), now=_now())
        switched = self._switch_if_filled() or (filling is not None and catalog.filling() is None)
        self._meter.publishing()
        self._publish(final=True)
        report = self._report(reader, interrupted=interrupted, switched=switched, seconds=time.monotonic() - started)
        self._record(report)
        return report

    # Reading and encoding

    def _work_through(self, reader: Reader) -> None:
        threads = self._options.threads or os.cpu_count() or 1
        with ThreadPoolExecutor(threads, thread_name_prefix="decoder") as pool:
            for outcome in self._ahead(pool, reader, self._reconciler.work(), threads):
                self._take(outcome, reader)
                if self._stop():
                    break
            # Decoding truncated files may fill a batch anew.
            while self._batch or (self._truncated and not self._stop()):
                self._flush(reader)

    def _ahead(
        self, pool: ThreadPoolExecutor, reader: Reader, works: Iterator[Work], threads: int
    ) -> Iterator[Outcome]:
        """Outcomes in the order of `works`, a bounded number of them being read ahead."""
        waiting: deque[Future[Outcome]] = deque()
        try:
            for work in works:
                waiting.append(pool.submit(reader.read, work))
                if len(waiting) >= 2 * self._batch_size + threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _take(self, outcome: Outcome, reader: Reader) -> None:
        if isinstance(outcome, Truncated):
            self._truncated.append(outcome.work)
        elif isinstance(outcome, Decoded):
            self._batch.add(outcome)
        elif isinstance(outcome, Settled):
            self._tally.unchanged += 1
            self._meter.done(1)
        else:
            self._batch.others.append(outcome)
            self._meter.done(1, skipped=isinstance(outcome, Broken | Unread))
        full = len(self._batch.pictures) >= self._batch_size or len(self._truncated) >= self._batch_size
        if full or len(self._batch.others) >= MAX_ROWS_A_COMMIT:
            self._flush(reader)

    def _flush(self, reader: Reader) -> None:
        """Encode and commit what is in hand, then decode the truncated files that were set aside."""
        batch, self._batch = self._batch, _Batch()
        if batch:
            self._commit(batch, reader.decoder)
        truncated, self._truncated = self._truncated, []
        for work in truncated:
            self._take(reader.read(work, truncated=True), reader)

    def _commit(self, batch: _Batch, decoder: str) -> None:
        pictures = list(batch.pictures.values())
        vectors = self._encode(pictures) if pictures else ()
        now = _now()
        with self._catalog.transaction():
            for outcome in batch.others:
                self._record_other(outcome, decoder, now)
            for picture, vector in zip(pictures, vectors, strict=True):
                self._record_picture(picture, batch.files[picture.digest], vector, decoder, now)
        if pictures:
            self._meter.done(sum(len(batch.files[p.digest]) for p in pictures), encoded=len(pictures))
            self._switch_if_filled(quick=True)
            self._publish(final=False)

    def _encode(self, pictures: list[Decoded]) -> NDArray[np.float32]:
        import numpy as np

        pixels = np.stack([p.pixels for p in pictures])
        return encode_halving(self._encoder, pixels)

    # Recording

    def _record_picture(
        self, picture: Decoded, files: list[Decoded], vector: NDArray[np.float32], decoder: str, now: str
    ) -> None:
        import numpy as np

        state: ContentState = picture.state
        reason = picture.reason
        finite = bool(np.isfinite(vector).all())
        if not finite:
            state, reason = "failed", f"{self._row.info.spec} gave no finite vector for it"
        known = self._catalog.content_by_digest(picture.digest)
        content_id = self._catalog.put_content(
            picture.digest, size=picture.size, state=state, reason=reason, decoder=decoder, facts=picture.facts, now=now
        )
        if finite:
            self._catalog.put_vector(content_id, self._row.id, np.ascontiguousarray(vector, "<f4").tobytes())
            self._tally.encoded += 1
        for i, file in enumerate(files):
            path = os.fsdecode(file.work.path)
            if not finite:
                self._tally.failed.append(Problem(path, reason or ""))
            elif i == 0:
                self._tally.indexed += 1
                if known is not None and file.work.content_id != content_id:
                    self._reconciler.take_moved(content_id, file.work.path)
            else:
                self._count_known(file.work, content_id)
            if state == "partial":
                self._tally.partial.append(Problem(path, reason or ""))
            self._put_file(file, content_id)

    def _record_other(self, outcome: Outcome, decoder: str, now: str) -> None:
        tally, work = self._tally, outcome.work
        path = os.fsdecode(work.path)
        if isinstance(outcome, Known):
            if outcome.state == "failed" and work.content_id == outcome.content_id:
                tally.failed_before += 1
            elif outcome.state == "unsupported":
                tally.unsupported += 1
            else:
                self._count_known(work, outcome.content_id)
            self._put_file(outcome, outcome.content_id)
        elif isinstance(outcome, Broken):
            content_id = self._catalog.put_content(
                outcome.digest,
                size=outcome.size,
                state=outcome.state,
                reason=outcome.reason,
                decoder=decoder,
                facts=None,
                now=now,
            )
            if outcome.state == "unsupported":
                tally.unsupported += 1
            else:
                tally.failed.append(Problem(path, outcome.reason))
            self._put_file(outcome, content_id)
        elif isinstance(outcome, Changing):
            tally.changing.append(Problem(path, "it changed while it was read; the next run reads it again"))
        elif isinstance(outcome, Unread):
            tally.failed.append(Problem(path, outcome.reason))
            if not outcome.vanished:
                self._catalog.put_file(
                    work.path,
                    content_id=work.content_id,
                    size=work.size,
                    mtime_ns=work.mtime_ns,
                    state="unreadable",
                    reason=outcome.reason,
                )

    def _count_known(self, work: Work, content_id: int) -> None:
        """A file whose content was there already: unchanged, restored, moved or copied."""
        if work.content_id == content_id:
            if work.state in ("present", "unreadable"):
                self._tally.unchanged += 1
            else:
                self._tally.restored += 1
        elif self._reconciler.take_moved(content_id, work.path):
            self._tally.moved += 1
        else:
            self._tally.copied += 1

    def _put_file(self, outcome: Known | Broken | Decoded, content_id: int) -> None:
        self._catalog.put_file(outcome.work.path, content_id=content_id, size=outcome.size, mtime_ns=outcome.mtime_ns)

    # Switching encoders and publishing

    def _switch_if_filled(self, *, quick: bool = False) -> bool:
        """Let the encoder that was filled answer from now on, once no live content owes it a vector."""
        catalog = self._catalog
        if catalog.filling() is None:
            return False
        if quick and self._meter.left > self._batch_size:
            return False  # Most of the work is still ahead: do not count after each batch.
        owed = catalog.count_owed(self._row.id, reachable=self._options.switch)
        if owed:
            return False
        with catalog.transaction():
            catalog.set_meta("encoder_id", str(self._row.id))
            catalog.set_meta("filling_id", None)
        return True

    def _publish(self, *, final: bool) -> None:
        self._published |= snapshots.publish_if_due(self._catalog, self._row, final=final, probes=self._probes)

    def _probes(self) -> NDArray[np.float32]:
        """Text vectors that an approximate engine's recall is measured with."""
        return self._encoder.encode_texts(prompts.everyday(PROBES))

    # Reporting

    def _report(self, reader: Reader, *, interrupted: bool, switched: bool, seconds: float) -> IndexReport:
        counts, tally = self._reconciler.counts, self._tally
        filling = self._catalog.filling()
        answering = self._catalog.answering()
        return IndexReport(
            model=answering.info if answering else None,
            library=str(self._catalog.folder),
            indexed=tally.indexed,
            unchanged=counts.unchanged + tally.unchanged,
            moved=tally.moved,
            copied=tally.copied,
            restored=counts.restored + tally.restored,
            missing=counts.missing,
            offline=counts.offline,
            excluded=counts.excluded,
            unsupported=counts.unsupported + tally.unsupported,
            failed=(*counts.problems, *tally.failed),
            failed_before=counts.failed_before + tally.failed_before,
            changing=tuple(tally.changing),
            partial=tuple(tally.partial),
            encoded=tally.encoded,
            opened=reader.opened,
            filling=filling.info.spec if filling else None,
            filling_left=self._catalog.count_owed(filling.id) if filling else 0,
            switched=switched,
            interrupted=interrupted,
            published=self._published,
            seconds=seconds,
        )

    def _record(self, report: IndexReport) -> None:
        counts = {
            key: len(value) if isinstance(value, tuple) else value
            for key, value in vars_of(report).items()
            if isinstance(value, int | float | tuple) and key != "notices"
        }
        with self._catalog.transaction():
            self._catalog.set_meta("last_run", json.dumps(counts | {"finished_at": _now()}))


def vars_of(report: IndexReport) -> dict[str, object]:
    """The report's fields by name."""
    return {f.name: getattr(report, f.name) for f in dataclasses.fields(report)}


@dataclass(slots=True)
class _Tally:
    indexed: int = 0
    unchanged: int = 0
    moved: int = 0
    copied: int = 0
    restored: int = 0
    unsupported: int = 0
    failed_before: int = 0
    encoded: int = 0
    failed: list[Problem] = field(default_factory=list)
    changing: list[Problem] = field(default_factory=list)
    partial: list[Problem] = field(default_factory=list)


@dataclass(slots=True)
class _Batch:
    """What the next commit holds: `pictures` by digest, each with every file of this batch that has these bytes."""

    pictures: dict[bytes, Decoded] = field(default_factory=dict)
    files: dict[bytes, list[Decoded]] = field(default_factory=dict)
    others: list[Outcome] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.pictures or self.others)

    def add(self, picture: Decoded) -> None:
        self.pictures.setdefault(picture.digest, picture)
        self.files.setdefault(picture.digest, []).append(picture)


class _Meter:
    """Turns what happens into `Progress`, at most ten times a second."""

    def __init__(self, progress: Callable[[Progress], None] | None) -> None:
        self._progress = progress
        self._found = 0
        self._done = 0
        self._encoded = 0
        self._total: int | None = None
        self._started = time.monotonic()
        self._told = 0.0
        self._skipped = 0

    @property
    def left(self) -> int:
        return max(0, (self._total or 0) - self._done)

    def found(self, count: int) -> None:
        self._found = count
        self._tell("scanning")

    def start(self, total: int) -> None:
        self._total = total
        self._started = time.monotonic()
        self._tell("encoding", always=True)

    def done(self, files: int, *, encoded: int = 0, skipped: bool = False) -> None:
        self._done += files
        self._encoded += encoded
        self._skipped += files if skipped else 0
        self._tell("encoding", always=self.left == 0)

    def publishing(self) -> None:
        self._tell("publishing", always=True)

    def _tell(self, stage: str, *, always: bool = False) -> None:
        now = time.monotonic()
        if self._progress is None or not (always or now - self._told >= 0.1):
            return
        self._told = now
        seconds = max(now - self._started, 1e-9)
        rate = self._done / seconds
        self._progress(
            Progress(
                stage=stage,  # type: ignore[arg-type]
                found=self._found,
                done=self._done,
                total=self._total,
                skipped=self._skipped,
                images_per_second=self._encoded / seconds,
                seconds_left=self.left / rate if rate else None,
            )
        )


def _reconciler(
    catalog: Catalog, roots: Roots, options: RunOptions, encoder_id: int | None, stop: Callable[[], bool]
) -> Reconciler:
    return Reconciler(
        catalog,
        roots,
        encoder_id=encoder_id,
        decoder=images.decoder_version(options.max_pixels),
        suffixes=images.PICTURE_SUFFIXES,
        own=_own(catalog),
        rehash=options.rehash,
        stop=stop,
    )


def _own(catalog: Catalog) -> bytes:
    return os.fsencode(catalog.folder.absolute())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
