"""The file of an image as a response, in ranges if asked for."""

from __future__ import annotations

import os

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from clipsearch.library.originals import Original

_TYPES = {"JPEG2000": "image/jp2", "PPM": "image/x-portable-anymap", "RAW": "application/octet-stream"}
"""Where the media type is not the name of the format."""


class OriginalResponse(FileResponse):
    """Sends the file that is open in `original`, whatever has become of its path, and closes it."""

    def __init__(self, original: Original, *, download: bool) -> None:
        kind = original.format or "RAW"
        super().__init__(
            f"/dev/fd/{original.file.fileno()}",
            headers={"etag": f'"{original.digest}"', "cache-control": "private, no-cache"},
            media_type=_TYPES.get(kind, f"image/{kind.lower()}"),
            filename=os.fsencode(os.path.basename(original.path)).decode("utf-8", "replace"),
            stat_result=original.status,
            content_disposition_type="attachment" if download else "inline",
        )
        self._original = original

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._original.file:
            await super().__call__(scope, receive, send)
