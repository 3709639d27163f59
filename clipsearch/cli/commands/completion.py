"""`clipsearch completion`: have the shell complete command lines."""

from __future__ import annotations

from typing import Annotated

import typer

from clipsearch.cli import output

app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)

Shell = Annotated[
    str | None, typer.Option("--shell", metavar="bash|zsh|fish", help="Without it, the one that this runs in.")
]


@app.callback()
def completion(context: typer.Context) -> None:
    """Complete commands, options, models and files in your shell."""
    from clipsearch.errors import UsageError

    if context.invoked_subcommand is None:
        raise UsageError("say what to do: clipsearch completion install, show or uninstall")


@app.command("install")
def install(*, shell: Shell = None) -> int:
    """Have the shell complete command lines from now on.

    Says which files it writes. Lines are added to an rc file, nothing in it is changed; doing it again does no harm.
    """
    from clipsearch.cli import shells
    from clipsearch.display.text import home_path

    shell = _checked(shell)
    done = shells.install(shell)
    if not done.changed:
        output.write(f"{shell} completes clipsearch already\n")
        return 0
    for path in done.changed:
        verb = "added three lines to" if path == done.place.rc else "wrote"
        output.write(f"{verb} {home_path(str(path))}\n")
    output.write(f"{shell} completes clipsearch from its next start on; clipsearch completion uninstall undoes it\n")
    return 0


@app.command("uninstall")
def uninstall(*, shell: Shell = None) -> int:
    """Undo install."""
    from clipsearch.cli import shells
    from clipsearch.display.text import home_path

    shell = _checked(shell)
    done = shells.uninstall(shell)
    for path in done.changed:
        output.write(f"{'removed three lines from' if path == done.place.rc else 'removed'} {home_path(str(path))}\n")
    if not done.changed:
        output.write(f"{shell} does not complete clipsearch\n")
    return 0


@app.command("show")
def show(*, shell: Shell = None) -> int:
    """Print the script that install writes."""
    from clipsearch.cli import shells

    output.write(shells.script(_checked(shell)))
    return 0


def _checked(shell: str | None) -> str:
    from clipsearch.cli import shells
    from clipsearch.errors import UsageError

    if shell is None:
        return shells.current_shell()
    if shell not in shells.SHELLS:
        raise UsageError(f"--shell {shell}: one of {', '.join(shells.SHELLS)}")
    return shell
