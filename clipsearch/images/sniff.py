"""Image formats, supported and refused (PDF, SVG …): suffixes for scans, and detection by the first bytes."""

from __future__ import annotations

import os
import re

from clipsearch.errors import ImageError, UnsupportedImageError

MAX_PIXELS = 64_000_000
"""Pixels that may be decoded for one image, after a JPEG's draft: 64 MP need about 256 MB."""

_RAW = "3fr arw cr2 cr3 crw dcr dng erf fff gpr iiq k25 kdc mef mos mrw nef nrw orf pef raf raw rw2 rwl sr2 srf srw x3f"

_OTHERS = (
    "jpg jpeg jpe jfif jfi jif pjpeg pjp jps insp mpo png pns apng gif webp bmp dib tif tiff jp2 j2k jpx jpf j2c jpc "
    "pgm ppm pnm pbm avif avifs heic heif heics heifs hif jxl"
)

RAW_SUFFIXES = frozenset(f".{suffix}" for suffix in _RAW.split())
"""Those of raw files of cameras."""

IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in f"{_RAW} {_OTHERS}".split())
"""Suffixes that a scan considers; the content alone decides how a file is read."""

PIXELS_REVISION = 1
"""Part of every encoder's fingerprint: increases with a change that gives other pixels for the same file."""

_MAGIC = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"GIF8[79]a", "GIF"),
    (rb"RIFF....WEBP", "WEBP"),
    (rb"BM....\0\0\0\0|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BMP"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG2000"),
    (rb"P[1-6](?:\s|#[^\n]*(?:\n|\Z))+(?:\d|\Z)", "PPM"),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (rb"....ftypavi[fs]", "AVIF"),
    (rb"....ftyp(?:hei[cxms]|hev[cxms])", "HEIF"),
    (rb"....ftypcrx ", "RAW"),
    (rb"FUJIFILMCCD-RAW|(?:II|MM)....HEAPCCDR|IIR[OS]|IIU\0|MMOR|\0MRM|FOVb", "RAW"),
    (rb"II[*+]\0.{4}CR", "RAW"),
    (rb"II[*+]\0|MM\0[*+]", "TIFF"),
)

FORMATS = frozenset(kind for _, kind in _MAGIC)
"""Names of the formats that are read, as `contents.format` has them."""

_REFUSED = (
    (rb".{0,1024}%PDF-", "PDF"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript"),
    (rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml.*?)?(?:<!--.*?-->\s*)*(?:<!DOCTYPE svg.*?)?<svg[\s>]", "SVG"),
    (rb"(?:\xef\xbb\xbf)?\s*<(?:!DOCTYPE html|html)", "HTML"),
    (rb"\0\x05\x16[\0\x07]", "AppleDouble (metadata that macOS keeps beside a file)"),
    (rb"8BPS", "Photoshop's format"),
    (rb"....ftyp|\x1a\x45\xdf\xa3|RIFF....AVI ", "video"),
    (rb"PK\x03\x04|Rar!|7z\xbc\xaf|\x1f\x8b", "this archive format"),
)


def sniff(head: bytes) -> str:
    """The format of a file by `head`, its first 4 KiB: Pillow's name for it, "HEIF" or "RAW".

    Raises UnsupportedImageError for known formats that are not supported, ImageError for anything else.
    """
    if not head:
        raise ImageError("the file is empty")
    kind = image_format(head)
    if kind is not None:
        return kind
    for pattern, name in _REFUSED:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            raise UnsupportedImageError(f"{name} is not supported")
    raise ImageError("not a picture in any known format")


def image_format(head: bytes) -> str | None:
    """As `sniff`, but None for everything that is not a supported image."""
    for pattern, kind in _MAGIC:
        if re.match(pattern, head, re.DOTALL):
            return kind
    if re.match(rb"....ftypm(?:if1|sf1)", head, re.DOTALL):  # any HEIF container: its other brands show what is inside
        return "AVIF" if b"avif" in head[12 : max(16, int.from_bytes(head[:4], "big"))] else "HEIF"
    return None


def is_image_path(text: str) -> bool:
    """Whether a word is the name of a regular file with an image's suffix."""
    return os.path.splitext(text)[1].lower() in IMAGE_SUFFIXES and os.path.isfile(text)
