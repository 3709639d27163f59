"""`clipsearch completion`: have the shell complete command lines."""

from __future__ import annotations

from typing import Annotated

import typer

from clipsearch.cli import output, shells
from clipsearch.display.text import home_path
from clipsearch.errors import UsageError

app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)

Shell = Annotated[shells.Shell | None, typer.Option("--shell", help="Default: the shell that this runs in.")]


@app.callback()
def completion(context: typer.Context) -> None:
    """Complete commands, options, models and files in your shell."""
    if context.invoked_subcommand is None:
        raise UsageError("say what to do: clipsearch completion install, show or uninstall")


@app.command("install")
def install(*, shell: Shell = None) -> int:
    """Have the shell complete command lines from now on.

    Says which files it writes. Lines are added to an rc file, nothing in it is changed; doing it again does no harm.
    """
    shell = shell or shells.current_shell()
    changed = shells.install(shell)
    if not changed:
        output.write(f"{shell} completes clipsearch already\n")
        return 0
    for path in changed:
        verb = "added three lines to" if path == shells.place_of(shell).rc else "wrote"
        output.write(f"{verb} {home_path(str(path))}\n")
    output.write(f"{shell} completes clipsearch from its next start on; clipsearch completion uninstall undoes it\n")
    return 0


@app.command("uninstall")
def uninstall(*, shell: Shell = None) -> int:
    """Undo install."""
    shell = shell or shells.current_shell()
    changed = shells.uninstall(shell)
    for path in changed:
        verb = "removed three lines from" if path == shells.place_of(shell).rc else "removed"
        output.write(f"{verb} {home_path(str(path))}\n")
    if not changed:
        output.write(f"{shell} does not complete clipsearch\n")
    return 0


@app.command("show")
def show(*, shell: Shell = None) -> int:
    """Print the script that install writes."""
    output.write(shells.script(shell or shells.current_shell()))
    return 0
