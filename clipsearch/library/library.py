"""`Library`: a folder with a catalog and its snapshots. The command line and Python both use it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from clipsearch.catalog.cache import NO_CACHE
from clipsearch.catalog.catalog import Catalog
from clipsearch.encoders.base import EncoderOptions
from clipsearch.encoders.load import default_spec, load_encoder, refuse_int8
from clipsearch.files import PathLike, absolute
from clipsearch.library.access import Access
from clipsearch.library.models import Models
from clipsearch.search.embed import Embedder
from clipsearch.search.neighbours import Searcher
from clipsearch.search.query import AnyTerm, QueryOptions, answer, answer_many, as_terms
from clipsearch.search.terms import Image, Indexed
from clipsearch.types import Precision, QueryResult

if TYPE_CHECKING:
    from clipsearch.catalog.filters import Filter
    from clipsearch.classify.classifier import Classifier
    from clipsearch.classify.labels import Label
    from clipsearch.classify.options import ClassifyOptions
    from clipsearch.classify.prototypes import Step
    from clipsearch.classify.results import ClassifyResult
    from clipsearch.indexing.results import IndexReport, Progress
    from clipsearch.indexing.run import RunOptions
    from clipsearch.library.originals import Original
    from clipsearch.library.results import EmbedResult, Finding, LibraryInfo, ListedFile, ListedState, Pruned, Shown
    from clipsearch.search.projection import Projection
    from clipsearch.search.similarity import Item, Similarity


class Library:
    """An open library. Use it as a context manager, or `close` it.

    Any number of processes may query one while another indexes; threads that share one wait for each other, unless
    each has its own `reader`. `options` say how encoders are loaded. `serving` is for a server with many threads: texts
    that they want encoded at the same time are encoded together, and the `model` of a query can only be one that the
    library has, under its own name: no file is looked at and nothing downloaded for it.
    """

    def __init__(self, path: PathLike, options: EncoderOptions | None = None, *, serving: bool = False) -> None:
        self.path = Path(os.fsdecode(absolute(path)))
        self._access = Access(self.path)
        self._models = Models(self.path, options or EncoderOptions(), serving=serving)

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
    def open(cls, path: PathLike, *, options: EncoderOptions | None = None, serving: bool = False) -> Self:
        """Open the library in the folder `path`. Raises NoLibraryError, DamagedError."""
        library = cls(path, options, serving=serving)
        library._access.require()
        library._access.reader()
        return library

    def reader(self) -> Self:
        """The same library for another thread, with the same loaded encoders: the two do not wait for each other.

        Close it on its own.
        """
        other = type(self)(self.path)
        other._models = self._models
        return other

    def warm_up(self) -> None:
        """Load the active encoder's text side now: the next query need not wait.

        Raises NoLibraryError, EncoderError and ModelMismatchError.
        """
        row, _ = self._access.answer(lambda catalog: self._models.active(catalog, None))
        self._models.of(row).encode_texts(["warm"])  # Its tokenizer loads, too.

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
        from clipsearch.library.index import index

        return index(
            self._access,
            self._models,
            paths,
            model=model,
            precision=precision,
            run=run,
            wait=wait,
            dry_run=dry_run,
            progress=progress,
            notify=notify,
            stop=stop,
        )

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

    def embed(self, terms: AnyTerm | Sequence[AnyTerm], *, model: str | None = None) -> EmbedResult:
        """The unit vectors of words (`str`), image files (`Path`), and terms of `search.terms`, whatever their weights.

        Images of the library are not encoded again. Raises what `query` raises.
        """
        from clipsearch.library.results import EmbedResult

        def question(catalog: Catalog) -> EmbedResult:
            embedder, _ = self._embedder(catalog, model)
            vectors = embedder.terms(as_terms(terms))
            return EmbedResult(embedder.row.info, vectors, tuple(embedder.notices))

        return self._access.answer(question)

    def show(self, image: Path | int, *, k: int = 5, model: str | None = None) -> Shown:
        """Everything known about an image, by its path or by the id of a hit, with its `k` nearest neighbours.

        Raises UsageError for one that the library does not know.
        """
        from clipsearch.library.info import content_at, describe

        def question(catalog: Catalog) -> Shown:
            embedder, searcher = self._embedder(catalog, model)

            def look() -> Shown:
                shown = describe(catalog, image if isinstance(image, int) else content_at(catalog, image))
                if catalog.embeddings.vector_of(shown.id, embedder.row.id) is None:
                    return shown
                options = QueryOptions(explain=False)
                found = answer(catalog, embedder, searcher, Indexed(shown.id), k=k + 1, where=None, options=options)
                return replace(shown, neighbours=tuple(hit for hit in found if shown.id not in hit.ids)[:k])

            return searcher.consistently(look)

        return self._access.answer(question)

    def classify(
        self,
        images: Iterable[PathLike | Image | Indexed] | None,
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

    def digest(self, id: int) -> bytes | None:
        """The SHA-256 of the image with this id, the id of a hit; None where the library has no such image."""
        return self._access.answer(lambda catalog: catalog.contents.digest(id))

    def original(self, id: int) -> Original:
        """The image with this id, the id of a hit, and its open file: the first that still is that image.

        Raises UsageError where the library has no such image, ImageError where none of its files can be read.
        """
        from clipsearch.library.originals import open_original, recorded

        # Opened outside: a question may be asked twice, and reading a large file would hold up other threads.
        return open_original(*self._access.answer(lambda catalog: recorded(catalog, id)))

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
