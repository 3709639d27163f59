"""Opens images and pages with the desktop's own programs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from clipsearch.errors import ClipsearchError


def show(paths: Sequence[str]) -> None:
    """Open files without waiting for the viewer. Raises ClipsearchError if there is no desktop that could."""
    if not paths:
        return
    if sys.platform != "darwin" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ClipsearchError("`open`: there is no desktop here (neither DISPLAY nor WAYLAND_DISPLAY is set)")
    # macOS opens many in one window; xdg-open takes one at a time.
    commands = [["open", "--", *paths]] if sys.platform == "darwin" else [["xdg-open", path] for path in paths]
    for command in commands:
        try:
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as exc:
            raise ClipsearchError(f"`open`: {command[0]} cannot be run ({exc.strerror}); is there a desktop?") from exc
