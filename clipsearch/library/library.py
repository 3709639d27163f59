"""`Library`: a folder with a catalog and its snapshots. The command line and Python both use it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from clipsearch.catalog.cache import NO_CACHE, QueryCache
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.encoders.base import EncoderOptions, is_prepared_as_today
from clipsearch.encoders.load import default_spec, load_encoder, refuse_int8
from clipsearch.encoders.specs import parse_spec
from clipsearch.errors import ClipsearchError
from clipsearch.files import PathLike, absolute
from clipsearch.library.access import Access
from clipsearch.library.models import Models
from clipsearch.search.embed import Embedder
from clipsearch.search.neighbours import Searcher
from clipsearch.search.query import AnyTerm, QueryOptions, answer, answer_many
from clipsearch.search.terms import Indexed
from clipsearch.types import Notice, Precision, QueryResult

if TYPE_CHECKING:
    from clipsearch.catalog.filters import Filter
    from clipsearch.classify.classifier import Classifier
    from clipsearch.classify.labels import Label
    from clipsearch.classify.options import ClassifyOptions
    from clipsearch.classify.prototypes import Step
    from clipsearch.classify.results import ClassifyResult
    from clipsearch.indexing.results import IndexReport, Progress
    from clipsearch.indexing.run import RunOptions
    from clipsearch.library.results import Finding, LibraryInfo, ListedFile, ListedState, Pruned, Shown
    from clipsearch.search.projection import Projection
    from clipsearch.search.similarity import Item, Similarity

OUTDATED = (
    "images are prepared better now than when this library was made; new ones already are, and indexing with "
    '`model="{spec}"` encodes all of them again'
)

BASELINE_PAYS_S = 30.0
"""After a run this long, the seconds that it takes to embed the everyday prompts do not matter."""


class Library:
    """An open library. Use it as a context manager, or `close` it.

    Any number of processes may query one while another indexes; threads that share one wait for each other. `options`
    say how encoders are loaded.
    """

    def __init__(self, path: PathLike, options: EncoderOptions | None = None) -> None:
        self.path = Path(os.fsdecode(absolute(path)))
        self._access = Access(self.path)
        self._models = Models(self.path, options or EncoderOptions())

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

        By default the default model; where it is not cached and no hub answers, the built-in one (docs/models.md).
        `precision` "int8" announces that the first run will use it; a model without it is refused at once.
        Raises UsageError where there is already a library or the folder cannot be written, and what `load_encoder`
        raises; then nothing is left behind.
        """
        library = cls(path, options)
        library._access.refuse_existing()
        spec, fallback = (model, None) if model is not None else default_spec()
        encoder = load_encoder(spec, library._models.options)
        library._models.keep(encoder)
        if precision == "int8":
            refuse_int8(encoder)
        library._access.create(encoder.info, fallback)
        return library

    @classmethod
    def open(cls, path: PathLike, *, options: EncoderOptions | None = None) -> Self:
        """Open the library in the folder `path`. Raises NoLibraryError, DamagedError."""
        library = cls(path, options)
        library._access.require()
        library._access.reader()
        return library

    @property
    def exists(self) -> bool:
        """Whether there is a catalog in the folder."""
        return self._access.exists

    def close(self) -> None:
        self._access.close()

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
        notify: Callable[[str], None] = lambda text: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> IndexReport:
        """Bring the library up to date with `paths`, or with all roots it knows.

        `model` names another encoder to build beside the active one, until it can take over; the active model's name
        cancels the switch. `precision` "int8" builds the model in 8 bits, calibrated on a sample of the images, "fp32"
        in full precision; by default the library's own encoder. `wait` waits for another writer. `notify` is called
        with what should be known before the run continues: how well 8 bits agree with full precision. `stop` is called
        between files; once it is true, the current batch is finished and the report is marked `interrupted`.
        Raises UsageError for paths that cannot be used, LockedError, EncoderError, ModelMismatchError.
        """
        from clipsearch.indexing import run as indexing
        from clipsearch.library.int8 import due_again, mentioning

        options = run or indexing.RunOptions()
        wanted = [absolute(p) for p in paths]
        if dry_run:
            with self._access.reader_or_empty() as catalog:
                return indexing.dry_run(catalog, wanted, options, encoder=_target(catalog))
        with self._access.writer(wait=wait, stop=stop) as catalog:
            if model is not None or precision is not None:
                indexing.check_paths(catalog, wanted, options)  # A refused run must not start a switch.
            int8 = parse_spec(model).int8 if model is not None else due_again(catalog, wanted, options.given, stop)
            if int8 or precision is not None:
                row = self._models.to_fill_in(
                    catalog, model, precision, wanted, options.given, notify=notify, stop=stop
                )
            else:
                row = self._models.to_fill(catalog, model)
            work = indexing.IndexRun(
                catalog,
                lambda: self._models.of(row),
                row,
                options,
                device=self._models.options.device,
                progress=progress
                if precision
                else mentioning(catalog, row.info, self._models.options, progress, notify),
                stop=stop,
            )
            report = work.run(wanted)
            if not report.interrupted and (report.encoded or report.missing):
                report = self._prepare_queries(catalog, row, report)
            if not is_prepared_as_today(row.info.details):
                report = _with_notice(report, OUTDATED.format(spec=row.info.spec))
            return report

    def _prepare_queries(self, catalog: Catalog, row: EncoderRow, report: IndexReport) -> IndexReport:
        """Do now what the first query would have to wait for. A failure here does not fail the finished run."""
        try:
            if report.encoded:
                self._models.of(row).convert()
            self._measure_baseline(catalog, row, always=report.encoded > 0 and report.seconds > BASELINE_PAYS_S)
        except ClipsearchError as exc:
            return _with_notice(report, f"queries are not prepared yet: {exc}")
        return report

    def _measure_baseline(self, catalog: Catalog, row: EncoderRow, *, always: bool) -> None:
        """Measure the baseline of queries; unless `always`, only where one exists and its images have changed."""
        from clipsearch.search import baselines

        with contextlib.closing(QueryCache(self.path)) as cache:
            if always or baselines.exists(row, cache):
                baselines.learn(catalog, row, cache, Embedder(row, lambda: self._models.of(row), cache).texts)

    # Queries and labels

    def query(
        self,
        terms: AnyTerm | Sequence[AnyTerm],
        *,
        k: int = 10,
        where: Filter | None = None,
        options: QueryOptions = QueryOptions(),  # noqa: B008
    ) -> QueryResult:
        """The `k` images nearest to one or several terms: words (`str`), an image file (`Path`), an earlier hit.

        Several terms are balanced and added; the classes of `search.terms` give them weights. `where` filters, and
        `options` say the rest: see `QueryOptions`.
        Raises UsageError for an empty text, k < 1 or an unknown id, ImageError for an image that cannot be decoded,
        and ModelMismatchError.
        """

        def question(catalog: Catalog) -> QueryResult:
            embedder, searcher = self._embedder(catalog, options.model, use_cache=options.use_cache)
            return answer(catalog, embedder, searcher, terms, k=k, where=where, options=options)

        return self._access.answer(question)

    def query_many(
        self, texts: Sequence[str], *, k: int = 10, where: Filter | None = None, model: str | None = None
    ) -> tuple[QueryResult, ...]:
        """The `k` nearest images of each text: one model load and one matrix product for thousands of them.

        Raises what `query` raises.
        """

        def question(catalog: Catalog) -> tuple[QueryResult, ...]:
            embedder, searcher = self._embedder(catalog, model)
            return answer_many(catalog, embedder, searcher, texts, k=k, where=where)

        return self._access.answer(question)

    def show(self, image: Path | int, *, k: int = 5, model: str | None = None) -> Shown:
        """Everything known about an image, by its path or by the id of a hit, with its `k` nearest neighbours.

        Raises UsageError for one that the library does not know.
        """
        from clipsearch.library.info import content_at, describe

        def question(catalog: Catalog) -> tuple[Shown, bool]:
            content_id = image if isinstance(image, int) else content_at(catalog, image)
            row, _ = self._models.active(catalog, model)
            return describe(catalog, content_id), catalog.embeddings.vector_of(content_id, row.id) is not None

        shown, has_vector = self._access.answer(question)
        if not has_vector:
            return shown
        found = self.query(Indexed(shown.id), k=k + 1, options=QueryOptions(model=model, explain=False))
        return replace(shown, neighbours=tuple(hit for hit in found if shown.id not in hit.ids)[:k])

    def classify(
        self,
        images: Iterable[PathLike] | None,
        labels: Sequence[str | Label] = (),
        *,
        where: Filter | None = None,
        options: ClassifyOptions | None = None,
        classifier: Classifier | None = None,
        progress: Callable[[Step], None] = lambda step: None,
    ) -> ClassifyResult:
        """The most probable of `labels` for each image; None for images means all of the library.

        Folders are walked; what the library holds unchanged is neither opened nor encoded. `where` filters the library,
        `options` say the rest: see `ClassifyOptions`. `classifier` is one that `make_classifier` made, and comes in
        place of labels and templates. `progress` hears how far encoding is.
        Raises UsageError for paths, labels and options that cannot be used, ModelMismatchError, EncoderError.
        """
        from clipsearch.classify import run
        from clipsearch.classify.options import ClassifyOptions
        from clipsearch.classify.store import check_encoder

        chosen = options or ClassifyOptions()
        given = None if images is None else list(images)

        def question(catalog: Catalog) -> ClassifyResult:
            embedder, searcher = self._embedder(catalog, chosen.model)
            if classifier is not None:
                check_encoder("the classifier", classifier.info.spec, classifier.info.fingerprint, embedder.row.info)
            made = classifier or run.make_classifier(embedder, labels, templates=chosen.templates, progress=progress)
            return run.classify_images(embedder, given, made, chosen, where=where, searcher=searcher, progress=progress)

        return self._access.answer(question)

    def make_classifier(
        self,
        labels: Sequence[str | Label] = (),
        *,
        examples: PathLike | None = None,
        blend: float | None = None,
        templates: Sequence[str] = (),
        model: str | None = None,
        progress: Callable[[Step], None] = lambda step: None,
    ) -> Classifier:
        """A classifier to use again, from labels, or from `examples`, a folder with one folder of images per class.

        `blend` is the share of the examples, 0 … 1; without it, the one with the lowest leave-one-out log-loss. Raises
        UsageError, EncoderError and ModelMismatchError as `classify`.
        """
        from clipsearch.classify import run

        def question(catalog: Catalog) -> Classifier:
            embedder, _ = self._embedder(catalog, model)
            return run.make_classifier(
                embedder, labels, templates=templates, examples=examples, blend=blend, progress=progress
            )

        return self._access.answer(question)

    def saved_classifier(self, name: str, *, model: str | None = None) -> Classifier:
        """A saved classifier, for the active model.

        Raises UsageError where there is none, ModelMismatchError where it belongs to another encoder.
        """
        from clipsearch.classify.store import load_classifier

        saved = load_classifier(self.path, name)
        return self._access.answer(lambda catalog: saved.open(self._models.active(catalog, model)[0].info))

    def similarity(self, items: Sequence[str | Path | Item], *, model: str | None = None) -> Similarity:
        """Cosines and angles of every two of texts, image files, earlier hits and literal vectors.

        Raises what `similarity.compare_items` raises, and ModelMismatchError.
        """
        from clipsearch.search.similarity import compare_items

        return self._access.answer(lambda catalog: compare_items(items, self._embedder(catalog, model)[0]))

    def project(self, *, most: int = 1000, model: str | None = None) -> Projection:
        """The images of the library, at most `most` of them, laid out in two dimensions.

        Raises what `projection.project` raises, and ModelMismatchError.
        """
        from clipsearch.search.projection import project

        def question(catalog: Catalog) -> Projection:
            row, notices = self._models.active(catalog, model)
            return replace(project(catalog, row, most=most), notices=tuple(notices))

        return self._access.answer(question)

    # Information and maintenance

    def info(self) -> LibraryInfo:
        """Counts, encoders, sizes and roots, as they are now."""
        from clipsearch.library.info import info

        def question(catalog: Catalog) -> LibraryInfo:
            with catalog.reading():
                return info(catalog)

        return self._access.answer(question)

    def files(self, state: ListedState) -> tuple[ListedFile, ...]:
        """Files in a state, with the reason if there is one, by path."""
        from clipsearch.library.info import list_files

        return self._access.answer(lambda catalog: tuple(list_files(catalog, state)))

    def prune(self, *, encoder: str | None = None, cache: bool = False, wait: bool = False) -> Pruned:
        """Remove missing files, contents without a file, and on request the embeddings of `encoder` and the cache.

        Raises UsageError for an encoder that the library does not have, or that is active or being built.
        """
        from clipsearch.library.maintenance import prune

        with self._access.writer(wait=wait) as catalog:
            return prune(catalog, encoder=encoder, cache=cache)

    def forget(self, paths: Iterable[PathLike], *, wait: bool = False) -> int:
        """Drop files or folders from the library and never scan them again; returns the number of files."""
        from clipsearch.library.maintenance import forget

        with self._access.writer(wait=wait) as catalog:
            return forget(catalog, list(paths))

    def reroot(self, old: PathLike, new: PathLike, *, wait: bool = False) -> int:
        """Tell the library that the folder `old` is now at `new`; returns the number of files."""
        from clipsearch.library.reroot import reroot

        with self._access.writer(wait=wait) as catalog:
            return reroot(catalog, old, new)

    def doctor(self) -> tuple[Finding, ...]:
        """Check the catalog, its snapshots and the versions of packages, and suggest fixes."""
        from clipsearch.library.doctor import doctor

        return doctor(self.path)

    # Inside

    def _embedder(self, catalog: Catalog, model: str | None, *, use_cache: bool = True) -> tuple[Embedder, Searcher]:
        """What embeds by the active model, or by `model`, with what should be known of it; and what searches."""
        cache, searcher = self._access.search_tools(catalog)
        row, notices = self._models.active(catalog, model)
        used = cache if use_cache else NO_CACHE
        return Embedder(row, lambda: self._models.of(row), used, catalog, notices=notices), searcher


def _with_notice(report: IndexReport, text: str) -> IndexReport:
    return replace(report, notices=(*report.notices, Notice("advice", text)))


def _target(catalog: Catalog) -> EncoderRow | None:
    """The encoder that a run without `model` would add embeddings of."""
    return catalog.building() or catalog.active()
