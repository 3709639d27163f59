"""`clipsearch demo`: the command, which prints and runs others; the photographs are in `cli.demo`."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.cli import output

if TYPE_CHECKING:
    from clipsearch.cli.demo import Demo


def demo(
    *,
    folder: Annotated[
        str, typer.Argument(metavar="[FOLDER]", help="Where to write the photographs.")
    ] = "clipsearch-demo",
) -> int:
    """Try clipsearch on fifteen photographs.

    Writes them to a folder, indexes them into a library there, runs three queries and classifies one.
    Needs scikit-image, which contains the photographs. Downloads nothing.
    """
    from pathlib import Path

    from clipsearch.cli import demo as photographs

    written = photographs.write_photos(Path(folder).expanduser())
    output.write(f"{len(written.photos)} photographs are in {output.printable(str(written.folder))}\n")
    code = _index(written)
    if code:
        return code
    for text in photographs.QUERIES:
        _query(written, text)
    _classify(written)
    _next(written)
    return 0


def _index(demo: Demo) -> int:
    from clipsearch.cli import demo as photographs
    from clipsearch.cli.commands import index

    library = str(demo.library)
    if (demo.library / "catalog.db").exists():
        _print_command("index", str(demo.folder), "--index", library)
        return index.index(paths=[str(demo.folder)], index=library)
    model = photographs.model()
    _print_command("index", str(demo.folder), "--index", library, "--model", model)
    return index.index(paths=[str(demo.folder)], index=library, model=model)


def _query(demo: Demo, text: str) -> None:
    from clipsearch.cli.render.hits import query_text
    from clipsearch.library.library import Library

    _print_command("query", text, "-k", "3", "--index", str(demo.library))
    with Library.open(demo.library) as library:
        output.write(query_text(library.query(text, k=3)))


def _classify(demo: Demo) -> None:
    from clipsearch.cli import demo as photographs
    from clipsearch.cli.render import classification
    from clipsearch.library.library import Library

    picture = demo.folder / photographs.CLASSIFIED
    _print_command("classify", str(picture), "--labels", *photographs.LABELS, "--index", str(demo.library))
    with Library.open(demo.library) as library:
        output.write(classification.text(library.classify([picture], photographs.LABELS)))


def _next(demo: Demo) -> None:
    library = shlex.quote(output.printable(str(demo.library)))
    steps = (
        (f"clipsearch query old coins --index {library}", "another query"),
        ("clipsearch index ~/Pictures", "your own photos, into ./index"),
        ("clipsearch query a dog on a beach", "and find them"),
        ("clipsearch models", "all known models"),
    )
    width = max(len(command) for command, _ in steps)
    output.write("\nWhat next?\n" + "".join(f"  {command:<{width}}   {meaning}\n" for command, meaning in steps))


def _print_command(*words: str) -> None:
    line = "$ clipsearch " + " ".join(shlex.quote(output.printable(word)) for word in words)
    output.write("\n" + output.styled(line, output.BOLD, sys.stdout) + "\n")
    output.flush()
