"""Every error that clipsearch raises on purpose.

    ClipsearchError                exit 1
    ├── UsageError                 exit 2    an argument that cannot work: a path, a pattern, an option
    │   └── NoLibraryError         exit 2    no library where one was asked for
    ├── ImageError                 exit 2    an image that was handed over cannot be used
    │   ├── UnsupportedImageError            … because its format is none of ours, or its extra is missing
    │   └── TruncatedImageError              … because the file ends early; it can be decoded in part
    ├── EncoderError               exit 1    a model cannot be loaded or run
    │   ├── DownloadError                    … because fetching its files failed
    │   └── OutOfMemoryError                 … because a batch did not fit; a smaller one may
    ├── ModelMismatchError         exit 4    the model asked for and the library's do not agree
    ├── DamagedError               exit 5    the catalog is damaged, or not a catalog
    ├── LockedError                exit 75   another run is writing to the library
    └── StoppedError               exit 130  the caller asked to stop before there was an answer

A message is one line: what happened, to which file, and what to do next. A parameter stands in backquotes, as
`batch_size` or `device="cpu"`: the command line shows it as its option (`export.options.as_options`).
"""

from __future__ import annotations


class ClipsearchError(Exception):
    """The root of the tree: "path: reason; advice", each part of it a field.

    reason: what happened. path: to which file, readable. advice: what to do next. `exit_code` is what the command line
    leaves with.
    """

    exit_code: int = 1

    def __init__(self, reason: str, *, path: str = "", advice: str = "") -> None:
        super().__init__(f"{path}: " * bool(path) + reason + f"; {advice}" * bool(advice))
        self.reason = reason
        self.path = path
        self.advice = advice


class UsageError(ClipsearchError):
    """An argument is invalid; the message names it and says what to use instead."""

    exit_code = 2


class NoLibraryError(UsageError):
    """There is no library at the place asked for."""


class ImageError(ClipsearchError):
    """An image cannot be decoded; `str(error)` is the reason that the catalog remembers."""

    exit_code = 2


class UnsupportedImageError(ImageError):
    """The format is known and not read (SVG, PDF, video), or its optional decoder is not installed."""


class TruncatedImageError(ImageError):
    """The file ends before its pixels do; `images.open_image(…, truncated=True)` decodes what there is."""


class EncoderError(ClipsearchError):
    """A model cannot be found, loaded or run."""


class DownloadError(EncoderError):
    """A model's files could not be fetched."""


class OutOfMemoryError(EncoderError):
    """A batch did not fit into the device's memory; the caller may try a smaller one."""


class ModelMismatchError(ClipsearchError):
    """The library does not hold the model asked for, or a recorded model now has other weights."""

    exit_code = 4


class DamagedError(ClipsearchError):
    """The catalog cannot be read: the message says what is left and what to do."""

    exit_code = 5


class LockedError(ClipsearchError):
    """Another process is writing to the library; `pid` is its number where it is known."""

    exit_code = 75

    def __init__(self, reason: str, *, path: str = "", advice: str = "", pid: int | None = None) -> None:
        super().__init__(reason, path=path, advice=advice)
        self.pid = pid


class StoppedError(ClipsearchError):
    """The caller asked to stop before there was an answer; the message says what is kept of the work."""

    exit_code = 130


def reason(exc: OSError | ClipsearchError) -> str:
    """Why the system refused, or what an error of ours says, to continue a sentence: "no such file or directory"."""
    if isinstance(exc, ClipsearchError):
        return exc.reason
    return (exc.strerror or str(exc) or type(exc).__name__).lower()
