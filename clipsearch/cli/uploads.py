"""The images of a query that a server is to answer: they are read here, and sent along."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from clipsearch.errors import UsageError, reason
from clipsearch.files import absolute, open_seen
from clipsearch.search.terms import Image, Indexed, Term, parse_term
from clipsearch.serve.limits import MAX_BODY, MAX_PARTS
from clipsearch.types import is_text

if TYPE_CHECKING:
    from pathlib import Path

_MAX_IMAGES = MAX_PARTS - 1
"""One part of the form has the parameters."""


class Images:
    """The images among the terms of a query, which are sent along, each once; on the way, they are called image:0 …"""

    def __init__(self, terms: Sequence[Term]) -> None:
        self.contents: list[bytes] = []
        self._numbers: dict[Path | bytes, int] = {}
        self._names: list[str] = []
        for term in terms:
            if isinstance(term, Image) and term.source not in self._numbers:
                self._numbers[term.source] = len(self._numbers)
                self._names.append(_shown(term))
                if len(self._numbers) > _MAX_IMAGES:
                    raise UsageError(f"a server takes at most {_MAX_IMAGES} pictures in one query")
                self.contents.append(term.source if isinstance(term.source, bytes) else _content(term.source))

    def written(self, term: Term) -> str:
        """A term as the server reads it. Raises UsageError for words that would mean something else there."""
        if isinstance(term, Image):
            return f"image:{self._numbers[term.source]}{_part(term)}^{term.weight!r}"
        if isinstance(term, Indexed):
            return f"id:{term.id}^{term.weight!r}"
        check_text(term.words)
        text = f"{term.words}^{term.weight!r}"
        if parse_term(text, uploads=[("", b"")] * len(self.contents)) != term:
            raise UsageError(f"{term.words}: these words name a picture of the request; leave out the other pictures")
        return text

    def named(self, message: str) -> str:
        """A message of the server about one of the images, with its name here."""
        found = re.match("image:([0-9]+)(?=[: ])", message)
        if found is None or int(found[1]) >= len(self._names):
            return message
        return self._names[int(found[1])] + message[found.end() :]


def _shown(term: Image) -> str:
    """What messages of a local query call an image."""
    if isinstance(term.source, bytes):
        return "the image on standard input"
    return str(term.source) if term.region else os.fsdecode(absolute(term.source))


def _part(term: Image) -> str:
    if term.region is None:
        return ""
    edges = zip(term.region.numbers, term.region.percent, strict=True)
    return "#" + ",".join(f"{min(number, 1e15):.17f}{'%' * percent}" for number, percent in edges)


def _content(path: Path) -> bytes:
    """The bytes of an image file. Raises UsageError where it cannot be read, or is too large to be sent."""
    name = absolute(path)
    try:
        with open(open_seen(name), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UsageError("not a regular file", path=os.fsdecode(name))
            if status.st_size > MAX_BODY:
                raise too_large(os.fsdecode(name))
            return file.read(MAX_BODY + 1)
    except OSError as exc:
        raise UsageError(reason(exc), path=os.fsdecode(name)) from exc


def too_large(what: str) -> UsageError:
    return UsageError(
        f"{what}: a server takes {MAX_BODY >> 20} MiB in one query", advice="give a smaller copy, or use `index`"
    )


def form(parameters: bytes, images: Sequence[bytes], boundary: str) -> Iterator[bytes]:
    """A form with the parameters and the images."""
    yield f'--{boundary}\r\nContent-Disposition: form-data; name="query"\r\n\r\n'.encode() + parameters
    for number, content in enumerate(images):
        about = f'Content-Disposition: form-data; name="image"; filename="image:{number}"'
        yield f"\r\n--{boundary}\r\n{about}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
        yield content
    yield f"\r\n--{boundary}--\r\n".encode()


def check_text(text: str) -> None:
    if not is_text(text):
        raise UsageError(f"the text {text} is not valid UTF-8")
