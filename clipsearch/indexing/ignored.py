"""Kinds of the files that a walk ignores because they are not images, by their suffixes."""

from __future__ import annotations

OTHER = "other"

UNREADABLE = "unreadable"
"""A file whose content had to be examined and cannot be read."""

SIDECAR = "sidecar"
"""Also JSON that belongs to an image."""
_SUFFIXES = {
    "video": "3g2 3gp asf avi dv f4v flv insv lrv m2ts m4v mkv mov mp4 mpe mpeg mpg mts mxf ogv vob webm wmv",
    "audio": "aac aif aiff flac m4a mka mp3 oga ogg opus wav wma",
    "pdf": "pdf",
    "photoshop": "psb psd",
    "drawing": "ai cdr emf eps ps svg svgz wmf",
    SIDECAR: "aae dop pp3 thm xmp",
    "archive": "7z bz2 gz rar tar tgz xz zip zst",
}

KINDS = (*_SUFFIXES, UNREADABLE, OTHER)

_KIND_OF = {suffix.encode(): kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}


MOVING = {b"mov": (b"heic", b"heif", b"jpg", b"jpeg"), b"mp4": (b"heic", b"heif")}
"""Suffixes of videos that are the moving part of an image of the same name, and those of the images: Live Photos of
Apple, whose video Google Takeout exports as MP4."""


def kind_of(suffix: bytes) -> str:
    """The kind of a file with this suffix, in lower case and without its dot."""
    return _KIND_OF.get(suffix, OTHER)
