"""Writes what is made from the commands' declarations: docs/cli.md, and the text of `clipsearch --help`.

    python -m clipsearch.cli.reference

writes both in a checkout; a test fails while they differ from the commands.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipsearch.cli.exits import MEANINGS

COLUMNS = "80"

HEAD = """\
# The command line

Generated from the commands by `python -m clipsearch.cli.reference`; a test keeps it current.

Results go to stdout, everything else to stderr. On a terminal, results are tables; to a pipe or a file they are plain
text, and `--json` prints one object per command. In JSON, `path` is readable; where a name contains bytes that are not
UTF-8, `path_b64` holds all of its bytes. `schema_version` increases when a key changes its meaning or is removed.
"""


def help_text(*command: str) -> str:
    """What `clipsearch COMMAND --help` prints, 80 columns wide."""
    from clipsearch.cli.app import application

    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        width = int(COLUMNS) - 2  # what Typer leaves to the text
        application()([*command, "--help"], prog_name="clipsearch", standalone_mode=False, terminal_width=width)
    return text.getvalue()


def reference() -> str:
    """docs/cli.md: the exit codes, and every command's help."""
    exits = "".join(f"| {code} | {meaning} |\n" for code, meaning in MEANINGS.items())
    return "\n".join(
        [HEAD, f"| exit code | meaning |\n|--:|---|\n{exits}", *(_section(*words) for words in _commands())]
    )


def _section(*command: str) -> str:
    return f"## {' '.join(['clipsearch', *command])}\n\n```text\n{help_text(*command)}```\n"


def _commands() -> Iterator[tuple[str, ...]]:
    """The words that name each command, groups before what is in them."""
    import typer

    from clipsearch.cli.app import COMMANDS, application

    declared: Any = typer.main.get_command(application())
    yield ()
    for name in COMMANDS:
        yield (name,)
        for below in getattr(declared.commands[name], "commands", ()):
            yield name, below


def write(checkout: Path) -> None:
    (checkout / "docs" / "cli.md").write_text(reference(), encoding="utf-8")
    (checkout / "clipsearch" / "cli" / "help.txt").write_text(help_text(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).parents[2])
