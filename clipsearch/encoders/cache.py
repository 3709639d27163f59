"""The cache directory: converted towers, and facts about files that are too slow to compute each time.

Everything in it can be deleted at any time and is made again. Where it cannot be written, nothing is remembered and
the work is repeated.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from clipsearch import files

CACHE_VARIABLE = "CLIPSEARCH_CACHE"

NOWHERE = Path(os.devnull) / "clipsearch"
"""A cache directory that can be neither read nor written: that of a user without a home folder."""

Fact = TypeVar("Fact", str, list[str], dict[str, str])


def cache_dir() -> Path:
    """The cache directory: `$CLIPSEARCH_CACHE`, or the platform's default. It may not exist yet, or be NOWHERE."""
    if named := os.environ.get(CACHE_VARIABLE):
        return files.expanded(named).absolute()
    import platformdirs

    try:
        return platformdirs.user_cache_path("clipsearch")
    except RuntimeError:  # There is no home folder.
        return NOWHERE


def remembered(path: Path, kind: str, compute: Callable[[Path], Fact]) -> Fact:
    """`compute(path)`, a JSON-able fact about the file, or its last result while the file's stamp is the same.

    `kind` names the fact, with a version that changes when `compute` does: "sha256", "fingerprint-1".
    Raises what `compute` raises, and OSError where the file does not exist.
    """
    path = path.absolute()
    name = hashlib.sha256(kind.encode() + b"\0" + os.fsencode(path)).hexdigest()[:40]
    record = cache_dir() / "facts" / f"{name}.json"
    before = list(files.stamp(path))  # as JSON gives it back
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(record.read_bytes())
        if known["stamp"] == before and known["kind"] == kind and known["path"] == os.fsencode(path).hex():
            return known["fact"]  # type: ignore[no-any-return]
    fact = compute(path)
    if list(files.stamp(path)) == before:
        known = {"kind": kind, "path": os.fsencode(path).hex(), "stamp": before, "fact": fact}
        with contextlib.suppress(OSError):
            record.parent.mkdir(parents=True, exist_ok=True)
            with files.replacing(record) as temporary:
                temporary.write_text(json.dumps(known))
    return fact


def remembered_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex, from memory while the file's stamp is the same."""
    return str(remembered(path, "sha256", files.sha256))
