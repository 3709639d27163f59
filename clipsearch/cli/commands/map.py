"""`clipsearch map`: a two-dimensional map of the library, as a web page."""

from __future__ import annotations

from typing import Annotated

from clipsearch.cli import options, output, place
from clipsearch.cli.options import flag, value
from clipsearch.cli.render.tables import counted
from clipsearch.files import expanded


def map(
    *,
    html: Annotated[str, value("--html", "FILE", "The web page to write.")],
    index: options.Index = None,
    images: Annotated[
        int | None, value("--pictures", "N", "Show a random sample of N pictures (default 1000).", min=1, max=20_000)
    ] = None,
    model: options.LibraryModel = None,
    open_: Annotated[bool, flag("--open", "Open the page.")] = False,
) -> int:
    """Draw a 2-D map of the library as a web page.

    Similar pictures lie close together: the axes are the first two principal components (PCA). The page is
    self-contained and shows thumbnails when you zoom in. Needs the extra `plot`.
    """
    from clipsearch.cli.progress import Counter
    from clipsearch.display.html.map import check, write_map
    from clipsearch.library.library import Library
    from clipsearch.search.projection import require

    require()
    file = expanded(html)
    check(file)
    with Library.open(place.require_library(index)) as library:
        projection = library.project(model=model, **({} if images is None else {"most": images}))
        title = library.path.absolute().parent.name or str(library.path)
    shown = len(projection.hits)
    with Counter() as counter:
        write_map(projection, file, title=f"Map of {title}", progress=lambda done: counter.show("writing", done, shown))
    for text in projection.notices:
        output.note(text)
    more = f", a sample of {projection.total:,}; --pictures sets its size" if shown < projection.total else ""
    output.note(f"{counted(shown, 'picture')} on the map {html}{more}")
    if open_:
        from clipsearch.display.viewer import show

        show([str(file.absolute())])
    return 0
