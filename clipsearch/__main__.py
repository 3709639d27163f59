"""`python -m clipsearch`, and the console script."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line on `sys.argv`; the exit code."""
    if sys.platform == "win32":
        sys.stderr.write("clipsearch: Windows is not supported; run it in WSL, the Linux that Windows brings along\n")
        return 2
    from clipsearch.cli.run import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
