"""The Typer application. Importing it declares every command and imports nothing that is heavy."""

from __future__ import annotations

from typing import Annotated

import typer

from clipsearch.cli import commands_ask, commands_demo, commands_index, commands_keep, commands_models

EPILOG = "A library is made by: clipsearch index FOLDER. Each command has more under --help."

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        from clipsearch.cli import output

        output.write(f"clipsearch {metadata.version('clipsearch')}\n")
        raise typer.Exit()


@app.callback(epilog=EPILOG)
def main(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere on the line.")
    ] = False,
) -> None:
    """Find photos by describing them, and sort them by labels that you choose."""


app.command("index")(commands_index.index)
app.command("query")(commands_ask.query)
app.command("classify")(commands_ask.classify)
app.command("info")(commands_keep.info)
app.add_typer(commands_models.app, name="models")
app.command("doctor")(commands_keep.doctor)
app.command("prune")(commands_keep.prune)
app.command("forget")(commands_keep.forget)
app.command("reroot")(commands_keep.reroot)
app.command("demo")(commands_demo.demo)
