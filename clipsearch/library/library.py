"""`Library`: a folder with a catalog and its snapshots. The command line and Python both work through it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from clipsearch.catalog.cache import NO_CACHE, QueryCache
from clipsearch.catalog.catalog import CATALOG_NAME, Catalog, EncoderRow
from clipsearch.catalog.connections import damage_translated
from clipsearch.catalog.lock import writer_lock
from clipsearch.encoders import devices
from clipsearch.encoders.base import EncoderOptions, is_prepared_as_today
from clipsearch.encoders.load import default_spec, load_encoder, refuse_int8
from clipsearch.encoders.specs import parse_spec
from clipsearch.errors import ClipsearchError, NoLibraryError, UsageError
from clipsearch.files import PathLike, absolute, sync
from clipsearch.library.models import Roster
from clipsearch.search.neighbours import Searcher
from clipsearch.search.terms import Known, Term, as_term
from clipsearch.types import EncoderInfo, Hit, QueryResult, Sort

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.catalog.filters import Filter
    from clipsearch.classify.classifier import Classifier
    from clipsearch.classify.labels import Label
    from clipsearch.classify.prototypes import Step
    from clipsearch.classify.results import ClassifyResult
    from clipsearch.classify.run import Desk
    from clipsearch.indexing.results import IndexReport
    from clipsearch.indexing.run import RunOptions
    from clipsearch.library.int8 import Precision
    from clipsearch.library.results import Finding, LibraryInfo, ListedFile, ListedState, Pruned, Shown
    from clipsearch.search.projection import Projection
    from clipsearch.search.similarity import Item, Similarity
    from clipsearch.types import Progress

MENDED = (
    "pictures are prepared better now than when this library was made; new ones are, and clipsearch index --model "
    "{spec} encodes all of them anew"
)

Answer = TypeVar("Answer")

LOCK_NAME = "lock"

ATTEMPTS = 3

LEARNING_PAYS_S = 30.0
"""After a run this long, the seconds that it takes to embed the everyday prompts are no matter."""


class Library:
    """An open library. Use it as a context manager, or `close` it.

    Any number of processes may query one while another indexes; threads that share one wait for each other. `options`
    say how encoders are loaded.
    """

    def __init__(self, path: PathLike, options: EncoderOptions | None = None) -> None:
        self.path = Path(os.fsdecode(absolute(path)))
        self._roster = Roster(self.path, options or EncoderOptions())
        self._catalog: Catalog | None = None
        self._cache: QueryCache | None = None
        self._searcher: Searcher | None = None
        self._asking = threading.RLock()

    @classmethod
    def create(
        cls,
        path: PathLike,
        *,
        model: str | None = None,
        precision: Precision | None = None,
        options: EncoderOptions | None = None,
    ) -> Self:
        """Make a library in the folder `path`, with the encoder that `model` names.

        Without one, the default model, or where it is not cached and no hub answers, the built-in one (docs/models.md).
        `precision` "int8" says that the first run will ask for it: a model that has no such form is refused at once.
        Raises UsageError where there is a library already or the folder cannot be written, and what
        `load_encoder` raises; then nothing is left behind.
        """
        library = cls(path, options)
        if library.exists:
            raise UsageError(f"there is a library in {library.path} already")
        spec, fallback = (model, None) if model is not None else default_spec()
        encoder = load_encoder(spec, library._roster.options)
        library._roster.keep(encoder)
        if precision == "int8":
            refuse_int8(encoder)
        try:
            library.path.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise UsageError(f"cannot make a library in {library.path}: {exc.strerror}") from exc
        with writer_lock(library.path / LOCK_NAME):
            if not library.exists:
                _make_catalog(library.path, encoder.info, fallback)
        made = library._reader().answering()
        if made is None or made.info.fingerprint != encoder.info.fingerprint:  # Another process was faster.
            library.close()
            raise UsageError(f"there is a library in {library.path} already")
        return library

    @classmethod
    def open(cls, path: PathLike, *, options: EncoderOptions | None = None) -> Self:
        """Open the library in the folder `path`. Raises NoLibraryError, DamagedError."""
        library = cls(path, options)
        if not library.exists:
            raise NoLibraryError(f"no library in {library.path}; clipsearch index FOLDER makes one")
        library._reader()
        return library

    @property
    def exists(self) -> bool:
        """Whether there is a catalog in the folder."""
        catalog = self.path / CATALOG_NAME
        return catalog.is_file() and catalog.stat().st_size > 0

    def close(self) -> None:
        if self._catalog is not None:
            self._catalog.close()
        if self._cache is not None:
            self._cache.close()
        self._catalog = self._cache = self._searcher = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Indexing

    def index(
        self,
        paths: Iterable[PathLike] = (),
        *,
        model: str | None = None,
        precision: Precision | None = None,
        run: RunOptions | None = None,
        wait: bool = False,
        dry_run: bool = False,
        progress: Callable[[Progress], None] | None = None,
        say: Callable[[str], None] = lambda text: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> IndexReport:
        """Bring the library up to date with `paths`, or with all roots it knows.

        `model` names another encoder to fill beside the one that answers, until it can take over; the answering one's
        own name gives that up. `precision` "int8" fills the model in 8 bits, fixed by a sample of the pictures, "fp32"
        the model as it is; without it, the library's own encoder goes on. `wait` waits for another writer. `say` hears
        what should be known before the run goes on: how well 8 bits agree with full precision. `stop` is asked between
        files; once it is true, the batch in hand is finished and the report is marked `interrupted`.
        Raises UsageError for paths that cannot be, LockedError, EncoderError, ModelMismatchError.
        """
        from clipsearch.indexing import run as indexing
        from clipsearch.library.int8 import mentioning

        options = run or indexing.RunOptions()
        wanted = [absolute(p) for p in paths]
        if dry_run:
            with self._catalog_or_empty() as catalog:
                return indexing.dry_run(catalog, wanted, options, encoder=_target(catalog))
        with self._writer(wait=wait, stop=stop) as catalog:
            if model is not None or precision is not None:
                indexing.check_paths(catalog, wanted, options)  # A run that cannot be leaves no wish behind.
            if precision is not None or (model is not None and parse_spec(model).int8):
                row = self._roster.to_fill_in(catalog, model, precision, wanted, options.given, say=say, stop=stop)
            else:
                row = self._roster.to_fill(catalog, model)
            work = indexing.IndexRun(
                catalog,
                lambda: self._roster.of(row),
                row,
                options,
                batch_size=options.batch_size or devices.batch_size(self._roster.options.device),
                progress=progress if precision else mentioning(catalog, row.info, self._roster.options, progress, say),
                stop=stop,
            )
            report = work.run(wanted)
            if report.encoded and not report.interrupted:
                report = self._prepare_queries(catalog, row, report)
            if not is_prepared_as_today(row.info.details):
                report = _with_notice(report, MENDED.format(spec=row.info.spec))
            return report

    def _prepare_queries(self, catalog: Catalog, row: EncoderRow, report: IndexReport) -> IndexReport:
        """Do now what the first query would have to wait for. What goes wrong is no failure of a run that is done."""
        try:
            self._roster.of(row).convert()
            if report.seconds > LEARNING_PAYS_S:
                self._learn(catalog, row)
        except ClipsearchError as exc:
            return _with_notice(report, f"queries are not prepared yet: {exc}")
        return report

    def _learn(self, catalog: Catalog, row: EncoderRow) -> None:
        """Find out what is usual in the library now, so that queries can say how sure a hit is."""
        from clipsearch.search import relevance
        from clipsearch.search.embed import embed_texts

        with contextlib.closing(QueryCache(self.path)) as cache:

            def embed(texts: Sequence[str]) -> NDArray[np.float32]:
                return embed_texts(texts, row, lambda: self._roster.of(row), cache, notices=[])

            relevance.learn(catalog, row, cache, embed)

    # Asking

    def query(
        self,
        term: str | Path | Term,
        *,
        k: int = 10,
        plus: Sequence[Term] = (),
        without: Sequence[Term] = (),
        every: bool = False,
        where: Filter | None = None,
        page: int = 1,
        sort: Sort = "score",
        relevant: bool = False,
        model: str | None = None,
        explain: bool = True,
        judge: bool = True,
        use_cache: bool = True,
    ) -> QueryResult:
        """The `k` pictures nearest to a text (`str`), a picture file (`Path`) or an earlier hit (`terms.Known`).

        `plus` adds terms, `without` holds terms against a hit, `every` asks that all terms match (see `asking`).
        `where` narrows the search. `page` 2 gives the next k best, and so on; `sort` arranges a page by another order
        than the best first. `relevant` leaves out hits whose `relevance` is not above `relevance.RELEVANT`; where it
        is not known yet what is usual in the library, this finds it out, once. `model` answers with another encoder
        that the library holds. `explain` adds what the built-in encoder saw, `judge` how sure a hit is; `use_cache`
        false neither reads nor keeps text embeddings.
        Raises UsageError for an empty text, k < 1 or an unknown id, ImageError for a picture that cannot be decoded,
        and ModelMismatchError.
        """
        from clipsearch.search.combine import Asker, Question
        from clipsearch.search.hits import make_hits, sort_hits

        if k < 1 or page < 1:
            raise UsageError(f"-k {k} --page {page}: both begin at 1")
        main = as_term(term)
        question = Question((main, *plus), tuple(without), every, where)
        if relevant and question.kind not in ("cosine", "combined"):
            raise UsageError("how sure a hit is can be said of sums only: leave out --relevant, or --without and --all")

        def ask(catalog: Catalog) -> QueryResult:
            cache, searcher = self._helpers(catalog)
            row, notices = self._roster.answering(catalog, model)
            memory = cache if use_cache else NO_CACHE
            asker = Asker(catalog, row, searcher, memory, lambda: self._roster.of(row), notices=notices)
            prepared = asker.prepare(question)
            teller = self._roster.of(row) if explain and not row.info.is_clip else None

            def search() -> tuple[Hit, ...]:
                neighbours = asker.search(prepared, k * page)[k * (page - 1) :]
                return make_hits(catalog, neighbours, where=where, encoder=teller)

            hits = searcher.consistently(search)
            if judge or relevant:
                hits = asker.judge(prepared, hits, learn=relevant)
            if relevant:
                from clipsearch.search.relevance import RELEVANT

                hits = tuple(hit for hit in hits if (hit.relevance or 0) > RELEVANT)
            told = (*notices, *searcher.take_notices())
            return QueryResult(str(main), row.info, sort_hits(hits, sort), told, question.kind)

        return self._ask(ask)

    def query_many(
        self, texts: Sequence[str], *, k: int = 10, where: Filter | None = None, model: str | None = None
    ) -> tuple[QueryResult, ...]:
        """The `k` nearest pictures of each text: one model load and one matrix product for thousands of them.

        Raises what `query` raises.
        """
        from clipsearch.search.embed import embed_texts
        from clipsearch.search.hits import make_many_hits

        if k < 1:
            raise UsageError(f"-k {k}: ask for at least one")
        if not all(text.strip() for text in texts):
            raise UsageError("nothing to look for: a text is empty")

        def ask(catalog: Catalog) -> tuple[QueryResult, ...]:
            cache, searcher = self._helpers(catalog)
            row, notices = self._roster.answering(catalog, model)
            if not texts:
                return ()
            vectors = embed_texts(texts, row, lambda: self._roster.of(row), cache, notices=notices)

            def search() -> list[tuple[Hit, ...]]:
                return make_many_hits(catalog, searcher.nearest_many(row, vectors, k, where=where), where=where)

            hits = searcher.consistently(search)
            told = (*notices, *searcher.take_notices())
            return tuple(QueryResult(text, row.info, each, told) for text, each in zip(texts, hits, strict=True))

        return self._ask(ask)

    def show(self, picture: Path | int, *, k: int = 5, model: str | None = None) -> Shown:
        """Everything known about a picture, by its path or by the id of a hit, with its `k` nearest neighbours.

        Raises UsageError for one that the library does not know.
        """
        from clipsearch.library.info import content_at, describe

        def ask(catalog: Catalog) -> tuple[Shown, bool]:
            content_id = picture if isinstance(picture, int) else content_at(catalog, absolute(picture))
            row, _ = self._roster.answering(catalog, model)
            return describe(catalog, content_id), catalog.embeddings.vector_of(content_id, row.id) is not None

        shown, has_vector = self._ask(ask)
        if not has_vector:
            return shown
        found = self.query(Known(shown.id), k=k + 1, model=model, explain=False).hits
        return replace(shown, neighbours=tuple(hit for hit in found if hit.id != shown.id)[:k])

    def classify(
        self,
        pictures: Iterable[PathLike] | None,
        labels: Sequence[str | Label] = (),
        *,
        templates: Sequence[str] = (),
        k: int | None = 5,
        multi: bool = False,
        threshold: float = 0.5,
        unknown: bool = False,
        margin: float | None = None,
        explain: bool = False,
        classifier: Classifier | None = None,
        where: Filter | None = None,
        model: str | None = None,
        report: Callable[[Step], None] = lambda step: None,
    ) -> ClassifyResult:
        """The `k` most probable of `labels` for each picture; None for pictures means all of the library.

        Folders are walked; what the library holds unchanged is neither opened nor encoded. `templates` are sentences
        with {} for the label, "simple" or "openai". `multi` judges every label by itself, and gives those of at least
        `threshold`; `unknown` says where no label stands `margin` above unrelated ones (docs/classification.md).
        `explain` adds the loudest prompt and the nearest pictures. `classifier` is one that `make_classifier` made, and
        comes in place of labels and templates. `where` narrows the library. `report` hears how far encoding is.
        Raises UsageError for paths, labels and options that cannot be, ModelMismatchError, EncoderError.
        """
        from clipsearch.classify.options import MARGIN, ClassifyOptions
        from clipsearch.classify.run import classify_pictures, make_classifier
        from clipsearch.classify.store import check_encoder

        options = ClassifyOptions(k, multi, threshold, unknown, MARGIN if margin is None else margin, explain)
        given = None if pictures is None else list(pictures)

        def ask(catalog: Catalog) -> ClassifyResult:
            desk, notices = self._desk(catalog, model, report)
            if classifier is not None:
                check_encoder("the classifier", classifier.info.spec, classifier.info.fingerprint, desk.row.info)
            chosen = classifier or make_classifier(desk, labels, templates=templates)
            result = classify_pictures(desk, given, chosen, options, where=where)
            return replace(result, notices=(*notices, *result.notices))

        return self._ask(ask)

    def make_classifier(
        self,
        labels: Sequence[str | Label] = (),
        *,
        examples: PathLike | None = None,
        blend: float | None = None,
        templates: Sequence[str] = (),
        model: str | None = None,
        report: Callable[[Step], None] = lambda step: None,
    ) -> Classifier:
        """A classifier to use again, from labels, or from `examples`, a folder with a folder of pictures a class.

        `blend` is the share of the examples, 0 … 1; without it, the one with the lowest log-loss, each example left out
        once. Raises UsageError, EncoderError and ModelMismatchError as `classify`.
        """
        from clipsearch.classify.run import make_classifier

        def ask(catalog: Catalog) -> Classifier:
            desk, _ = self._desk(catalog, model, report)
            return make_classifier(desk, labels, templates=templates, folder=examples, blend=blend)

        return self._ask(ask)

    def saved_classifier(self, name: str, *, model: str | None = None) -> Classifier:
        """A classifier that was kept under a name, for the encoder that answers.

        Raises UsageError where there is none, ModelMismatchError where it belongs to another encoder.
        """
        from clipsearch.classify.store import load_classifier

        saved = load_classifier(self.path, name)
        return self._ask(lambda catalog: saved.open(self._roster.answering(catalog, model)[0].info))

    def similarity(self, items: Sequence[str | Path | Item], *, model: str | None = None) -> Similarity:
        """Cosines and angles of every two of texts, picture files, earlier hits and literal vectors.

        Raises what `similarity.compare_items` raises, and ModelMismatchError.
        """
        from clipsearch.search.similarity import compare_items

        def ask(catalog: Catalog) -> Similarity:
            row, notices = self._roster.answering(catalog, model)
            cache, _ = self._helpers(catalog)
            found = compare_items(items, row=row, load=lambda: self._roster.of(row), catalog=catalog, cache=cache)
            return replace(found, notices=(*notices, *found.notices))

        return self._ask(ask)

    def project(self, *, most: int = 1000, model: str | None = None) -> Projection:
        """The library's pictures, `most` of them, laid out in two dimensions.

        Raises what `projection.project` raises, and ModelMismatchError.
        """
        from clipsearch.search.projection import project

        def ask(catalog: Catalog) -> Projection:
            row, notices = self._roster.answering(catalog, model)
            return replace(project(catalog, row, most=most), notices=tuple(notices))

        return self._ask(ask)

    # Knowing and tidying

    def info(self) -> LibraryInfo:
        """Counts, encoders, sizes and roots, as they are now."""
        from clipsearch.library.info import info

        def ask(catalog: Catalog) -> LibraryInfo:
            with catalog.reading():
                return info(catalog)

        return self._ask(ask)

    def files(self, state: ListedState) -> tuple[ListedFile, ...]:
        """Files in a state, with the reason where there is one, by path."""
        from clipsearch.library.info import list_files

        return self._ask(lambda catalog: tuple(list_files(catalog, state)))

    def prune(self, *, encoder: str | None = None, cache: bool = False, wait: bool = False) -> Pruned:
        """Remove what no file needs any more: missing files, contents without a file, vectors of `encoder`, the cache.

        Raises UsageError for an encoder that the library does not hold, or that answers or is being filled.
        """
        from clipsearch.library.maintenance import prune

        with self._writer(wait=wait) as catalog:
            return prune(catalog, encoder=encoder, cache=cache)

    def forget(self, paths: Iterable[PathLike], *, wait: bool = False) -> int:
        """Drop files or folders from the library and never scan them again; how many files that were."""
        from clipsearch.library.maintenance import forget

        with self._writer(wait=wait) as catalog:
            return forget(catalog, [absolute(p) for p in paths])

    def reroot(self, old: PathLike, new: PathLike, *, wait: bool = False) -> int:
        """Say that the folder `old` is now at `new`; how many files that were. Where `new` has a row, it stays."""
        from clipsearch.library.maintenance import reroot

        with self._writer(wait=wait) as catalog:
            return reroot(catalog, absolute(old), absolute(new))

    def doctor(self) -> tuple[Finding, ...]:
        """Look the library over: the catalog, its snapshots, the versions at work."""
        from clipsearch.library.doctor import doctor

        return doctor(self.path)

    # Inside

    @contextmanager
    def _writer(self, *, wait: bool = False, stop: Callable[[], bool] = lambda: False) -> Iterator[Catalog]:
        if not self.exists:
            raise NoLibraryError(f"no library in {self.path}; clipsearch index FOLDER makes one")
        with writer_lock(self.path / LOCK_NAME, wait=wait, stop=stop):
            catalog = Catalog.open(self.path, writable=True)
            try:
                with damage_translated(self.path):
                    yield catalog
            finally:
                catalog.close()

    @contextmanager
    def _catalog_or_empty(self) -> Iterator[Catalog]:
        """The catalog, or an empty one elsewhere while there is none."""
        if self.exists:
            yield self._reader()
            return
        with tempfile.TemporaryDirectory(prefix="clipsearch-") as folder:
            catalog = Catalog.create(Path(folder))
            try:
                yield catalog
            finally:
                catalog.close()

    def _reader(self) -> Catalog:
        if self._catalog is None:
            self._catalog = Catalog.open(self.path)
        elif self._catalog.is_stale():
            self.close()
            self._catalog = Catalog.open(self.path)
        return self._catalog

    def _ask(self, question: Callable[[Catalog], Answer]) -> Answer:
        """Put a question to the catalog; again where it was read without SQLite's locks and changed meanwhile."""
        with self._asking, damage_translated(self.path):
            for _ in range(ATTEMPTS):
                catalog = self._reader()
                answer = question(catalog)
                if not catalog.is_stale():
                    break
                self.close()
            return answer

    def _helpers(self, catalog: Catalog) -> tuple[QueryCache, Searcher]:
        if self._cache is None or self._searcher is None:
            self._cache = QueryCache(self.path)
            self._searcher = Searcher(catalog, self._cache)
        return self._cache, self._searcher

    def _desk(self, catalog: Catalog, model: str | None, report: Callable[[Step], None]) -> tuple[Desk, list[str]]:
        """What classification works with, and what the asker should know of the encoder."""
        from clipsearch.classify.run import Desk

        cache, searcher = self._helpers(catalog)
        row, notices = self._roster.answering(catalog, model)
        return Desk(row, lambda: self._roster.of(row), cache, catalog, searcher, report), notices


def _make_catalog(folder: Path, info: EncoderInfo, fallback: str | None) -> None:
    """A catalog appears complete or not at all: it is made in a folder of its own and moved to its place."""
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
    except OSError as exc:
        raise UsageError(f"cannot make a library in {folder}: {exc.strerror}") from exc
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _with_notice(report: IndexReport, notice: str) -> IndexReport:
    return replace(report, notices=(*report.notices, notice))


def _target(catalog: Catalog) -> EncoderRow | None:
    """The encoder that a run without --model would fill."""
    return catalog.filling() or catalog.answering()
