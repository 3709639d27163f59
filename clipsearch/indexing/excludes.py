"""Folders and files that are not the user's pictures: recycle bins, thumbnails, previews, and metadata of macOS.

NAS systems, phones, desktops and photo programs write them between the pictures. A walk leaves them out by their
names, and AppleDouble files by their first bytes.
"""

from __future__ import annotations

import functools

TRASH, PREVIEWS, SYSTEM, APPLE_DOUBLE = "trash", "previews", "system", "apple_double"

KINDS = (TRASH, PREVIEWS, SYSTEM, APPLE_DOUBLE)
"""Recycle bins and old versions; thumbnails, previews and caches; folders of the system; metadata of macOS."""

_SAME_CASE = {
    **dict.fromkeys((b"@eaDir", b".@__thumb", b".thumbnails", b".sh_thumbnails", b".xvpics", b".wdmc"), PREVIEWS),
    **dict.fromkeys((b"#recycle", b"@Recycle", b".recycle", b"RECYCLER", b"RECYCLED"), TRASH),
    **dict.fromkeys((b".dtrash", b".stversions", b"files_trashbin", b"files_versions"), TRASH),  # digiKam, Syncthing …
    **dict.fromkeys((b"lost+found", b"#snapshot", b"@Recently-Snapshot", b".snapshot", b".snapshots"), SYSTEM),
}
"""Folders of systems that distinguish upper and lower case."""

_ANY_CASE = {
    **dict.fromkeys((b"$recycle.bin", b"network trash folder"), TRASH),
    **dict.fromkeys((b"system volume information", b".documentrevisions-v100", b".temporaryitems"), SYSTEM),
    **dict.fromkeys((b"__macosx", b".appledouble"), APPLE_DOUBLE),
    b".dropbox.cache": PREVIEWS,
}
"""Folders of Windows and macOS."""

_INSIDE = {
    b"captureone": (b"cache", b"settings"),  # Its previews, and the masks of its settings ("Settings153").
    b"m4root": (b"thmbnl",),  # Thumbnails of videos from Sony's cameras.
    b".cache": (b"thumbnails",),
}
"""Beginnings of names that only mean something inside a folder of another name."""

_PACKAGES = (
    *(b".photoslibrary", b".photolibrary", b".migratedphotolibrary"),  # Photos and iPhoto
    *(b".aplibrary", b".migratedaplibrary", b".cocatalog"),  # Aperture, Capture One
)
_ORIGINALS = (b"originals", b"masters")
"""The folders of such a package that contain the user's pictures; all others hold previews, edits or databases."""

_MAGIC = (b"\0\x05\x16\x07", b"\0\x05\x16\0")
"""How AppleDouble and AppleSingle files begin (RFC 1740)."""


def folder_kind(name: bytes, parent: bytes) -> str | None:
    """The kind of a folder that is left out by default; None for all others. `parent`: the name of its folder."""
    if kind := _SAME_CASE.get(name):
        return kind
    name, parent = name.lower(), parent.lower()
    if kind := _ANY_CASE.get(name):
        return kind
    if name.startswith(b".trash"):
        return TRASH
    if name.endswith(b".lrdata") or name.startswith(_INSIDE.get(parent, ())):
        return PREVIEWS
    return PREVIEWS if is_package(parent) and name not in _ORIGINALS else None


def file_kind(name: bytes, parent: bytes) -> str | None:
    """As `folder_kind`, for a file; AppleDouble files are told by `is_apple_double`."""
    if name.startswith(b".") and name.lower().startswith((b".trash", b".pending-")):
        return TRASH  # Android's ".trashed-1700000000-IMG_1.jpg", for example
    return PREVIEWS if is_package(parent) else None


@functools.lru_cache(maxsize=64)
def is_package(parent: bytes) -> bool:
    """Whether a folder, by its name, is the library of a photo program."""
    return parent.lower().endswith(_PACKAGES)


def may_be_apple_double(name: bytes) -> bool:
    return name.startswith(b"._")


def is_apple_double(head: bytes) -> bool:
    """Whether a file with these first bytes only holds what macOS knows of another file."""
    return head.startswith(_MAGIC)
