"""`clipsearch models` and `clipsearch models pull`."""

from __future__ import annotations

from typing import Annotated

import typer

from clipsearch.cli import options, output

app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)


@app.callback()
def models(context: typer.Context, *, json: options.Json = False) -> int:
    """List models: size, published accuracy, licence, cached or not."""
    if context.invoked_subcommand is not None:
        return 0
    from clipsearch.cli import render
    from clipsearch.encoders import hub

    known = hub.known_models()
    if json:
        output.write_json(render.models_json(known))
    else:
        output.write(render.models_text(known))
        if output.to_terminal():
            output.note("more: any ARCH/TAG of open_clip, hf-hub:ORG/NAME, or a checkpoint's path; see docs/models.md")
    return 0


@app.command("pull")
def pull(*, name: Annotated[str, typer.Argument(metavar="NAME", help="A model, as --model takes it.")]) -> int:
    """Fetch a model ahead, so that it works offline."""
    from clipsearch.encoders import hub

    if hub.is_cached(name):
        output.write(f"{output.printable(name)} is here already\n")
        return 0
    hub.pull(name)
    output.write(f"{output.printable(name)} is cached\n")
    return 0
