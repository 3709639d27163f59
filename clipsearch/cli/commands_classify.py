"""`clipsearch classify`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.cli import options, output, place

if TYPE_CHECKING:
    from clipsearch.encoders import EncoderOptions
    from clipsearch.types import ClassifyResult

SOME_FAILED = 3
NONE_DONE = 2


def classify(
    *,
    pictures: Annotated[list[str] | None, typer.Argument(metavar="IMAGES...", help="Pictures, or folders.")] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--labels",
            metavar="LABEL...",
            help='What to choose from: cat dog "red car", or cat,dog, or @FILE with one a line '
            "(label: synonym, synonym; # begins a comment; \\: and \\# are the characters themselves). "
            "All up to the next option are labels, so pictures come first.",
        ),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            "--template",
            metavar="TEXT",
            help='A sentence with {label} in it; repeatable, and averaged. CLIP\'s: "a photo of a {label}".',
        ),
    ] = None,
    index: options.Index = None,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="How many labels a picture.")] = 5,
    model: options.Model = None,
    device: options.Device = "auto",
    arch: options.Arch = None,
    trust_checkpoint: options.Trust = False,
    json: options.Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print path, label, probability and score as CSV.")] = False,
    plot: options.Plot = None,
    dark: options.Dark = False,
) -> int:
    """Choose the best of your labels for each picture.

    Works without a library; with one, pictures that it holds are not encoded again. Into a pipe it prints
    path, label and probability, with tabs between.
    """
    from clipsearch.cli.labels import pictures_among, read_labels
    from clipsearch.encoders import EncoderOptions
    from clipsearch.errors import UsageError

    if json and csv:
        raise UsageError("--json and --csv exclude one another")
    if plot is not None:
        from clipsearch import plotting

        plotting.check(plot)
    values = labels or []
    for name in pictures_among(values):
        output.note(f"the label {name} is also a picture here; pictures come before --labels")
    if not pictures:
        raise UsageError("no picture to classify; pictures come before --labels")
    result = _classified(
        pictures,
        read_labels(values),
        index=index,
        model=model,
        options=EncoderOptions(device=device, arch=arch, trust_checkpoint=trust_checkpoint),
        templates=template or [],
        k=k,
    )
    _write_classes(result, json=json, csv=csv)
    code = _outcome(result)
    if plot is not None and code != NONE_DONE:
        _plot(result, plot, dark=dark)
    return code


def _classified(
    pictures: list[str],
    labels: list,  # type: ignore[type-arg]
    *,
    index: str | None,
    model: str | None,
    options: EncoderOptions,
    templates: list[str],
    k: int,
) -> ClassifyResult:
    """With the library that is there, else without one."""
    from clipsearch.errors import ModelMismatchError, UsageError
    from clipsearch.library import Library, classify_alone

    if not labels:
        raise UsageError("no labels to choose from; give some: --labels cat dog")
    folder = place.find_library(index)
    if folder is not None:
        try:
            with Library.open(folder, options=options) as library:
                return library.classify(pictures, labels, templates=templates, k=k, model=model)
        except ModelMismatchError:
            if index is not None or model is None:
                raise
    return classify_alone(pictures, labels, templates=templates, k=k, model=model, options=options)


def _write_classes(result: ClassifyResult, *, json: bool, csv: bool) -> None:
    from clipsearch.cli import render

    if json:
        output.write_json(render.classify_json(result))
    elif csv:
        output.write(render.classify_csv(result))
    elif output.to_terminal():
        output.write(render.classify_text(result))
    else:
        for path, label, probability in render.classify_rows(result):
            output.write_path(path, end=os.fsencode(f"\t{label}\t{probability}\n"))


def _plot(result: ClassifyResult, file: str, *, dark: bool) -> None:
    from clipsearch.plotting.classification import plot_classification

    shown = plot_classification(result, file, dark=dark)
    classified = sum(bool(item.predictions) for item in result.results)
    output.note(f"the plot is in {file}" + (f", {shown} of {classified} pictures" if shown < classified else ""))


def _outcome(result: ClassifyResult) -> int:
    """Say what could not be classified; the exit code."""
    from clipsearch.cli.render import reason_of

    for text in result.notices:
        output.note(text)
    failed = [item for item in result.results if item.reason is not None]
    for item in failed:
        output.error(f"{item.path}: {reason_of(item)}")
    if not result.results:
        output.note("no pictures there")
    if not failed:
        return 0
    return NONE_DONE if len(failed) == len(result.results) else SOME_FAILED
