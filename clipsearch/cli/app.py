"""The Typer application. Declaring a command imports nothing that is heavy."""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

COMMANDS = {
    "index": "index",
    "query": "query",
    "show": "query",
    "classify": "classify",
    "labels": "labels",
    "classifiers": "classifiers",
    "eval": "evaluate",
    "similarity": "similarity",
    "map": "map",
    "serve": "serve",
    "info": "maintenance",
    "models": "models",
    "doctor": "maintenance",
    "prune": "maintenance",
    "forget": "maintenance",
    "reroot": "maintenance",
    "demo": "demo",
    "completion": "completion",
}
"""Each command's module, in the order of the help; the function has the command's name, a group is called `app`."""


def application(only: str | None = None) -> typer.Typer:
    """The application with all commands, or with one: a query need not pay for declaring all others."""
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(main)
    for name in [only] if only else COMMANDS:
        module = importlib.import_module(f"clipsearch.cli.commands.{COMMANDS[name]}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(getattr(module, name))
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        from clipsearch.cli import output

        output.write(f"clipsearch {metadata.version('clipsearch')}\n")
        raise typer.Exit()


def main(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere on the line.")
    ] = False,
) -> None:
    """Find photos by describing them, and sort them by labels that you choose.

    A library is made by: clipsearch index FOLDER. Each command says more with --help.
    """
