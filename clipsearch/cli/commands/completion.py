"""`clipsearch completion`: set up TAB completion."""

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
    """Set up TAB completion of commands, options, models and files in your shell."""
    if context.invoked_subcommand is None:
        raise UsageError("give a command: clipsearch completion install, show or uninstall")


@app.command("install")
def install(*, shell: Shell = None) -> int:
    """Set up completion for a shell.

    Lists the files that it writes. Lines are added to the end of an rc file, and nothing else in it is changed.
    """
    shell = shell or shells.current_shell()
    changed = shells.install(shell)
    if not changed:
        output.write(f"completion for {shell} is already set up\n")
        return 0
    for path in changed:
        verb = "added three lines to" if path == shells.place_of(shell).rc else "wrote"
        output.write(f"{verb} {home_path(str(path))}\n")
    output.write(f"completion starts with the next {shell}; `clipsearch completion uninstall` removes it\n")
    return 0


@app.command("uninstall")
def uninstall(*, shell: Shell = None) -> int:
    """Remove completion from a shell."""
    shell = shell or shells.current_shell()
    changed = shells.uninstall(shell)
    for path in changed:
        verb = "removed three lines from" if path == shells.place_of(shell).rc else "removed"
        output.write(f"{verb} {home_path(str(path))}\n")
    if not changed:
        output.write(f"completion for {shell} is not set up\n")
    return 0


@app.command("show")
def show(*, shell: Shell = None) -> int:
    """Print the script that `install` writes."""
    output.write(shells.script(shell or shells.current_shell()))
    return 0
