"""Finds the library that a command works on: --index, $CLIPSEARCH_INDEX, or the nearest index/."""

from __future__ import annotations

import os
from pathlib import Path

from clipsearch.cli import output
from clipsearch.errors import NoLibraryError
from clipsearch.files import expanded

FOLDER = "index"
VARIABLE = "CLIPSEARCH_INDEX"


def find_library(given: str | None) -> Path | None:
    """`given`, then $CLIPSEARCH_INDEX, ./index, the nearest index/ in a parent folder; the last two need a catalog.

    A parent's library that belongs to another user is skipped, with a note: its results would be theirs.
    """
    from clipsearch.catalog.catalog import CATALOG_NAME

    named = given or os.environ.get(VARIABLE)
    if named:
        return expanded(named)
    here = Path.cwd()
    for folder in (here, *here.parents):
        library = folder / FOLDER
        try:
            holds_one = (library / CATALOG_NAME).is_file()
            is_own = folder == here or library.stat().st_uid == os.getuid()
        except OSError:
            continue
        if holds_one and is_own:
            return library
        if holds_one:
            output.note(f"skipped {library}, which belongs to another user; --index {library} uses it")
    return None


def require_library(given: str | None) -> Path:
    """As `find_library`. Raises NoLibraryError where there is none."""
    library = find_library(given)
    if library is None:
        raise NoLibraryError(
            f"no library here, neither in ./{FOLDER} nor in an {FOLDER}/ of a parent folder; "
            "`clipsearch index FOLDER` creates one, --index DIR names one elsewhere"
        )
    return library


def existing_library(given: str | None) -> Path:
    """As `require_library`, with a catalog in it: for commands that only read the plain files beside it."""
    from clipsearch.catalog.catalog import CATALOG_NAME, exists

    library = require_library(given)
    if not exists(library / CATALOG_NAME):
        raise NoLibraryError(f"no library in {library}; `clipsearch index FOLDER` creates one")
    return library


def place_for_index(given: str | None) -> Path:
    """The library that `index` updates: an existing one, or a new ./index."""
    return find_library(given) or Path(FOLDER)
