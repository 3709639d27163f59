"""Runs a command as if a person watched: its stdout is a terminal of a given width."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path


def on_terminal(command: Sequence[str | bytes | Path], *, cwd: Path, env: Mapping[str, str], columns: int = 100) -> str:
    """What comes on stdout, its line ends plain; stderr goes nowhere."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    options = {"NO_COLOR": "1", "TERM": "xterm"}
    process = subprocess.Popen(
        command, cwd=cwd, env={**env, **options}, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL
    )
    os.close(theirs)
    pieces = []
    try:
        while piece := os.read(ours, 65536):
            pieces.append(piece)
    except OSError:
        pass  # How Linux says that nobody holds the other end any more.
    finally:
        os.close(ours)
        process.wait()
    return b"".join(pieces).decode().replace("\r\n", "\n")
