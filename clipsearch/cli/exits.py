"""The exit codes: those that no error has, and the meanings of all for docs/cli.md."""

from __future__ import annotations

from clipsearch.errors import DamagedError, LockedError, ModelMismatchError, StoppedError, UsageError

NONE_DONE = UsageError.exit_code
SOME_FAILED = 3
DAMAGED = DamagedError.exit_code
INTERRUPTED = StoppedError.exit_code

CLOSED_PIPE = 141
"""What a shell reports for a program that SIGPIPE ended; clipsearch ends just as quietly."""

MEANINGS = {
    0: "done",
    1: "failed",
    UsageError.exit_code: "invalid command line: an option, a path, an unreadable picture",
    SOME_FAILED: "done, but some files failed in this run",
    ModelMismatchError.exit_code: "the requested model does not match the library's",
    DAMAGED: "the catalog or a snapshot is damaged",
    LockedError.exit_code: "another run is writing to the library (`--wait` waits)",
    INTERRUPTED: "stopped by Ctrl-C; finished work is kept",
}
