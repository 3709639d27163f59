"""`clipsearch classifiers`: list, show and delete what `classify --save` has saved."""

from __future__ import annotations

from typing import Annotated

import typer

from clipsearch.cli import completion, options, output, place
from clipsearch.cli.render.tables import counted, table
from clipsearch.errors import UsageError
from clipsearch.export.json import SCHEMA_VERSION

app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)

Name = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=completion.classifiers, help="The classifier's name.")
]


@app.callback()
def classifiers(context: typer.Context, *, index: options.Index = None, json: options.Json = False) -> int:
    """Manage saved classifiers; without a command, list them."""
    return list_(index=index, json=json) if context.invoked_subcommand is None else 0


@app.command("list")
def list_(*, index: options.Index = None, json: options.Json = False) -> int:
    """List the classifiers."""
    from clipsearch.classify import store

    library = place.existing_library(index)
    names = store.classifiers(library).names()
    saved = []
    for name in names:
        try:
            saved.append(store.load_classifier(library, name))
        except UsageError as exc:  # The others are listed all the same.
            output.note(str(exc))
    if json:
        output.write_json({"schema_version": SCHEMA_VERSION, "classifiers": [one.facts() for one in saved]})
    elif not output.to_terminal():
        output.write("".join(f"{one.name}\n" for one in saved))
    elif saved:
        rows = [
            [output.printable(one.name), str(len(one.labels)), str(one.examples or "–"), output.printable(one.model)]
            for one in saved
        ]
        output.write(table(("name", "labels", "examples", "model"), rows, right="labels examples"))
    elif not names:
        output.note("none yet; `clipsearch classify --examples DIR --save NAME` saves one")
    return 0


@app.command("show")
def show(*, name: Name, index: options.Index = None, json: options.Json = False) -> int:
    """Show what a classifier was made from, and its accuracy."""
    from clipsearch.classify import store

    saved = store.load_classifier(place.existing_library(index), name)
    if json:
        output.write_json({"schema_version": SCHEMA_VERSION, **saved.facts()})
        return 0
    lines = [("name", saved.name), ("model", saved.model), ("fingerprint", saved.fingerprint[:16])]
    lines += [("template", text) for text in saved.templates[:5]]
    if len(saved.templates) > 5:
        lines.append(("", f"… and {len(saved.templates) - 5} more templates"))
    if fit := saved.fit:
        lines.append(("blend", f"{fit.blend:g} ({fit.blend_by})"))
        lines.append(("accuracy", f"{100 * fit.right:.0f} % (leave-one-out)"))
        error = f"calibration error {fit.ece_before:.3f}"
        lines.append(("scale", f"{fit.scale:.3g}; {error} → {fit.ece_after:.3f}" if fit.scale_fitted else error))
    for label, count in saved.counts():
        lines.append(("label", label + (f" ({counted(count, 'example')})" if fit else "")))
    output.write("".join(f"{head:<12}{output.printable(text)}\n" for head, text in lines))
    return 0


@app.command("delete")
def delete(*, name: Name, index: options.Index = None) -> int:
    """Delete a classifier."""
    from clipsearch.classify import store

    store.classifiers(place.existing_library(index)).delete(name)
    output.note(f"deleted the classifier {name}")
    return 0
