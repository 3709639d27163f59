"""`clipsearch labels`: list, show, save and delete the label sets in a library's folder."""

from __future__ import annotations

from typing import Annotated

import typer

from clipsearch.cli import completion, options, output, place
from clipsearch.cli.options import flag
from clipsearch.cli.render.tables import table
from clipsearch.errors import UsageError
from clipsearch.export.json import SCHEMA_VERSION

app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", autocompletion=completion.label_sets, help="The set's name: letters, digits, . _ and -."
    ),
]


@app.callback()
def labels(context: typer.Context, *, index: options.Index = None, json: options.Json = False) -> int:
    """Manage label sets for `classify --labels @NAME`; without a command, list them."""
    return list_(index=index, json=json) if context.invoked_subcommand is None else 0


@app.command("save")
def save(
    *,
    name: Name,
    labels: Annotated[
        list[str],
        typer.Argument(
            metavar="LABEL...", autocompletion=completion.labels, help="Labels, as for `classify --labels`."
        ),
    ],
    index: options.Index = None,
    replace: Annotated[bool, flag("--replace", "Replace a set of that name.")] = False,
) -> int:
    """Save labels under a name, as a plain file in the library's folder."""
    from clipsearch.classify import store
    from clipsearch.cli.labels import read_labels

    library = place.existing_library(index)
    path = store.save_labels(library, name, read_labels(labels, library), replace=replace)
    output.note(f"saved the label set {name} in {path}")
    return 0


@app.command("list")
def list_(*, index: options.Index = None, json: options.Json = False) -> int:
    """List the sets."""
    from clipsearch.classify import store
    from clipsearch.classify.labels import IMAGENET

    library = place.existing_library(index)
    names = store.label_sets(library).names()
    if not (json or output.to_terminal()):
        output.write("".join(f"{name}\n" for name in names))
        return 0
    found = {}
    for name in names:
        try:
            found[name] = store.load_labels(library, name)
        except UsageError as exc:  # The others are listed all the same.
            output.note(str(exc))
    if json:
        sets = [{"name": name, "labels": len(labels)} for name, labels in found.items()]
        output.write_json({"schema_version": SCHEMA_VERSION, "sets": sets})
        return 0
    rows = []
    for name, labels in found.items():
        some = ", ".join(output.printable(label.name) for label in labels[:5])
        rows.append([output.printable(name), str(len(labels)), some + (" …" if len(labels) > 5 else "")])
    rows.append([IMAGENET, "1000", "built in: the classes of ImageNet"])
    output.write(table(("name", "labels", ""), rows, right="labels"))
    return 0


@app.command("show")
def show(*, name: Name, index: options.Index = None) -> int:
    """Print a set as a label file."""
    from clipsearch.classify import store
    from clipsearch.classify.labels import IMAGENET, format_labels, imagenet

    if name == IMAGENET:
        output.write(format_labels(imagenet()))
        return 0
    output.write_foreign(store.label_sets(place.existing_library(index)).read(name))
    return 0


@app.command("delete")
def delete(*, name: Name, index: options.Index = None) -> int:
    """Delete a set."""
    from clipsearch.classify import store

    store.label_sets(place.existing_library(index)).delete(name)
    output.note(f"deleted the label set {name}")
    return 0
