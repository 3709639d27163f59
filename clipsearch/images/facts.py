"""The facts of an image: from its EXIF, XMP, IPTC and PNG texts, each from the first of them that has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clipsearch.image_facts import Facts, ImageFacts
from clipsearch.images import exif, iptc, text
from clipsearch.images.dates import Moment, parse_written

if TYPE_CHECKING:
    from PIL import Image

_XMP, _IPTC, _PHOTOSHOP = 700, 33723, 34377
"""Tags of a TIFF."""

_KEYS = {
    *("xmp", "photoshop", "Creation Time", "Description", "Title"),
    *("Raw profile type xmp", "Raw profile type iptc"),
}
"""What may hold facts in Pillow's `info`."""

_MAX_PROFILE = 1_000_000
"""Characters of metadata that ImageMagick writes as text."""


def image_facts(
    kind: str, width: int, height: int, tags: Image.Exif | None, info: Mapping[Any, Any] | None = None
) -> ImageFacts:
    """The facts of an upright image of width × height pixels.

    tags: Pillow's EXIF mapping, which has the other metadata of a TIFF, too. info: what else Pillow has read.
    """
    if not tags and (not info or info.keys().isdisjoint(_KEYS)):
        return ImageFacts(kind, width, height)
    found = exif.read(tags)
    sources = {"exif": found.facts, **_others(tags or {}, info or {})}
    dates = [(name, facts.taken_at, facts.taken_offset) for name, facts in sources.items()]
    dates += [(name, *moment) for name, moment in (("gps", found.taken_gps), ("modified", found.modified)) if moment]
    known = (date for date in dates if date[1] and not (found.camera and date[1][:19] in exif.UNSET))
    taken_source, taken_at, taken_offset = next(known, (None, None, None))
    place_source, place = next(
        ((name, each) for name, each in sources.items() if each.lat is not None), (None, Facts())
    )
    ratings = [each.rating for each in sources.values() if each.rating is not None]
    return ImageFacts(
        kind,
        width,
        height,
        taken_at=taken_at,
        taken_offset=taken_offset,
        taken_source=taken_source,
        camera=found.camera,
        lat=place.lat,
        lon=place.lon,
        place_source=place_source,
        caption=next((each.caption for each in sources.values() if each.caption), None),
        keywords=next((each.keywords for each in sources.values() if each.keywords), ()),
        rating=next(filter(None, ratings), 0 if ratings else None),  # 0 stands for an image that nobody has rated.
        exif=found.tags,
    )


def _others(tags: Mapping[int, Any], info: Mapping[Any, Any]) -> dict[str, Facts]:
    """What XMP, IPTC and PNG texts say, by their names."""
    found = {}
    packet = _bytes(info.get("xmp") or _stored(tags, _XMP)) or _raw_profile(info, "xmp")
    if packet:
        from clipsearch.images import xmp  # 5 ms, which most files do not need.

        found["xmp"] = exif.attempt(lambda: xmp.read(packet)) or Facts()
    resources = info.get("photoshop")
    if isinstance(resources, dict):  # JPEG
        data = _bytes(resources.get(iptc.RESOURCE))
    else:
        data = _bytes(_stored(tags, _IPTC) or _stored(tags, _PHOTOSHOP))
    if data := data or _raw_profile(info, "iptc"):
        found["iptc"] = exif.attempt(lambda: iptc.read(data)) or Facts()
    moment = parse_written(_text(info, "Creation Time"))
    caption = text.caption(_text(info, "Description"), _text(info, "Title"))
    if moment or caption:
        at, offset = moment or Moment("")
        found["png"] = Facts(taken_at=at or None, taken_offset=offset, caption=caption)
    return found


def _text(info: Mapping[Any, Any], key: str) -> str:
    value = info.get(key)
    return text.printable(value) if isinstance(value, str) else ""


def _stored(tags: Mapping[int, Any], number: int) -> object:
    """The bytes of a tag, whatever its type: IPTC is often marked as numbers, of which Pillow keeps one."""
    stored = getattr(getattr(tags, "_info", None), "_tagdata", {}).get(number)
    return stored or exif.attempt(lambda: tags.get(number))


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="replace")
    if isinstance(value, tuple | list):
        return exif.attempt(lambda: bytes(value)) or b""
    return value if isinstance(value, bytes) else b""


def _raw_profile(info: Mapping[Any, Any], name: str) -> bytes:
    """Metadata that ImageMagick and exiv2 write into a PNG: its name, its length and hexadecimal digits, in lines."""
    value = info.get(f"Raw profile type {name}")
    if not isinstance(value, str) or len(value) > 2 * _MAX_PROFILE:
        return b""
    return exif.attempt(lambda: bytes.fromhex("".join(value.split("\n")[3:]))) or b""
