"""What an index run reports: its progress, the files that it could not use, and its counts.

Not in `types`, since a query imports that, and each dataclass costs it half a percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from clipsearch.types import EncoderInfo

NAMED = 5
"""Files, folders or exclusions that get a notice of their own; the others are counted."""


def shortened(notices: Sequence[str], one: str, several: str) -> list[str]:
    """The first NAMED notices, and one that counts the others: "3 more " and what `several` says."""
    left = len(notices) - NAMED
    return [*notices[:NAMED], f"{left:,} more {one if left == 1 else several}"] if left > 0 else list(notices)


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that a run could not index, or only in part, and why."""

    path: str
    reason: str


class LeftOut(NamedTuple):
    """How many folders, and how many single images, were left out for one reason; folders are not looked into."""

    folders: int
    files: int


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A folder with `files` that are offline: it does not exist, is empty, or is not the mounted drive that it was."""

    path: str
    files: int
    why: Literal["gone", "empty", "unmounted"]


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
    slow: str | None = None
    """The path of a file that takes long to decode."""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What an index run did. The counts are disjoint: every image that was found or known is in exactly one."""

    model: EncoderInfo | None
    library: str
    indexed: int = 0
    """Files whose image was encoded in this run."""
    unchanged: int = 0
    moved: int = 0
    """Files at a new path whose content vanished from another one."""
    copied: int = 0
    """Files with the content of another existing one."""
    restored: int = 0
    """Files that were missing, offline or unreadable and are back as they were."""
    missing: int = 0
    """Files that were deleted since the last run."""
    offline: int = 0
    """Files on a drive, in a root or in a folder that is unreachable now; they stay hits."""
    unreachable: tuple[Unreachable, ...] = ()
    """Where these files are; folders that cannot be read are in `failed`."""
    excluded: int = 0
    """Files that the scan options now exclude; they are not hits any more."""
    unsupported: int = 0
    """Files of a format that cannot be read here."""
    unsupported_reasons: Mapping[str, int] = field(default_factory=dict)
    """Why, with the number of files; the most frequent reason first."""
    ignored: Mapping[str, int] = field(default_factory=dict)
    """Files that are not images, by kind (`ignored.KINDS`); hidden and excluded ones are not counted."""
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)
    """What the scan options leave out, by reason (`rules.COUNTED`); hidden files and links are not counted."""
    placeholders: tuple[Problem, ...] = ()
    """Files without content that probably stand for images in the cloud."""
    without_images: tuple[str, ...] = ()
    """Scanned folders that contain no image."""
    failed: tuple[Problem, ...] = ()
    """Files that failed in this run, unreadable ones included."""
    failed_before: int = 0
    """Files that failed earlier and are unchanged; not retried."""
    changing: tuple[Problem, ...] = ()
    """Files that changed while they were read; left for the next run."""
    partial: tuple[Problem, ...] = ()
    """Truncated files, indexed as far as they go; counted in `indexed`."""
    encoded: int = 0
    """Vectors that this run computed: one per image, and one for each of its tiles."""
    pictures: int = 0
    """Different images among these."""
    corrected: int = 0
    """Images among these that earlier versions had decoded differently; their old vectors are gone."""
    reread: int = 0
    """Known images whose facts (size, date, place …) were read again from their headers, without encoding them."""
    facts: int = 0
    """Known files whose sidecars changed: what these say was read again, and the images were not opened."""
    deleted: int = 0
    """Vectors of tiles that this run deleted because of `tiles`."""
    tiles: str = "none"
    """Which parts of images have vectors of their own; see tiles.Tiles."""
    opened: int = 0
    """Files whose bytes this run read."""
    filling: str | None = None
    """Spec of the encoder that is being built beside the active one."""
    filling_left: int = 0
    switched: bool = False
    interrupted: bool = False
    dry_run: bool = False
    published: bool = False
    """Whether the run wrote a new snapshot of the vector index."""
    seconds: float = 0.0
    notices: tuple[str, ...] = ()


@dataclass(slots=True)
class Counts:
    """The counts of a run so far, as `IndexReport` has them; `reconcile` adds to them, then `recorder`."""

    indexed: int = 0
    unchanged: int = 0
    moved: int = 0
    copied: int = 0
    restored: int = 0
    missing: int = 0
    offline: int = 0
    unreachable: list[Unreachable] = field(default_factory=list)
    excluded: int = 0
    unsupported: int = 0
    unsupported_reasons: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    placeholders: list[Problem] = field(default_factory=list)
    without_images: list[str] = field(default_factory=list)
    failed: list[Problem] = field(default_factory=list)
    failed_before: int = 0
    changing: list[Problem] = field(default_factory=list)
    partial: list[Problem] = field(default_factory=list)
    encoded: int = 0
    pictures: int = 0
    corrected: int = 0
    reread: int = 0
    facts: int = 0
