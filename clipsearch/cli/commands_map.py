"""`clipsearch map`: the library laid out in two dimensions, as a page."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from clipsearch.cli import options, output, place

PICTURES = 1000


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    """Shows on a terminal how many of `total` pictures are written."""
    if not output.is_terminal(sys.stderr):
        yield lambda done: None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc="writing", unit=" pictures", leave=False, dynamic_ncols=True) as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        yield show


def map(
    *,
    html: Annotated[str, typer.Option("--html", metavar="FILE", help="The page that is written.")],
    index: options.Index = None,
    pictures: Annotated[
        int, typer.Option("--pictures", metavar="N", min=1, max=20_000, help="Of more, a sample of so many is shown.")
    ] = PICTURES,
    model: Annotated[
        str | None, typer.Option("--model", metavar="SPEC", help="Another model that the library holds.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page.")] = False,
) -> int:
    """Lay the library out on a page: pictures that look alike lie together.

    The two directions are those in which the vectors differ most (PCA). The page needs nothing but itself; thumbnails
    come up as one zooms in. Needs the extra `plot`.
    """
    from clipsearch.cli.tables import counted
    from clipsearch.library import Library
    from clipsearch.projection import require
    from clipsearch.showing.map import write_map

    require()
    file = Path(html).expanduser()
    with Library.open(place.require_library(index)) as library:
        projection = library.project(most=pictures, model=model)
        title = library.path.absolute().parent.name or str(library.path)
    with _bar(len(projection.hits)) as progress:
        write_map(projection, file, title=f"Map of {title}", progress=progress)
    for text in projection.notices:
        output.note(text)
    shown = len(projection.hits)
    more = f", a sample of {projection.total:,}; --pictures takes more" if shown < projection.total else ""
    output.note(f"{counted(shown, 'picture')} on the map {html}{more}")
    if open_:
        from clipsearch.cli.viewer import show

        show([str(file.absolute())])
    return 0
