"""The small frozen values that pass between the layers, and that the public functions return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self, TypeVar, overload

MAX_INTEGER = 2**63 - 1
"""What SQLite can count to: what is larger is in no library."""


def whole_number(digits: str) -> int:
    """The number written in decimal digits, at most MAX_INTEGER. `int` refuses thousands of digits."""
    digits = digits.lstrip("0")
    return min(int(digits or 0), MAX_INTEGER) if len(digits) <= len(str(MAX_INTEGER)) else MAX_INTEGER


def is_text(word: str) -> bool:
    """Whether `word` can be written in UTF-8, which arguments and file names with other bytes cannot."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


FileState = Literal["present", "missing", "offline", "unreadable"]
HitState = Literal["ok", "partial"]
"""States of contents that have vectors; partial: the file ends early."""
ContentState = Literal[HitState, "unsupported", "failed"]

Precision = Literal["fp32", "int8"]
"""What an encoder's weights are computed in."""

ScoreKind = Literal["cosine", "combined", "least", "penalised"]
"""What a hit's score is: "cosine", the inner product with the one term; "combined", that with the balanced sum of
several; "least", the smallest of the terms' standardised scores; "penalised", a standardised score less what speaks for
the excluded terms. The last two are in deviations from what is usual in the library."""

Sort = Literal["score", "taken", "path"]
"""How a page of hits is arranged: best first, by the time of exposure (unknown ones last), or by path."""

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels of the upright image, right and bottom excluded."""


Item = TypeVar("Item", covariant=True)


class Listing(Sequence[Item]):
    """A result that is a sequence of its items: `for hit in result`, `len(result)`, `result[0]`."""

    __slots__ = ()

    def _items(self) -> tuple[Item, ...]:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._items())

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Item, ...]: ...
    def __getitem__(self, index: int | slice) -> Item | tuple[Item, ...]:
        return self._items()[index]


NoticeKind = Literal[
    "fallback",
    "switching",
    "truncated",
    "partial",
    "offline",
    "damaged",
    "approximate",
    "labels",
    "relevance",
    "advice",
]
"""What a notice is about: nobody chose the built-in encoder; another encoder is being built; the end of a text was
ignored; a file is truncated or cannot be used; files cannot be reached now; a snapshot cannot be used; not every image
was scored; labels or words that cannot be told apart; relevance cannot be determined; something the caller may
want to do."""


class Notice(str):
    """What a caller should know beside a result: one line, with its kind. Parameters stand in backquotes."""

    __slots__ = ("kind",)
    kind: NoticeKind

    def __new__(cls, kind: NoticeKind, text: str) -> Self:
        notice = super().__new__(cls, text)
        notice.kind = kind
        return notice


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How an encoder wants its pixels: part of what its vectors mean, hence of its fingerprint.

    `resize` is what happens before the centre crop to `size` × `size`:
    "shortest" scales the short side to `size`; "squash" both sides, whatever their ratio; "longest" scales the long
    side and pads with `fill`; "crop" takes a centred square of `crop` · short side first, then scales it.
    """

    size: int
    resize: Literal["shortest", "squash", "longest", "crop"] = "shortest"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    crop: float = 1.0
    fill: int = 0


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """What identifies an encoder and what a caller must know to use its vectors.

    `fingerprint` is a SHA-256 in hex over weights, architecture, preprocessing, tokenizer and dim.
    `logit_scale` is the multiplier itself (already exponentiated), from the checkpoint.
    """

    spec: str
    fingerprint: str
    dim: int
    logit_scale: float
    logit_bias: float | None
    preprocess: Preprocess
    is_clip: bool = True
    template: str = "a photo of a {label}"
    """The prompt that classification uses when none is given."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able facts that the encoder needs to load again: architecture, tag, tokenizer, source, precision …"""


class Candidate(NamedTuple):
    """A file that a scan found. `path` is absolute, as `os.fsencode` gives it.

    ctime_ns: when it was last changed in any way, where its file system keeps that. sidecars: the names and stamps of
    the files beside it that say something about it, as the catalog keeps them; empty where there are none. link: what
    all names of a file have in common, if it has several.
    """

    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int | None = None
    sidecars: str = ""
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A class that the built-in encoder recognised in an image, with its share of the image's vector."""

    label: str
    score: float


class Partner(NamedTuple):
    """Another file of the same shot, which a hit stands for: the raw file of a JPEG, say."""

    id: int
    path: str
    format: str | None


@dataclass(frozen=True, slots=True)
class Hit:
    """One image that answers a query: a content, with every live path where it was seen."""

    id: int
    path: str
    paths: tuple[str, ...]
    score: float
    """`QueryResult.kind` tells what it is; mostly the inner product of unit vectors, −1 … 1."""
    bytes: int
    format: str | None
    width: int | None
    height: int | None
    taken_at: str | None
    state: ContentState
    offline: bool
    """Whether none of its paths can be read now, for example because a drive is not mounted."""
    unreadable: bool = False
    """Whether that is because one of them may not be read, or gives an error."""
    explain: tuple[Seen, ...] = ()
    relevance: float | None = None
    """How far the score stands out from the library's baseline: a strength from 0 to 1; None where it is unknown."""
    view: int = 0
    """Number of the view that the score is of: 0 for the whole image, another one in a library with tiles."""
    box: Box | None = None
    """The part of the image that this view shows; None for the whole."""
    taken_offset: int | None = None
    """Minutes east of UTC, where they are known; `taken_at` is in local time, unless its source tells UTC only."""
    taken_source: str | None = None
    """Where the date was found: see `catalog.facts`."""
    lat: float | None = None
    lon: float | None = None
    place_source: str | None = None
    caption: str | None = None
    keywords: tuple[str, ...] = ()
    rating: int | None = None
    also: tuple[Partner, ...] = ()
    """The other files of the same shot, which are no hits of their own."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Those of all contents of the shot, its own first."""
        return (self.id, *(partner.id for partner in self.also))


@dataclass(frozen=True, slots=True)
class Total:
    """How many images are relevant in all, of which a page shows some; an estimate where `exact` is false."""

    count: int
    exact: bool


@dataclass(frozen=True, slots=True)
class QueryResult(Listing[Hit]):
    """The hits of a query, best first; a sequence of them.

    `relevant`: how many images are relevant, where only those were asked for and it could be determined.
    """

    query: str
    model: EncoderInfo
    hits: tuple[Hit, ...]
    notices: tuple[Notice, ...] = ()
    kind: ScoreKind = "cosine"
    relevant: Total | None = None

    def _items(self) -> tuple[Hit, ...]:
        return self.hits
