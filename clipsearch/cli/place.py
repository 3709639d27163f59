"""Which library a command works on."""

from __future__ import annotations

import os
from pathlib import Path

from clipsearch.cli import output
from clipsearch.errors import NoLibraryError

FOLDER = "index"
VARIABLE = "CLIPSEARCH_INDEX"


def find_library(given: str | None) -> Path | None:
    """`given`, else $CLIPSEARCH_INDEX, else ./index, else the nearest index/ above; the last two must hold a catalog.

    One above that belongs to someone else is passed over, and named on stderr: its answers would be theirs.
    """
    from clipsearch.catalog.catalog import CATALOG_NAME

    named = given or os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
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
            output.note(f"passed over {library}, which belongs to someone else; --index {library} uses it")
    return None


def require_library(given: str | None) -> Path:
    """As `find_library`. Raises NoLibraryError where there is none to be found."""
    library = find_library(given)
    if library is None:
        raise NoLibraryError(
            f"no library here: neither ./{FOLDER} nor an {FOLDER}/ in a folder above holds one; "
            "clipsearch index FOLDER makes one, --index DIR names one elsewhere"
        )
    return library


def existing_library(given: str | None) -> Path:
    """As `require_library`, and there is a catalog in it: for commands that look at plain files beside it only."""
    from clipsearch.catalog.catalog import CATALOG_NAME

    library = require_library(given)
    if not (library / CATALOG_NAME).is_file():
        raise NoLibraryError(f"no library in {library}; clipsearch index FOLDER makes one")
    return library


def place_for_index(given: str | None) -> Path:
    """The library that `index` fills: one that is there, else a new ./index."""
    return find_library(given) or Path(FOLDER)
