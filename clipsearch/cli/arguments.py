"""What one argument of a command names: words, a picture or a part of one, an earlier hit, standard input."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipsearch.search.terms import Term

STANDARD_INPUT = "-"


def standard_input() -> bytes:
    """All that comes from there. Raises UsageError where it is closed."""
    from clipsearch.errors import UsageError

    if sys.stdin is None:
        raise UsageError("standard input is closed")
    return sys.stdin.buffer.read()


def named_term(word: str, *, hint: str = "") -> Term:
    """The term that `word` is. It has no weight: what looks like one is part of the words.

    Raises UsageError, ending in `hint`, for what is written as a picture and is none.
    """
    from clipsearch.errors import UsageError
    from clipsearch.images.sniff import PICTURE_SUFFIXES
    from clipsearch.search.terms import Picture, parse_term

    if word == STANDARD_INPUT:
        return Picture(standard_input())
    term = parse_term(word, weighed=False)
    if isinstance(term, Picture):
        return term
    if "#" in word and os.path.isfile(os.path.expanduser(word.partition("#")[0])):
        raise UsageError(f"{word}: a part of a picture is written as #x,y,width,height, in pixels or percent")
    path = os.path.expanduser(word.partition("#")[0])
    if os.sep in path and os.path.isdir(path):
        raise UsageError(f"{word}: a folder, not a picture; --in FOLDER looks there only{hint}")
    if os.path.splitext(path)[1].lower() in PICTURE_SUFFIXES:
        what = "not a regular file" if os.path.exists(path) else "no such file"
        raise UsageError(f"{word}: {what}{hint}")
    return term
