"""`clipsearch models` and `clipsearch models pull`: the known models, and downloading one."""

from __future__ import annotations

from typing import Annotated

import typer

from clipsearch.cli import completion, options, output

app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)


@app.callback()
def models(context: typer.Context, *, json: options.Json = False) -> int:
    """List known models: size, published accuracy, licence, cached or not."""
    if context.invoked_subcommand is not None:
        return 0
    from clipsearch.cli.render.library import models_json, models_text
    from clipsearch.encoders.clip import hub

    known = hub.known_models()
    if json:
        output.write_json(models_json(known))
    else:
        output.write(models_text(known))
        if output.to_terminal():
            output.note(
                "also: any ARCH/TAG of open_clip, hf-hub:ORG/NAME, or the path of a checkpoint; see docs/models.md"
            )
    return 0


@app.command("pull")
def pull(
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", autocompletion=completion.models, help="A model, as for --model.")
    ],
) -> int:
    """Download a model in advance, for offline use."""
    from clipsearch.encoders.clip import hub

    if hub.is_cached(name):
        output.write(f"{output.printable(name)} is already cached\n")
        return 0
    hub.pull(name)
    output.write(f"{output.printable(name)} is cached\n")
    return 0
