"""Writes what is made from the commands' own declarations: docs/cli.md and the text of `clipsearch --help`.

    python -m clipsearch.cli.reference

writes both in a checkout; a test fails while they differ from the commands.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

COLUMNS = "80"

PARTS = {
    "models": ("pull",),
    "labels": ("save", "list", "show", "delete"),
    "classifiers": ("list", "show", "delete"),
}
"""Commands that have commands of their own."""

HEAD = """\
# The command line

Made from the commands themselves by `python -m clipsearch.cli.reference`; a test keeps it true.

Results go to stdout, all else to stderr. On a terminal results are tables; into a pipe or a file they are plain, and
`--json` gives one object a command. In JSON, `path` is readable, and where a name holds bytes that are no UTF-8,
`path_b64` has them all. `schema_version` goes up when a key changes its meaning or goes away.

| exit code | meaning |
|--:|---|
| 0 | done |
| 1 | it failed |
| 2 | the command line cannot work: an option, a path, a picture that cannot be read |
| 3 | done, but some files failed in this run |
| 4 | the model asked for and the library's do not agree |
| 5 | the catalog or a snapshot is damaged |
| 75 | another run is writing to the library (`--wait` waits) |
| 130 | stopped by Ctrl-C; what was done is kept |
"""


def help_text(*command: str) -> str:
    """What `clipsearch COMMAND --help` prints, 80 columns wide."""
    from clipsearch.cli.app import application

    text = io.StringIO()
    with _columns(), contextlib.redirect_stdout(text):
        application()(args=[*command, "--help"], prog_name="clipsearch", standalone_mode=False)
    return text.getvalue()


def reference() -> str:
    """docs/cli.md: every command's help."""
    from clipsearch.cli.app import COMMANDS

    parts = [HEAD, _section("clipsearch")]
    for name in COMMANDS:
        parts.append(_section("clipsearch", name))
        parts += [_section("clipsearch", name, part) for part in PARTS.get(name, ())]
    return "\n".join(parts)


def _section(program: str, *command: str) -> str:
    return f"## {' '.join([program, *command])}\n\n```text\n{help_text(*command)}```\n"


@contextlib.contextmanager
def _columns() -> Iterator[None]:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = COLUMNS
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def write(checkout: Path) -> None:
    (checkout / "docs" / "cli.md").write_text(reference(), encoding="utf-8")
    (checkout / "clipsearch" / "cli" / "help.txt").write_text(help_text(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).parents[2])
