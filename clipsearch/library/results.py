"""What embed, info, show, prune and doctor return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from clipsearch.image_facts import ImageFacts
from clipsearch.types import Box, ContentState, EncoderInfo, FileState, Hit, Notice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.indexing.rules import ScanOptions


@dataclass(frozen=True, slots=True, eq=False)
class EmbedResult:
    """vectors: a unit row for each term, in their order, shape (n, dim), float32. `model` is what embedded them."""

    model: EncoderInfo
    vectors: NDArray[np.float32]
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything known about one image."""

    id: int
    digest: str
    """SHA-256 of its bytes, in hex."""
    bytes: int
    facts: ImageFacts | None
    """Date, place, caption, keywords and rating are those that its first file has in results."""
    state: ContentState
    reason: str | None
    decoder: str
    added_at: str
    files: tuple[tuple[str, FileState], ...]
    views: tuple[tuple[str, int, Box | None], ...]
    """Spec of the encoder, number of the view (0: the whole image) and its box, for every vector."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where its date ("taken"), place, caption, keywords and rating were found: see `catalog.facts`."""
    neighbours: tuple[Hit, ...] = ()
    """The images nearest to it, best first, by the encoder that answers."""


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
    scans: Mapping[str, ScanOptions]
    """The scan options of the roots that are folders, by their paths."""
    encoders: tuple[EncoderStatus, ...]
    catalog_bytes: int
    last_run: Mapping[str, Any] | None
    """Counts of the last index run, with `finished_at` (ISO 8601, UTC)."""
    fallback: str | None = None
    """Why the built-in encoder answers, where nobody asked for it."""
    tiles: str = "none"
    """Which parts of images are looked at by themselves; see tiles.Tiles."""


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A line of `clipsearch info --files STATE`."""

    path: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `clipsearch doctor`."""

    level: Literal["ok", "note", "problem"]
    text: str
    advice: str = ""


ListedState = Literal["failed", "unsupported", "partial", "missing", "offline", "unreadable"]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `prune` removed."""

    files: int
    contents: int
    vectors: int
    encoder: str | None
    cache: bool
