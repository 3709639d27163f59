"""The facts recorded in image files and beside them. Apart from `types`, since queries do without these classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Facts recorded in an image's file. Width and height are those of the upright image, in pixels."""

    format: str
    width: int
    height: int
    taken_at: str | None = None
    """The exposure, as far as it is known: a date in the form of `images.dates`, in local time or UTC."""
    taken_offset: int | None = None
    """Minutes east of UTC, where the file names a time zone."""
    taken_source: str | None = None
    """Where the date was found: "exif", "xmp", "iptc", "png", "gps" (in UTC) or "modified"; or beside the file, as
    `catalog.facts` names it."""
    camera: str | None = None
    lat: float | None = None
    lon: float | None = None
    place_source: str | None = None
    """Where the place was found: "exif" or "xmp"; or beside the file."""
    caption: str | None = None
    keywords: tuple[str, ...] = ()
    rating: int | None = None
    """Stars from 0 to 5; −1 for a rejected image."""
    exif: Mapping[str, str | int | float] = field(default_factory=dict)
    """The other tags worth keeping, by their EXIF names; bounded in number and length."""


class Facts(NamedTuple):
    """What one source says of an image: its XMP or IPTC, a sidecar, a name. None and () where it says nothing.

    The meanings are those of the fields of `ImageFacts`.
    """

    taken_at: str | None = None
    taken_offset: int | None = None
    lat: float | None = None
    lon: float | None = None
    caption: str | None = None
    keywords: tuple[str, ...] = ()
    rating: int | None = None
