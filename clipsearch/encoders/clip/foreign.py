"""What third-party libraries raise over a model's files, as our errors. Imports nothing heavy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from clipsearch.errors import ClipsearchError, EncoderError


@contextlib.contextmanager
def translated(path: str, reason: str) -> Iterator[None]:
    """Turn whatever is raised inside, except our own errors, into one EncoderError with the file's name.

    A model's configuration can make open_clip, timm, transformers and torch raise any exception. tokenizers, which is
    written in Rust, even raises one that is not an Exception.
    """
    try:
        yield
    except (ClipsearchError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as exc:
        text = " ".join(str(exc).split())[:200]
        raise EncoderError(f"{reason} ({type(exc).__name__}{f': {text}' if text else ''})", path=path) from exc
