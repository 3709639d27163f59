"""Reads one argument of `query` or `similarity`: words, an image or part of one, id:N, standard input."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from clipsearch.errors import UsageError, reason

if TYPE_CHECKING:
    from clipsearch.search.terms import Term

STANDARD_INPUT = "-"


def standard_input() -> bytes:
    """All of standard input. Raises UsageError where it is closed."""
    if sys.stdin is None:
        raise UsageError("standard input is closed")
    return sys.stdin.buffer.read()


def read_bytes(name: str, *, option: str) -> bytes:
    """The content of a file, or of standard input for "-". Raises UsageError, which names `option` and the file."""
    if name == STANDARD_INPUT:
        return standard_input()
    try:
        with open(os.path.expanduser(name), "rb") as file:
            return file.read()
    except OSError as exc:
        raise UsageError(f"{option}{name}: {reason(exc)}") from exc


def named_term(word: str, *, hint: str = "", weighed: bool = False) -> Term:
    """The term that `word` names. Unless `weighed`, what looks like a weight is part of the words.

    Raises UsageError, ending in `hint`, for what looks like the path of an image and is not.
    """
    from clipsearch.images.sniff import IMAGE_SUFFIXES
    from clipsearch.search.terms import Image, parse_term

    if word == STANDARD_INPUT:
        return Image(standard_input())
    term = parse_term(word, weighed=weighed)
    if isinstance(term, Image):
        return term
    if "#" in word and os.path.isfile(os.path.expanduser(word.partition("#")[0])):
        raise UsageError(f"{word}: write a part of a picture as #x,y,width,height, in pixels or percent")
    path = os.path.expanduser(word.partition("#")[0])
    if os.sep in path and os.path.isdir(path):
        raise UsageError(f"{word}: a folder, not a picture; --in FOLDER searches only there{hint}")
    if os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES:
        what = "not a regular file" if os.path.exists(path) else "no such file"
        raise UsageError(f"{word}: {what}{hint}")
    return term
