"""The engines over FAISS: flat inner product, and inverted lists of flat vectors. The only module that imports faiss.

A file holds an IndexIDMap around one of the two. Searches go to the inner index, whose ids are positions, so that any
ids cost the same: filters are bitmaps over positions, and the id map is only read. (IndexIDMap2 would build a hash map
of all ids at open.) Files are mapped: never `add` to an index that was opened here, that aborts the process.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from numpy.typing import NDArray

from clipsearch.types import is_text
from clipsearch.vectors import exact as oracle
from clipsearch.vectors.checks import with_positions
from clipsearch.vectors.index import Build, DamagedSnapshot
from clipsearch.vectors.ivf import RECALL_AT, TARGET, TRAINING_PER_LIST, Probes, Sample, choose_nprobe, lists_for
from clipsearch.vectors.snapshot_file import verify

if TYPE_CHECKING:
    from clipsearch.vectors.index import Write

FEW_QUERIES = 16
"""Fewer queries than this run on one thread: more makes them wait for each other (4 ms jumps on a busy machine), and
FAISS turns to matrix products only at 20."""

_SPARE = 8
"""Results asked for beyond k, so that one search mostly shows that nothing near the k-th was cut off."""

_GATHERED = 1 << 24
"""Numbers that one reconstruction may hold: 64 MB as float32."""

_WRITE_BYTES = 1 << 20

_ITERATIONS = 8
"""Of k-means; what fewer cost in recall, nprobe makes up for."""


class FaissIndex:
    """A VectorIndex over an IndexIDMap, in memory or mapped; nprobe matters to "ivf" alone."""

    def __init__(self, root: faiss.Index, *, engine: str, nprobe: int = 0) -> None:
        self._root = root  # owns what the next two point into
        self._inner = faiss.downcast_index(root.index)
        self._ids: NDArray[np.int64] = faiss.rev_swig_ptr(root.id_map.data(), root.ntotal)
        self._nprobe = nprobe
        self._mapping = Lock()
        self._mapped = engine == "exact"  # whether positions lead to vectors: those of lists have to be looked up first
        self.engine = engine
        self.approximate = engine == "ivf"
        self.count: int = root.ntotal
        self.dim: int = root.d

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.int64] | None = None,
        exhaustive: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See VectorIndex."""
        queries = oracle.check_queries(queries, k, self.dim)
        places = None if allowed is None else oracle.members(self._ids, allowed)
        total = self.count if places is None else len(places)
        width = min(k, total)
        scores = np.full((len(queries), width), -np.inf, dtype=np.float32)
        ids = np.full((len(queries), width), -1, dtype=np.int64)
        if not width:
            return scores, ids
        params = self._parameters(places, exhaustive=exhaustive)
        pending = np.arange(len(queries))
        take = min(total, width + max(_SPARE, width // 8))
        while len(pending):
            # What the engine cut off may belong in, by its rounding or by a tie: then more of that row are fetched.
            rough, found, better = self._candidates(queries[pending], take, params)
            cut = (found[:, -1] >= 0) & (rough[:, -1] >= rough[:, width - 1] - oracle.ROUNDING)
            settled = ~cut | (take == total)
            names = np.where(found < 0, -1, self._ids[found])
            best = np.lexsort((names, -better), axis=1)[:, :width]
            scores[pending[settled]] = np.take_along_axis(better, best, axis=1)[settled]
            ids[pending[settled]] = np.take_along_axis(names, best, axis=1)[settled]
            pending = pending[~settled]
            take = min(total, take * 4)
        return scores, ids

    def centroids(self) -> NDArray[np.float32]:
        """The lists' centroids, shape (nlist, dim), of an "ivf" index."""
        quantizer = faiss.downcast_index(self._inner.quantizer)
        copied: NDArray[np.float32] = quantizer.reconstruct_n(0, quantizer.ntotal)
        return copied

    def _candidates(
        self, queries: NDArray[np.float32], take: int, params: faiss.SearchParameters
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
        """The engine's scores, positions (-1 where there is none) and true scores, each of shape (m, take)."""
        with _threads(1 if len(queries) < FEW_QUERIES else None):
            if self.engine == "ivf" and params.sel is None and take * self.dim <= _GATHERED:
                rough, found, better = self._search_lists(queries, take, params)
            else:
                # All queries in one call, for its matrix product; their vectors in blocks, for the memory.
                rough, found = self._inner.search(queries, take, params=params)
                better = self._score(queries, found)
        better[found < 0] = -np.inf
        return rough, found, better

    def _search_lists(
        self, queries: NDArray[np.float32], take: int, params: faiss.SearchParameters
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
        """As `_candidates`, by a search that returns the vectors too: at 1M it saves a cold query 40 ms of look-up."""
        parts = []
        step = _GATHERED // (take * self.dim)
        for start in range(0, len(queries), step):
            some = queries[start : start + step]
            # FAISS leaves the vectors of missing results as they are.
            vectors = np.zeros((len(some), take, self.dim), dtype=np.float32)
            rough, found, _ = self._inner.search_and_reconstruct(some, take, params=params, R=vectors)
            parts.append((rough, found, oracle.inner_products(some, vectors)))
        rough, found, better = (np.concatenate(column) for column in zip(*parts, strict=True))
        return rough, found, better

    def _score(self, queries: NDArray[np.float32], found: NDArray[np.int64]) -> NDArray[np.float32]:
        """The true scores of the vectors at positions `found`, shape (m, take); anything where a position is -1."""
        with self._mapping:
            if not self._mapped:
                self._inner.make_direct_map()
                self._mapped = True
        better = np.empty(found.shape, dtype=np.float32)
        columns = min(found.shape[1], max(1, _GATHERED // self.dim))
        rows = max(1, _GATHERED // (columns * self.dim))
        for row, column in product(range(0, len(queries), rows), range(0, found.shape[1], columns)):
            block = slice(row, row + rows), slice(column, column + columns)
            places = np.maximum(found[block], 0)
            vectors = self._inner.reconstruct_batch(places.ravel()).reshape(*places.shape, self.dim)
            better[block] = oracle.inner_products(queries[block[0]], vectors)
        return better

    def _parameters(self, places: NDArray[np.int64] | None, *, exhaustive: bool) -> faiss.SearchParameters:
        selected: dict[str, Any] = {}
        if places is not None:
            bits = np.zeros(self.count, dtype=bool)
            bits[places] = True
            selected["sel"] = faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))
        if self.engine == "exact":
            return faiss.SearchParameters(**selected)
        # With a selector, lists are still visited by their own rank: 1 of 5 allowed ids came back at nprobe 16.
        everything = exhaustive or places is not None
        return faiss.SearchParametersIVF(nprobe=self._inner.nlist if everything else self._nprobe, **selected)


class Flat:
    """Exact search: every vector is scored."""

    def write(self, write: Write, build: Build) -> Mapping[str, Any]:
        """See Engine."""
        _write(_build_exact(build), write)
        _trim_memory()
        return {}

    def open(self, path: Path, *, dim: int, count: int, details: Mapping[str, Any]) -> FaissIndex:
        """See Engine."""
        return _open(path, engine="exact", nprobe=0, dim=dim, count=count)


class InvertedLists:
    """Approximate search of the lists whose centroids are nearest to a query, as many as a recall needs.

    Building goes over the vectors two or three times. The centroids of the previous snapshot are reused until the
    vectors have doubled since they were trained. `build.probes` help to choose nprobe; images among the vectors are
    drawn as well.
    """

    def write(self, write: Write, build: Build) -> Mapping[str, Any]:
        """See Engine."""
        root, details = _build_ivf(build, _previous_centroids(build))
        _write(root, write)
        del root  # before the file is read back
        _trim_memory()
        return details

    def open(self, path: Path, *, dim: int, count: int, details: Mapping[str, Any]) -> FaissIndex:
        """See Engine."""
        return _open(path, engine="ivf", nprobe=details.get("nprobe", 1), dim=dim, count=count)


EXACT, IVF = Flat(), InvertedLists()


def _write(root: faiss.Index, write: Write) -> None:
    faiss.write_index(root, faiss.PyCallbackIOWriter(write, _WRITE_BYTES))


@contextmanager
def _utf8_name(path: Path) -> Iterator[str]:
    """A name for the file that FAISS accepts: its Python binding can only pass on names in UTF-8."""
    if is_text(str(path)):
        yield str(path)
        return
    with path.open("rb") as file:
        yield f"/dev/fd/{file.fileno()}"


def _open(path: Path, *, engine: str, nprobe: int, dim: int, count: int) -> FaissIndex:
    """Map the file at `path`. Its bytes must have been verified: FAISS may crash on what it did not write itself."""
    try:
        with _utf8_name(path) as name:
            root = faiss.read_index(name, faiss.IO_FLAG_MMAP_IFC)
    except (RuntimeError, MemoryError) as exc:
        raise DamagedSnapshot(f"{path} is not a vector index that FAISS can read") from exc
    inner = faiss.downcast_index(root.index) if isinstance(root, faiss.IndexIDMap) else root
    kind = {faiss.IndexFlatIP: "exact", faiss.IndexIVFFlat: "ivf"}.get(type(inner))
    if (kind, root.d, root.ntotal, inner.ntotal) != (engine, dim, count, count):
        raise DamagedSnapshot(
            f"{path} holds {root.ntotal:,} vectors of {root.d} dimensions ({kind or type(inner).__name__}) "
            f"instead of {count:,} of {dim} ({engine})"
        )
    _read_ahead(inner, engine=engine)
    return FaissIndex(root, engine=engine, nprobe=nprobe)


def _read_ahead(inner: faiss.Index, *, engine: str) -> None:
    """Have the kernel read a mapped index ahead of a scan, as far as it isn't in memory.

    FAISS maps files for random access, page by page: a first search of 200,000 vectors that had to come from the disk
    took 9.9 s, so advised 0.5 s; all lists of 400,000 17 s and 1.2 s; a few lists the same either way.
    """
    if engine == "exact":
        start = int(inner.get_xb())
        end = start + inner.ntotal * inner.d * 4
    else:
        lists = inner.invlists
        first = next(n for n in range(inner.nlist) if lists.list_size(n))
        last = next(n for n in reversed(range(inner.nlist)) if lists.list_size(n))
        start = int(lists.get_codes(first))
        end = int(lists.get_codes(last)) + lists.list_size(last) * inner.code_size
    start -= start % mmap.PAGESIZE
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_SEQUENTIAL)


def _build_exact(build: Build) -> faiss.Index:
    flat = faiss.IndexFlatIP(build.dim)
    # Reserved at once: growing by doubling would hold the vectors twice.
    flat.codes.resize(build.total * build.dim * 4)
    flat.codes.resize(0)
    root = faiss.IndexIDMap(flat)
    for ids, vectors in build.chunks():
        root.add_with_ids(vectors, ids)
    return root


def _build_ivf(build: Build, centroids: tuple[NDArray[np.float32], int] | None) -> tuple[faiss.Index, dict[str, Any]]:
    """The index and its details. `centroids`, shape (nlist, dim), come with the count they were trained on."""
    dim, count, source = build.dim, build.total, build.chunks
    kept = centroids is not None
    sample = Sample(count, dim=dim, training=0 if kept else min(count, TRAINING_PER_LIST * lists_for(count)))
    if centroids is None:
        for _, vectors in source():
            sample.add(vectors)
        centroids = _train(sample.training, lists_for(count)), count
        sample.forget_training()
    quantizer = faiss.IndexFlatIP(dim)
    quantizer.add(centroids[0])
    inverted = faiss.IndexIVFFlat(quantizer, dim, len(centroids[0]), faiss.METRIC_INNER_PRODUCT)
    root = faiss.IndexIDMap(inverted)  # wants to be made around an empty index

    assigned = np.empty(count, dtype=np.int64)
    for start, _, vectors in with_positions(source):
        assigned[start : start + len(vectors)] = quantizer.search(vectors, 1)[1][:, 0]
        if kept:
            sample.add(vectors)
    texts = build.probes() if build.probes else None
    truth = Probes(sample, texts)
    _reserve(inverted.invlists, np.bincount(assigned, minlength=inverted.nlist))
    names = np.empty(count, dtype=np.int64)
    for start, ids, vectors in with_positions(source):
        end = start + len(ids)
        names[start:end] = ids
        truth.add(start, vectors)
        inverted.add_core(len(ids), faiss.swig_ptr(vectors), None, faiss.swig_ptr(assigned[start:end]))
    faiss.copy_array_to_vector(names, root.id_map)
    root.ntotal = inverted.ntotal

    def search(queries: NDArray[np.float32], k: int, nprobe: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        found: tuple[NDArray[np.float32], NDArray[np.int64]] = inverted.search(
            queries, k, params=faiss.SearchParametersIVF(nprobe=nprobe)
        )
        return found

    # Texts need more lists than images: what was chosen with them is not lowered without them.
    known = 1 if texts is not None or build.previous is None else build.previous.details.get("nprobe", 1)
    nprobe, recall = choose_nprobe(truth, search, lists=inverted.nlist, least=known)
    return root, {
        "nlist": inverted.nlist,
        "nprobe": nprobe,
        "trained_on": centroids[1],
        "recall": dict(recall),
        "recall_at": RECALL_AT,
        "target": TARGET,
        "probes": truth.sizes,
    }


def _train(sample: NDArray[np.float32], lists: int) -> NDArray[np.float32]:
    """Centroids of shape (lists, dim) on the unit sphere, by k-means over `sample`."""
    means = faiss.Clustering(sample.shape[1], lists)
    means.niter, means.spherical = _ITERATIONS, True
    means.min_points_per_centroid, means.max_points_per_centroid = 1, len(sample)
    means.train(sample, faiss.IndexFlatIP(sample.shape[1]))
    centroids: NDArray[np.float32] = faiss.vector_to_array(means.centroids).reshape(lists, sample.shape[1])
    return centroids


def _previous_centroids(build: Build) -> tuple[NDArray[np.float32], int] | None:
    """The centroids of `build.previous` and the count they were trained on; None where that has doubled."""
    previous = build.previous
    if previous is None or previous.engine != "ivf" or build.total >= 2 * previous.details.get("trained_on", 0):
        return None
    path = build.folder / previous.name
    try:
        verify(build.folder, previous)
        index = IVF.open(path, dim=build.dim, count=previous.count, details=previous.details)
    except DamagedSnapshot:
        return None
    return index.centroids(), previous.details["trained_on"]


def _reserve(lists: faiss.InvertedLists, sizes: NDArray[np.int64]) -> None:
    """Reserve what each list will hold: growing by doubling would take up to twice the memory."""
    for number, size in enumerate(sizes.tolist()):
        lists.resize(number, size)
        lists.resize(number, 0)


def _trim_memory() -> None:
    """Have the C library return freed memory: glibc keeps that of an IVF's lists, up to a gigabyte, for later."""
    with suppress(AttributeError, OSError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Run FAISS on `number` OpenMP threads; the setting belongs to the calling thread, and is restored."""
    before = faiss.omp_get_max_threads()
    if number is not None:
        faiss.omp_set_num_threads(number)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
