"""What runs and commands report: the frozen values that the public methods return, queries' own apart (`types`).

A query is a process of its own, and each dataclass here would cost it half a millisecond.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from clipsearch.types import Box, ContentState, EncoderInfo, FileState, Hit, ImageFacts


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
    """Vectors that this run computed: one a picture, and one for each of its tiles."""
    pictures: int = 0
    """Different pictures that these are of."""
    deleted: int = 0
    """Vectors of tiles that this run deleted, as `--tiles` leaves them out."""
    tiles: str = "none"
    """Which parts of pictures the library looks at by themselves; see tiles.Tiles."""
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
    """Live contents that it has no vector for yet, or not one for each of their views."""
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
    tiles: str = "none"
    """Which parts of pictures are looked at by themselves; see tiles.Tiles."""


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
