"""The small frozen values that pass between the layers, and that the public functions return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FileState = Literal["present", "missing", "offline", "unreadable"]
ContentState = Literal["ok", "partial", "unsupported", "failed"]

ScoreKind = Literal["cosine", "combined", "least", "penalised"]
"""What a hit's score is: "cosine", the inner product with the one term; "combined", that with the balanced sum of
several; "least", the smallest of the terms' standardised scores; "penalised", a standardised score less what speaks for
the excluded terms. The last two are in deviations from what is usual in the library."""

Sort = Literal["score", "taken", "path"]
"""How a page of hits is arranged: best first, by the time of exposure (unknown ones last), or by path."""

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels of the upright picture, right and bottom excluded."""


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
class ImageFacts:
    """What a picture's file says of itself. Width and height are those of the upright picture, in pixels."""

    format: str
    width: int
    height: int
    taken_at: str | None = None
    """Local time of the exposure, ISO 8601 without an offset: "2021-05-03T14:02:11"."""
    taken_offset: int | None = None
    """Minutes east of UTC, where the file names a time zone."""
    camera: str | None = None
    lat: float | None = None
    lon: float | None = None
    exif: Mapping[str, str | int | float] = field(default_factory=dict)
    """The other tags worth keeping, by their EXIF names; bounded in number and length."""


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


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that a scan found. `path` is absolute, as `os.fsencode` gives it."""

    path: bytes
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A class that the built-in encoder recognised in a picture, with its share of the picture's vector."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One picture that answers a query: a content, with every live path where it was seen."""

    id: int
    path: str
    paths: tuple[str, ...]
    score: float
    """What `QueryResult.kind` says; mostly the inner product of unit vectors, −1 … 1."""
    bytes: int
    format: str | None
    width: int | None
    height: int | None
    taken_at: str | None
    state: ContentState
    offline: bool
    """No path of it can be read right now: a drive that is not mounted, say."""
    explain: tuple[Seen, ...] = ()
    relevance: float | None = None
    """Where the score stands against the library's background for this query, 0 … 1; None where nobody asked."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything known about one picture."""

    id: int
    digest: str
    """SHA-256 of its bytes, in hex."""
    bytes: int
    facts: ImageFacts | None
    state: ContentState
    reason: str | None
    decoder: str
    added_at: str
    files: tuple[tuple[str, FileState], ...]
    views: tuple[tuple[str, int, Box | None], ...]
    """Spec of the encoder, number of the view (0: the whole picture) and its box, for every vector."""
    neighbours: tuple[Hit, ...] = ()
    """The pictures nearest to it, best first, by the encoder that answers."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    query: str
    model: EncoderInfo
    hits: tuple[Hit, ...]
    notices: tuple[str, ...] = ()
    """What the asker should know: words that were cut off, a model that is being replaced, a damaged snapshot."""
    kind: ScoreKind = "cosine"


@dataclass(frozen=True, slots=True)
class Prediction:
    label: str
    probability: float
    """Softmax over the labels that were given, with the encoder's logit scale, or where `ClassifyResult.threshold` is
    set, of this label by itself: 0 … 1."""
    score: float
    """Inner product of the picture's vector with the label's prototype, −1 … 1."""
    prompt: str | None = None
    """The label's prompt that is nearest to the picture, where it was asked for."""


@dataclass(frozen=True, slots=True)
class Classification:
    path: str
    predictions: tuple[Prediction, ...]
    """Best first; empty where `reason` says why the picture could not be read."""
    reason: str | None = None
    paths: tuple[str, ...] = ()
    """Every live path of a picture of the library."""
    id: int | None = None
    """Of a picture that the library holds, as `Hit.id`."""
    offline: bool = False
    """Its file is not there; its stored vector was classified."""
    unknown: bool = False
    """None of the labels stands out, where that was asked; `predictions` are what would have been chosen."""
    margin: float | None = None
    """How far the best label stands above unrelated ones, in log-odds, where that was asked."""


@dataclass(frozen=True, slots=True)
class ClassifyResult:
    model: EncoderInfo
    results: tuple[Classification, ...]
    notices: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """All that could be chosen, in their order."""
    threshold: float | None = None
    """Where every label was judged by itself: the probability that those in `predictions` have at the least."""
    nearest: Mapping[str, tuple[Hit, ...]] = field(default_factory=dict)
    """The pictures of the library nearest to a label that was chosen, where it was asked for."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that a run could not index, or only in part, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `total` and `seconds_left` are None while the walk still goes on."""

    stage: Literal["scanning", "encoding", "publishing"]
    found: int
    done: int
    total: int | None
    skipped: int
    """Files of this run that could not be used: failed, unsupported or unreadable."""
    images_per_second: float
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What an index run did. The counts are disjoint: every file that was seen or known is in exactly one."""

    model: EncoderInfo | None
    library: str
    indexed: int = 0
    """Files whose picture was encoded in this run."""
    unchanged: int = 0
    moved: int = 0
    """Files at a new path whose content vanished from another one."""
    copied: int = 0
    """Files with the content of another one that is still there."""
    restored: int = 0
    """Files that were missing, offline or unreadable and are back as they were."""
    missing: int = 0
    """Files that this run found to be gone."""
    offline: int = 0
    """Files on a drive or folder that is not there now; they stay hits."""
    excluded: int = 0
    """Files that the scan options now leave out; they are no hits any more."""
    unsupported: int = 0
    failed: tuple[Problem, ...] = ()
    """Files that failed in this run, unreadable ones included."""
    failed_before: int = 0
    """Files whose failure is remembered and not due again."""
    changing: tuple[Problem, ...] = ()
    """Files that changed while they were read; left for the next run."""
    partial: tuple[Problem, ...] = ()
    """Files that end early, indexed as far as they go; counted in `indexed`."""
    encoded: int = 0
    """Vectors that this run computed."""
    opened: int = 0
    """Files whose bytes this run read."""
    filling: str | None = None
    """Spec of the encoder that is being filled beside the one that answers."""
    filling_left: int = 0
    switched: bool = False
    interrupted: bool = False
    dry_run: bool = False
    published: bool = False
    """Whether the run wrote a new snapshot of the vector index."""
    seconds: float = 0.0
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EncoderStatus:
    """An encoder that the library holds vectors of."""

    info: EncoderInfo
    role: Literal["answering", "filling", "kept"]
    vectors: int
    owed: int
    """Live contents that it has no vector for yet."""
    engine: str
    """What a query over its snapshot uses: "exact", "ivf", or "none" without a snapshot."""
    snapshot_bytes: int
    tail: int
    """Vectors that are newer than the snapshot; a query scans them in SQLite."""
    snapshot_details: Mapping[str, Any] = field(default_factory=dict)
    """For "ivf": nlist, nprobe and the recall it was chosen by."""


@dataclass(frozen=True, slots=True)
class LibraryInfo:
    path: str
    library_id: str
    schema_version: int
    contents: Mapping[str, int]
    """Contents by state."""
    files: Mapping[str, int]
    """Files by state."""
    roots: tuple[str, ...]
    encoders: tuple[EncoderStatus, ...]
    catalog_bytes: int
    last_run: Mapping[str, Any] | None
    """Counts of the last index run, with `finished_at` (ISO 8601, UTC)."""
    fallback: str | None = None
    """Why the built-in encoder answers, where nobody asked for it."""


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A line of `clipsearch info --files STATE`."""

    path: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A row of `clipsearch models`."""

    spec: str
    dim: int
    pixels: int
    megabytes: int
    """Size of the weights to download."""
    accuracy: float | None
    """ImageNet zero-shot top-1 as published, 0 … 1; None where nobody published one."""
    licence: str
    cached: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `clipsearch doctor`."""

    level: Literal["ok", "note", "problem"]
    text: str
    advice: str = ""
