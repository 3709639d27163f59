"""`clipsearch similarity`: its options, and cosines and angles as JSON, CSV, tables and a plot."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipsearch.cli import completion, options, output, place
from clipsearch.cli.arguments import STANDARD_INPUT, named_term
from clipsearch.cli.options import flag
from clipsearch.cli.render.shared import csv_text
from clipsearch.cli.render.tables import table
from clipsearch.display.text import cell_width, cut
from clipsearch.errors import ModelMismatchError, UsageError
from clipsearch.export.json import SCHEMA_VERSION, clean, path_keys

if TYPE_CHECKING:
    from clipsearch.encoders.base import EncoderOptions
    from clipsearch.search.similarity import Compared, Item, Similarity

ROW_CELLS = 36
"""Cells of a row's name; of a column's, from COLUMN_CELLS to half of it."""

COLUMN_CELLS = 8


def similarity(
    *,
    items: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="A B...",
            autocompletion=completion.ids,
            help="Pictures, texts (quoted), parts of pictures as photo.jpg#x,y,w,h, id:N for an earlier hit, "
            '- for a picture on standard input, or vectors as "[1, 0.5]".',
        ),
    ] = None,
    index: options.Index = None,
    model: options.Model = None,
    device: options.Device = "auto",
    arch: options.Arch = None,
    trust_checkpoint: options.Trust = False,
    plot: options.Plot = None,
    dark: options.Dark = False,
    json: options.Json = False,
    csv: Annotated[bool, flag("--csv", "Print the matrix of cosines as CSV.")] = False,
) -> int:
    """Measure how similar pictures, texts and vectors are: cosines, and angles in degrees.

    Works without a library; with one, its pictures are not encoded again. Vectors alone need no model.
    To a pipe, prints cosine, angle and both names of each pair, separated by tabs.
    """
    from clipsearch.encoders.base import EncoderOptions

    if json and csv:
        raise UsageError("--json and --csv exclude each other")
    target = None
    if plot is not None:
        from clipsearch.display.plots.file import check

        target = check(plot)
        from clipsearch.display.plots.similarity import check_count

        check_count(len(items or []))
    wanted = EncoderOptions(device=device, arch=arch, trust_checkpoint=trust_checkpoint)
    result = _compared(_items(items or []), index=index, model=model, options=wanted)
    _write(result, json=json, csv=csv)
    for text in result.notices:
        output.note(text)
    if target is not None:
        from clipsearch.display.plots.similarity import plot_similarity

        plot_similarity(result, target, dark=dark)
        output.note(f"wrote the plot to {target}")
    return 0


def _items(words: list[str]) -> list[Item]:
    from clipsearch.search.similarity import parse_vector

    if words.count(STANDARD_INPUT) > 1:
        raise UsageError("- (a picture on standard input) can be given only once")
    return [parse_vector(word) or named_term(word) for word in words]


def _compared(items: list[Item], *, index: str | None, model: str | None, options: EncoderOptions) -> Similarity:
    """With the library if there is one; vectors alone need neither library nor model."""
    from clipsearch.library.library import Library
    from clipsearch.search.similarity import Vector, compare_alone
    from clipsearch.search.terms import Indexed

    only_vectors = all(isinstance(item, Vector) for item in items)
    folder = None if only_vectors else place.find_library(index)
    if folder is not None:
        try:
            with Library.open(folder, options=options) as library:
                return library.similarity(items, model=model)
        except ModelMismatchError:
            needs_it = any(isinstance(item, Indexed) for item in items)
            if index is not None or model is None or needs_it:
                raise
    return compare_alone(items, model=model, options=options)


# What comes back


def _write(result: Similarity, *, json: bool, csv: bool) -> None:
    if json:
        output.write_json(_json(result))
    elif csv:
        output.write_foreign(_csv(result))
    elif not output.to_terminal():
        _write_pairs(result)
    elif len(result.items) == 2:
        first, second = _short_names(result)
        output.write(
            f"cosine {result.cosines[0, 1]:.4f}, angle {result.angles[0, 1]:.2f}°, between {first} and {second}\n"
        )
    else:
        output.write(_tables(result))


def _write_pairs(result: Similarity) -> None:
    """One line per pair; numbers first, so that `sort -rn` puts the most similar pair on top."""
    for i, first in enumerate(result.items):
        for j, second in enumerate(result.items[i + 1 :], i + 1):
            output.write(f"{result.cosines[i, j]:.6f}\t{result.angles[i, j]:.4f}\t")
            output.write_path(_plain_name(first), end=b"\t")
            output.write_path(_plain_name(second))


def _plain_name(item: Compared) -> str:
    """A path byte for byte; a text without newlines and tabs."""
    return item.name if item.kind == "picture" else output.printable(item.name)


def _json(result: Similarity) -> dict[str, Any]:

    return {
        "schema_version": SCHEMA_VERSION,
        "model": result.model.spec if result.model else None,
        "is_clip": result.model.is_clip if result.model else None,
        "items": [_item_json(item) for item in result.items],
        "cosines": result.cosines.tolist(),
        "angles": result.angles.tolist(),
        "notices": [clean(text) for text in result.notices],
    }


def _item_json(item: Compared) -> dict[str, Any]:

    value: dict[str, Any] = {"kind": item.kind, "name": clean(item.name)}
    if item.paths:
        value |= path_keys(item.paths[0])
    if item.id is not None:
        value["id"] = item.id
    return value


def _csv(result: Similarity) -> str:
    """A header with the names, then one row per item, its name first."""

    names = [clean(item.name) for item in result.items]
    rows = ([name, *(f"{cosine:.6f}" for cosine in row)] for name, row in zip(names, result.cosines, strict=True))
    return csv_text([["", *names], *rows])


def _short_names(result: Similarity) -> list[str]:
    """File names without their folders where these are unique, all else as given."""
    files = [os.path.basename(item.name) for item in result.items if item.kind == "picture" and item.id is None]
    names = []
    for item in result.items:
        name = item.name
        if item.kind == "text":
            name = f'"{name}"'
        elif item.id is not None and item.paths:
            name = f"{name} {os.path.basename(item.paths[0])}"
        elif item.kind == "picture" and files.count(os.path.basename(name)) == 1:
            name = os.path.basename(name)
        names.append(output.printable(name))
    return names


def _tables(result: Similarity) -> str:
    """Two tables, of cosines and of angles; columns too narrow for distinct names are numbered."""

    names = [cut(name, ROW_CELLS) for name in _short_names(result)]
    widest = max(cell_width(name) for name in names)
    room = (shutil.get_terminal_size().columns - widest) // len(names) - 2
    heads = [cut(name, min(room, ROW_CELLS // 2)) for name in names]
    if room < COLUMN_CELLS or len(set(heads)) < len(heads):
        heads = [str(number) for number in range(1, len(names) + 1)]
        names = [f"{number}  {name}" for number, name in zip(heads, names, strict=True)]
    parts = []
    for title, matrix, digits in (("cosine", result.cosines, 3), ("degrees", result.angles, 1)):
        rows = [[name, *(f"{value:.{digits}f}" for value in row)] for name, row in zip(names, matrix, strict=True)]
        parts.append(table([title, *heads], rows, right=range(1, len(heads) + 1)))
    return "\n".join(parts)
