"""IPTC: date, caption and keywords as photo agencies wrote them before XMP, often inside Photoshop's resources.

Formats: IPTC-NAA Information Interchange Model 4.2; Adobe Photoshop File Formats Specification, "Image Resources".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from clipsearch.image_facts import Facts
from clipsearch.images import text
from clipsearch.images.dates import parse

_CHARACTERS, _TITLE, _KEYWORD, _DAY, _TIME, _CAPTION = (1, 90), (2, 5), (2, 25), (2, 55), (2, 60), (2, 120)
_KEPT = {_CHARACTERS, _TITLE, _KEYWORD, _DAY, _TIME, _CAPTION}
_UTF8 = b"\x1b%G"

_MAX_DATASETS, _MAX_BYTES = 1000, 1_000_000

RESOURCE = 0x0404
"""The number of Photoshop's resource that holds IPTC."""


def read(data: bytes) -> Facts:
    """The facts in IPTC datasets, or in the Photoshop resources that hold them. What is damaged ends the reading."""
    found: dict[tuple[int, int], list[bytes]] = {}
    for name, value in _datasets(_from_resources(data[:_MAX_BYTES])):
        if name in _KEPT:
            found.setdefault(name, []).append(value)
    is_utf8 = found.get(_CHARACTERS, [b""])[0] == _UTF8

    def texts(name: tuple[int, int]) -> list[str]:
        return [_decoded(value, is_utf8=is_utf8) for value in found.get(name, ())]

    def first(name: tuple[int, int]) -> str:
        return text.printable((texts(name) or [""])[0])

    day, time = first(_DAY), first(_TIME)
    moment = parse(f"{day}T{time}") or parse(day)
    return Facts(
        taken_at=moment and moment.text,
        taken_offset=moment and moment.offset,
        caption=text.caption(*texts(_CAPTION), *texts(_TITLE)),
        keywords=text.keywords(texts(_KEYWORD)),
    )


def _from_resources(data: bytes) -> bytes:
    """The IPTC resource of Photoshop's; the data itself if it is not made of resources."""
    at = len(b"Photoshop 3.0\0") if data.startswith(b"Photoshop 3.0\0") else 0
    if data[at : at + 4] != b"8BIM":
        return data
    while data[at : at + 4] == b"8BIM" and len(data) >= at + 12:
        number, name = struct.unpack_from(">HB", data, at + 4)
        at += 7 + name
        at += at & 1
        size = int.from_bytes(data[at : at + 4], "big")
        if number == RESOURCE:
            return data[at + 4 : at + 4 + size]
        at += 4 + size + (size & 1)
    return b""


def _datasets(data: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    at = 0
    for _ in range(_MAX_DATASETS):
        if data[at : at + 1] != b"\x1c" or len(data) < at + 5:
            return
        record, number, size = struct.unpack_from(">BBH", data, at + 1)
        at += 5
        if size & 0x8000:  # The size of a long value takes as many bytes as this says.
            digits = size & 0x7FFF
            size = int.from_bytes(data[at : at + min(digits, 8)], "big")
            at += digits
        yield (record, number), data[at : at + size]
        at += size


def _decoded(value: bytes, *, is_utf8: bool) -> str:
    """Few files name their encoding; text that is UTF-8 by chance is rare."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("utf-8" if is_utf8 else "cp1252", "replace")
