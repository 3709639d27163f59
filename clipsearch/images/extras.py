"""Imports decoders that may be missing or broken, so that this costs only the files that need them."""

from __future__ import annotations

import importlib
from typing import Any

from clipsearch.errors import UnsupportedImageError


def decoder(module: str, *, needs: str = "", extra: str = "") -> Any:  # noqa: ANN401 - a module
    """The module of a decoder. Raises UnsupportedImageError where it is missing or cannot be imported.

    `needs` and `extra` name what needs it and what brings it: "JPEG XL needs", "jxl".
    """
    try:
        return importlib.import_module(module)
    except MemoryError:
        raise
    except Exception as exc:  # Without a library that it is linked to, or beside another numpy, anything may come.
        if extra and isinstance(exc, ModuleNotFoundError):
            raise UnsupportedImageError(f"{needs} an extra: pip install 'clipsearch[{extra}]'") from exc
        reason = " ".join(str(exc).split()) or type(exc).__name__
        raise UnsupportedImageError(f"the decoder {module} cannot be imported: {reason}"[:300]) from exc
