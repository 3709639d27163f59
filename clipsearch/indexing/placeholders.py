"""Files that stand for images whose content is in the cloud: a client of OneDrive, iCloud, Nextcloud … fetches them."""

from __future__ import annotations

import errno
import os
from collections.abc import Container

from clipsearch.files import open_seen

EMPTY = "an empty file, possibly a placeholder of a cloud client"
STUB = "a placeholder of {client}"
HOLLOW = "a file without content on this disk, possibly a placeholder of a cloud client"

INLINE_BYTES = 4096
"""Up to this size, ext4 and btrfs may keep a file's content in its inode, so that it occupies no blocks."""

_CLIENTS = {b"icloud": "iCloud", b"nextcloud": "Nextcloud", b"owncloud": "ownCloud"}


def stands_for(name: bytes, endings: Container[bytes]) -> str:
    """What a file like ".IMG_1.HEIC.icloud" or "a.jpg.nextcloud" is; empty for all others, and where no image is meant.

    `endings`: the suffixes of images, in lower case, without their dots.
    """
    stem, _, ending = name.rpartition(b".")
    client = _CLIENTS.get(ending.lower())
    if client is None or stem.rpartition(b".")[2].lower() not in endings:
        return ""
    return STUB.format(client=client)


def original(path: bytes) -> bytes:
    """The path of the image that a stub stands for; an empty file stands for itself."""
    folder, name = os.path.split(path)
    stem, _, ending = name.rpartition(b".")
    if ending.lower() not in _CLIENTS:
        return path
    return os.path.join(folder, stem.removeprefix(b".") if ending.lower() == b"icloud" else stem)


def is_hollow(path: bytes, about: os.stat_result, *, counted: bool) -> bool:
    """Whether a file has a size, but no content on the disk, so that reading it might fetch it. Raises OSError.

    Some network file systems count no blocks for any file. So unless blocks are `counted` on its device, the file is
    opened, but not read: the system knows whether there is any content in it.
    """
    if about.st_blocks or about.st_size <= INLINE_BYTES:
        return False
    if counted:
        return True
    descriptor = open_seen(path)
    try:
        os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError as exc:
        return exc.errno == errno.ENXIO  # No content up to the file's end.
    finally:
        os.close(descriptor)
    return False
