"""Which options of `clipsearch classify` make no sense beside each other."""

from __future__ import annotations

from clipsearch.errors import UsageError
from clipsearch.files import absolute


def check_source(
    *,
    labels: list[str] | None,
    template: list[str] | None,
    examples: str | None,
    blend: float | None,
    save: str | None,
    use: str | None,
    replace: bool,
) -> None:
    """Raise UsageError for what makes no classifier."""
    if use is not None and (labels or template or examples or save or blend is not None):
        raise UsageError(
            "--use takes a classifier as it is: leave out --labels, --template, --examples, --blend, --save"
        )
    if not (labels or examples or use):
        raise UsageError("no labels to choose from; give some: --labels cat dog")
    if blend is not None and examples is None:
        raise UsageError("--blend is for --examples")
    if replace and save is None:
        raise UsageError("--replace is for --save")


def check_result(
    *,
    multi: bool,
    threshold: float | None,
    unknown: bool,
    margin: float | None,
    dark: bool,
    plot: str | None,
    folders: tuple[str | None, str | None],
) -> None:
    """Raise UsageError for options that say how to give what is not asked for."""
    if threshold is not None and not multi:
        raise UsageError("--threshold is for --multi")
    if margin is not None and not unknown:
        raise UsageError("--margin is for --unknown")
    if dark and plot is None:
        raise UsageError("--dark is for --plot")
    for folder in folders:
        if folder is not None:
            absolute(folder)  # Refuses an empty one: most likely a variable is not set.


def check_pictures(*, pictures: list[str] | None, in_: list[str] | None, save: str | None, results: list[str]) -> None:
    """Raise UsageError for pictures named in two ways, and for options of a result that there will not be."""
    if in_ and pictures:
        raise UsageError("--in narrows the library; name pictures, or --in, not both")
    if save is not None and not (pictures or in_) and results:
        raise UsageError(
            f"--save without IMAGES classifies nothing: leave out {', '.join(results)}, or name pictures, or --in"
        )
