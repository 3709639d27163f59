"""Exit codes that no error carries (`errors` has the others); docs/cli.md lists all."""

from __future__ import annotations

NONE_DONE = 2
SOME_FAILED = 3
INTERRUPTED = 130

CLOSED_PIPE = 141
"""What a shell reports for a program that SIGPIPE ended; ours ends as quietly."""
