"""Records the outcome for each file in the catalog, one transaction per batch, and counts it for the report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from clipsearch.catalog import pending
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.files import UNKNOWN_MTIME
from clipsearch.images.open import READER_REVISION
from clipsearch.images.tiles import Tiles
from clipsearch.indexing.reader import Broken, Changing, Decoded, Done, Known, Outcome, Reread, Unread
from clipsearch.indexing.reconcile import Reconciler
from clipsearch.indexing.results import Problem
from clipsearch.indexing.worklist import Work
from clipsearch.types import ContentState

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = Sequence[NDArray[np.float32]] | NDArray[np.float32]


@dataclass(slots=True)
class Batch:
    """What the next commit holds: `images` by digest, each with every file of this batch that has these bytes.

    `views` counts those of all images.
    """

    pictures: dict[bytes, Decoded] = field(default_factory=dict)
    files: dict[bytes, list[Decoded]] = field(default_factory=dict)
    others: list[Outcome] = field(default_factory=list)
    views: int = 0

    def __bool__(self) -> bool:
        return bool(self.pictures or self.others)

    def add(self, image: Decoded) -> None:
        if image.digest not in self.pictures:
            self.pictures[image.digest] = image
            self.views += len(image.views)
        self.files.setdefault(image.digest, []).append(image)


class Recorder:
    """Records for one run, whose vectors are those of the encoder `row`, for the views of the mode `tiles`.

    `device`: where they are computed, as `devices.kind` names it.
    """

    def __init__(
        self, catalog: Catalog, reconciler: Reconciler, row: EncoderRow, *, tiles: Tiles, decoder: str, device: str
    ) -> None:
        self._counts = reconciler.counts
        self._catalog = catalog
        self._reconciler = reconciler
        self._row = row
        self._tiles: Tiles = tiles
        self._decoder = decoder
        self._device = device
        self._failed = set(pending.failed(catalog, row.id))

    def commit(self, batch: Batch, vectors: Vectors) -> None:
        """Everything of a batch, or nothing. `vectors` belong to the views of `batch.images`, in their order."""
        if len(vectors) != batch.views:
            raise ValueError(f"{len(vectors)} vectors for {batch.views} views")
        time = now()
        with self._catalog.transaction():
            for outcome in batch.others:
                self._record_other(outcome, time)
            start = 0
            for image in batch.pictures.values():
                end = start + len(image.views)
                self._record_image(image, batch.files[image.digest], vectors[start:end], time)
                start = end

    def already_done(self, image: Decoded) -> Known | None:
        """The content of an image whose copy was committed after this one was decoded."""
        found = self._catalog.contents.by_digest(image.digest)
        if found is None or found.revision < READER_REVISION:
            return None
        if self._catalog.embeddings.has_pending_views(found.id, self._row.id, self._tiles):
            return None
        return Known(image.work, image.size, image.mtime_ns, image.digest, found.id, found.state)

    def _record_image(self, image: Decoded, files: list[Decoded], vectors: Vectors, time: str) -> None:
        import numpy as np

        finite = bool(np.isfinite(np.asarray(vectors)).all())
        content_id = self._catalog.contents.put(
            image.digest,
            size=image.size,
            state=image.state,
            reason=image.reason,
            decoder=self._decoder,
            now=time,
        )
        self._catalog.contents.put_facts(content_id, image.facts, revision=READER_REVISION)
        if image.corrects and self._catalog.embeddings.remove_all(content_id):
            self._counts.corrected += 1
        if not finite or content_id in self._failed:
            pending.put_failure(self._catalog, content_id, self._row.id, device=None if finite else self._device)
        if finite:
            for view, vector in zip(image.views, vectors, strict=True):
                self._catalog.embeddings.put(content_id, self._row.id, vector, view=view.number, box=view.box)
            self._counts.encoded += len(image.views)
            self._counts.pictures += 1
        for i, file in enumerate(files):
            path = os.fsdecode(file.work.path)
            if not finite:
                self._counts.failed.append(Problem(path, f"{self._row.info.spec} gave no finite vector for it"))
            elif i == 0:
                self._counts.indexed += 1
                if file.work.content_id != content_id:
                    self._reconciler.take_moved(content_id, file.work.path)
            else:
                self._count_known(file.work, content_id)
            if finite and image.state == "partial":
                self._counts.partial.append(Problem(path, image.reason or ""))
            self._put_file(file, content_id)

    def _record_other(self, outcome: Outcome, time: str) -> None:
        work = outcome.work
        path = os.fsdecode(work.path)
        if isinstance(outcome, Done):
            self._count_unopened(work)
            self._put_path_facts(work)
        elif isinstance(outcome, Known):
            if outcome.state in ("ok", "partial"):
                self._count_known(work, outcome.content_id)
            else:
                if work.content_id != outcome.content_id:
                    self._reconciler.take_moved(outcome.content_id, work.path)
                self._count_undecodable(outcome.state)
            self._put_file(outcome, outcome.content_id)
        elif isinstance(outcome, Reread):
            self._record_reread(outcome)
        elif isinstance(outcome, Broken):
            self._record_broken(outcome, time)
        elif isinstance(outcome, Changing):
            self._counts.changing.append(Problem(path, "it changed while it was read; the next run reads it again"))
        elif isinstance(outcome, Unread):
            if outcome.vanished and work.elsewhere:
                return  # Its drive may be offline; a run that walks its root decides.
            if self._reconciler.is_lost(work.path):
                return
            if work.touched and not outcome.vanished:
                self._counts.unchanged += 1  # By its size and time, it is what it was.
                return
            self._counts.failed.append(Problem(path, outcome.reason))
            if not outcome.vanished:
                self._catalog.files.put(
                    work.path,
                    content_id=work.content_id,
                    size=work.size,
                    mtime_ns=UNKNOWN_MTIME,  # Whose size and time these are is unknown.
                    state="unreadable",
                    reason=outcome.reason,
                )

    def _record_reread(self, reread: Reread) -> None:
        entry = self._catalog.contents.by_id(reread.content_id)
        if entry is not None and entry.revision < READER_REVISION:  # Otherwise a copy of the file came first.
            self._catalog.contents.put_facts(reread.content_id, reread.facts, revision=READER_REVISION)
            self._catalog.contents.put_state(reread.content_id, reread.state, reread.reason)
            self._counts.reread += 1
        self._count_known(reread.work, reread.content_id)
        self._put_file(reread, reread.content_id)

    def _record_broken(self, broken: Broken, time: str) -> None:
        content_id = self._catalog.contents.put(
            broken.digest,
            size=broken.size,
            state=broken.state,
            reason=broken.reason,
            decoder=self._decoder + broken.limit,
            now=time,
        )
        if broken.state == "unsupported" and self._catalog.embeddings.remove_all(content_id):
            # An older reader decoded something else from it: neither those vectors nor those facts are of this image.
            self._catalog.contents.put_facts(content_id, None, revision=READER_REVISION)
        if broken.work.content_id != content_id:
            self._reconciler.take_moved(content_id, broken.work.path)
        if broken.state == "unsupported":
            self._counts.unsupported += 1
        else:
            self._counts.failed.append(Problem(os.fsdecode(broken.work.path), broken.reason))
        self._put_file(broken, content_id)

    def _count_unopened(self, work: Work) -> None:
        """A file as the catalog has it, of which a copy was encoded in its place; it may be back in this run."""
        if work.state in ("missing", "offline"):
            self._catalog.files.restore(work.path)
            self._counts.restored += 1
        else:
            self._counts.unchanged += 1

    def _count_known(self, work: Work, content_id: int) -> None:
        """A file whose content was known already: unchanged, restored, moved or copied."""
        if work.content_id == content_id:
            if work.state == "present":
                self._counts.unchanged += 1
            else:
                self._counts.restored += 1
        elif self._reconciler.take_moved(content_id, work.path):
            self._counts.moved += 1
        else:
            self._counts.copied += 1

    def _count_undecodable(self, state: ContentState) -> None:
        if state == "unsupported":
            self._counts.unsupported += 1
        else:
            self._counts.failed_before += 1

    def _put_file(self, outcome: Known | Reread | Broken | Decoded, content_id: int) -> None:
        work = outcome.work
        self._catalog.files.put(
            work.path, content_id=content_id, size=outcome.size, mtime_ns=outcome.mtime_ns, ctime_ns=work.ctime_ns
        )
        self._put_path_facts(work)

    def _put_path_facts(self, work: Work) -> None:
        if not work.elsewhere:  # No walk has looked for its sidecars.
            self._reconciler.path_facts.record(work.path, work.sidecars)


def now() -> str:
    """The present as the catalog writes it: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
