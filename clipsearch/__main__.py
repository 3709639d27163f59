"""`python -m clipsearch`, and the console script."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

COLLECT_EVERY = 50_000
"""Objects made between two garbage collections. Python's own 700 cost a query 16 ms of 170, nearly all of them while
modules are imported, when hardly anything is garbage."""


def main() -> int:
    """Run the command line on `sys.argv`; the exit code."""
    if sys.platform == "win32":
        sys.stderr.write("clipsearch: Windows is not supported; run it in WSL, the Linux that Windows brings along\n")
        return 2
    gc.set_threshold(COLLECT_EVERY)
    from clipsearch.cli.run import main as run

    return run(sys.argv[1:])


def console() -> NoReturn:
    """Run `main` and leave with its exit code, without taking everything apart.

    Unloading numpy, ONNX Runtime and a mapped model costs a query 20 to 45 ms. Nothing waits for it: what a command
    opens is closed by the time it returns, and both streams are flushed.
    """
    code = main()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    console()
