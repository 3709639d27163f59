"""What pages that need nothing but themselves are made of: a head whose policy shuts everything else out, and values.

A content security policy lets a page run its own script and reach nothing else, whatever a file may be called.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import urllib.parse
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from clipsearch import files
from clipsearch.display.text import printable

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["check", "data_url", "file_url", "foot", "head", "text", "writing"]


@contextlib.contextmanager
def writing(file: str | Path, *, mark: str, what: str) -> Iterator[TextIO]:
    """A stream for a page that begins with `mark`; only a page that begins so is replaced. See files.writing_own."""
    with files.writing_own(file, is_own=lambda found: found.startswith(mark.encode()), what=what) as binary:
        stream = io.TextIOWrapper(binary, encoding="utf-8")
        try:
            yield stream
            stream.flush()
        finally:
            stream.detach()


def check(file: str | Path, *, mark: str, what: str) -> None:
    """Refuse early what `writing` would refuse."""
    files.check_own(file, is_own=lambda found: found.startswith(mark.encode()), what=what)


def head(title: str, *, style: str, script: str) -> str:
    """The head of a page from its charset on; `style` and `script` name files beside this module."""
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data: file:; "
        f"style-src {_source(style)}; script-src {_source(script)}"
    )
    return (
        '<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(title)} – clipsearch</title>\n<style>{_asset(style)}</style>\n"
    )


def foot(*, script: str) -> str:
    """The end of a page, its script included."""
    return f"<script>{_asset(script)}</script>\n</html>\n"


def text(words: str) -> str:
    """`words` as they may stand in an element or an attribute's quotes."""
    return escape(printable(words))


def file_url(path: str) -> str:
    return f"file://{urllib.parse.quote(os.fsencode(path))}"


def data_url(picture: Image.Image, *, quality: int = 80) -> str:
    """A picture as a JPEG in an address of its own."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _source(name: str) -> str:
    """By what the policy allows a style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(_asset(name).encode()).digest()).decode()}'"
