"""Texts, terms and images to unit vectors, taken from the cache and the catalog where they are known."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from clipsearch.catalog.cache import NO_CACHE, QueryCache
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.encoders.base import Encoder, encode_halving
from clipsearch.errors import ImageError, UsageError, reason
from clipsearch.files import absolute
from clipsearch.images import decode
from clipsearch.images.requests import Steps
from clipsearch.images.workers import shared
from clipsearch.search.terms import Image, Indexed, Region, Term, Text
from clipsearch.types import MAX_INTEGER, EncoderInfo, Notice, is_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LoadEncoder = Callable[[], Encoder]

SHOWN_CUT = 60
"""Characters that are shown of the end of a text that is too long."""

BATCH = 16
"""Images that are encoded together; more gains nothing on a CPU."""

COMPARED = 2_000
"""Texts that are compared with one another, at most: that takes 0.2 s."""

SHOWN_SAME = 5
"""Groups of texts that cannot be told apart that a notice names."""

SAME_LOGIT = 0.1
"""Two texts cannot be told apart where no image's logits for them differ by more. In the built-in encoder, the words
that it does not know have one vector; the nearest of the 1,000 other names in ImageNet differ by 5."""

MEANINGLESS = ("", "~", "\U00012000")
"""Texts that describe no image: nothing, a symbol, and a cuneiform character. The built-in encoder embeds words
that it does not know like these; of the names in ImageNet and 2,136 other words, the nearest differs by 14 logits."""


class EmbeddedImage(NamedTuple):
    """The unit vector of an image file, shape (dim,), or the reason why there is none; `partial`: it ends early."""

    path: bytes
    vector: NDArray[np.float32] | None
    reason: str | None = None
    partial: bool = False


class _Loaded(NamedTuple):
    """An image before it is encoded: a stored vector, pixels, or the error that left it without either."""

    path: bytes
    stored: NDArray[np.float32] | None = None
    pixels: NDArray[np.uint8] | None = None
    partial: bool = False
    error: ImageError | UsageError | None = None


class Embedder:
    """Unit vectors by one encoder, which `load` loads only when something is not known yet.

    `cache` keeps the vectors of texts, `catalog` holds those of indexed images; None for work without a library.
    `notices` collects what the caller should know, such as texts that are too long. `loaded`: whether the encoder was
    needed so far. Not for several threads.
    """

    def __init__(
        self,
        row: EncoderRow,
        load: LoadEncoder,
        cache: QueryCache = NO_CACHE,
        catalog: Catalog | None = None,
        *,
        notices: Iterable[Notice] = (),
    ) -> None:
        self.row = row
        self.loaded = False
        self._load = load
        self.cache = cache
        self.catalog = catalog
        self.notices = list(notices)

    def load(self) -> Encoder:
        self.loaded = True
        return self._load()

    def texts(self, texts: Sequence[str], *, keep: bool = True) -> NDArray[np.float32]:
        """Unit rows of shape (len(texts), dim). `keep` allows the cache to keep them.

        Adds a notice for each text whose end the encoder ignores. Raises UsageError for a text that is not valid UTF-8.
        """
        import numpy as np

        for text in texts:
            if not is_text(text):
                raise UsageError(f"the text {text} is not valid UTF-8")
        info, cache = self.row.info, self.cache if keep else NO_CACHE
        known = cache.texts(info.fingerprint, texts, dim=info.dim)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            known |= dict(zip(missing, self.load().encode_texts(missing), strict=True))
            # A truncated text is announced each time, hence never cached.
            whole = {text: known[text] for text in missing if not self._note_overflow(text)}
            cache.put_texts(info.fingerprint, whole, now=int(time.time()))
        rows: NDArray[np.float32] = np.stack([known[text] for text in texts])
        return rows

    def term(self, term: Term) -> NDArray[np.float32]:
        """The unit vector of a term, shape (dim,). An image that the catalog holds is not encoded again.

        Raises UsageError for an id that the library does not hold, and for an image that cannot be read, ImageError for
        one that cannot be decoded.
        """
        if isinstance(term, Text):
            vector: NDArray[np.float32] = self.texts([term.words])[0]
            return vector
        if isinstance(term, Indexed):
            return self._known(term)
        if isinstance(term.source, bytes) and term.region is None:
            stored = self._stored(functools.partial(_content_with, hashlib.sha256(term.source).digest()))
            if stored is not None:
                return stored
        self._get_ready(term)
        loaded = shared().do(functools.partial(self._term, term))
        if loaded.error is not None:
            raise loaded.error
        if loaded.partial:
            self.notices.append(
                Notice("partial", f"{os.fsdecode(loaded.path)} is truncated; only its existing part was used")
            )
        return self._encoded([loaded])[0]

    def terms(self, terms: Sequence[Term]) -> NDArray[np.float32]:
        """The unit vectors of terms, shape (len(terms), dim); all texts are embedded together. Raises as `term`."""
        import numpy as np

        words = [term.words for term in terms if isinstance(term, Text)]
        texts = iter(self.texts(words) if words else ())
        return np.stack([next(texts) if isinstance(term, Text) else self.term(term) for term in terms])

    def _get_ready(self, term: Image) -> None:
        """Start a decoder process for an image, and meanwhile load the encoder if it will be needed for sure."""
        needed = True  # For a part, and for what is not a file.
        if not isinstance(term.source, bytes) and term.region is None:
            path = absolute(term.source)
            if self._stored(lambda catalog: catalog.files.unchanged_content(path)) is not None:
                return
            with contextlib.suppress(OSError, ValueError):
                needed = self.catalog is None or os.stat(path).st_size not in self.catalog.contents.sizes()
        shared().warm_up()
        if needed:
            self.load().load_images()

    def images(self, paths: Iterable[bytes]) -> Iterator[EmbeddedImage]:
        """Embed image files in their order, a batch at a time.

        A file that cannot be read or decoded comes with the reason.
        """
        workers = shared()
        tasks = (functools.partial(self._loaded, path) for path in paths)
        ahead = workers.run(tasks, ahead=BATCH + workers.count)
        while batch := list(itertools.islice(ahead, BATCH)):
            vectors = iter(self._encoded([each for each in batch if each.error is None]))
            for each in batch:
                if each.error is not None:
                    yield EmbeddedImage(each.path, None, each.error.reason)
                else:
                    yield EmbeddedImage(each.path, next(vectors), partial=each.partial)

    def _known(self, term: Indexed) -> NDArray[np.float32]:
        stored = None
        if self.catalog is not None and 0 < term.id <= MAX_INTEGER:
            stored = self.catalog.embeddings.vector_of(term.id, self.row.id)
        if stored is None:
            raise UsageError(f"{term}: the library holds no such image, or no vector of it")
        return stored

    def _loaded(self, path: bytes) -> Steps[_Loaded]:
        """An image file with its stored vector, or else its pixels."""
        stored = self._stored(lambda catalog: catalog.files.unchanged_content(path))
        if stored is not None:
            return _Loaded(path, stored)
        name = os.fsdecode(path)
        try:
            file = yield from decode.read(path)
        except (OSError, ImageError) as exc:
            return _Loaded(path, error=UsageError(reason(exc), path=name))
        if not file.regular:
            return _Loaded(path, error=UsageError("not a regular file", path=name))
        stored = self._stored(lambda catalog: _content_with(file.digest, catalog))
        return (yield from self._prepared(path)) if stored is None else _Loaded(path, stored)

    def _term(self, term: Image) -> Steps[_Loaded]:
        if isinstance(term.source, bytes):
            name = os.fsencode(term.name) if term.name != "-" else b"the image on standard input"
            yield from decode.given(term.source)
            return (yield from self._prepared(name, term.region))
        path = absolute(term.source)
        if term.region is None:
            return (yield from self._loaded(path))
        try:
            file = yield from decode.opened(path)
        except OSError as exc:
            raise UsageError(reason(exc), path=os.fsdecode(path)) from exc
        if not file.regular:
            raise UsageError("not a regular file", path=os.fsdecode(path))
        return (yield from self._prepared(os.fsencode(term.source), term.region))

    def _stored(self, find: Callable[[Catalog], int | None]) -> NDArray[np.float32] | None:
        """The stored vector of the content that `find` finds, where it has one."""
        if self.catalog is None:
            return None
        content_id = find(self.catalog)
        return None if content_id is None else self.catalog.embeddings.vector_of(content_id, self.row.id)

    def _prepared(self, path: bytes, region: Region | None = None) -> Steps[_Loaded]:
        """The pixels of the image in the open file, or of a part of it, as far as it goes."""
        preprocess = self.row.info.preprocess

        def part(image: decode.Image) -> Steps[NDArray[np.uint8]]:
            box = region.box(image.facts.width, image.facts.height) if region else None
            found = yield from image.pixels(preprocess, [box])
            row: NDArray[np.uint8] = found.rows[0]
            return row

        try:
            if region is None:
                pixels, partial = yield from decode.whole_pixels(preprocess)
            else:
                pixels, partial = yield from decode.as_far_as_it_goes(part)
        except ImageError as exc:
            return _Loaded(path, error=type(exc)(exc.reason, path=os.fsdecode(path)))
        except OSError as exc:
            return _Loaded(path, error=UsageError(reason(exc), path=os.fsdecode(path)))
        return _Loaded(path, pixels=pixels, partial=partial)

    def _encoded(self, loaded: Sequence[_Loaded]) -> list[NDArray[np.float32]]:
        """The vectors of images without an error; pixels are encoded together."""
        import numpy as np

        pixels = [each.pixels for each in loaded if each.pixels is not None]
        vectors = iter(encode_halving(self.load(), np.stack(pixels)) if pixels else ())
        return [next(vectors) if each.stored is None else each.stored for each in loaded]

    def _note_overflow(self, text: str) -> bool:
        """Whether the encoder ignores the end of `text`; adds a notice where it does."""
        end = self.load().overflow(text)
        if end:
            shown = repr(end if len(end) <= SHOWN_CUT else end[:SHOWN_CUT] + "…")
            about = f"the text is too long for {self.row.info.spec}"
            self.notices.append(Notice("truncated", f"{about}; its last {len(end)} characters were ignored: {shown}"))
        return bool(end)


def indistinct(info: EncoderInfo, texts: Sequence[str], vectors: NDArray[np.float32]) -> tuple[Notice, ...]:
    """A notice of the texts that this encoder cannot tell apart, if any; `vectors`: their unit rows (n, dim).

    For a unit vector x, |x·a − x·b| ≤ |a − b|, so the scores of no image differ by more.
    """
    import numpy as np

    rows = vectors[:COMPARED].astype(np.float64)
    squares = np.einsum("nd,nd->n", rows, rows)
    distances = squares[:, None] + squares - 2 * (rows @ rows.T)
    first = np.argmax(distances <= (SAME_LOGIT / info.logit_scale) ** 2, axis=1)
    groups: dict[int, list[str]] = {}
    for text, number in zip(texts, first.tolist(), strict=False):
        groups.setdefault(number, []).append(text)
    same = [" = ".join(group) for group in groups.values() if len(group) > 1]
    if not same:
        return ()
    more = f"; and {len(same) - SHOWN_SAME} more" if len(same) > SHOWN_SAME else ""
    text = f"{info.spec} cannot tell these apart, so each image matches them equally: "
    return (Notice("labels", text + "; ".join(same[:SHOWN_SAME]) + more),)


def unseen(embedder: Embedder, texts: Sequence[str], vectors: NDArray[np.float32]) -> tuple[Notice, ...]:
    """A notice of the excluded texts that mean nothing to this encoder, if any; `vectors`: their unit rows (n, dim)."""
    import numpy as np

    distances = np.linalg.norm(vectors[:, None] - embedder.texts(MEANINGLESS)[None], axis=2).min(axis=1)
    blind = distances <= SAME_LOGIT / embedder.row.info.logit_scale
    named = ", ".join(text for text, is_blind in zip(texts, blind, strict=True) if is_blind)
    spec = embedder.row.info.spec
    return (Notice("labels", f"{spec} does not know {named}, so such images are not excluded"),) if named else ()


def _content_with(digest: bytes, catalog: Catalog) -> int | None:
    """The id of the content with this digest."""
    known = catalog.contents.by_digest(digest)
    return None if known is None else known[0]
