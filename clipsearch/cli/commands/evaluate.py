"""`clipsearch eval`: measure models and a library's engines on your own pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from clipsearch.cli import completion, options, output, place
from clipsearch.cli.exits import INTERRUPTED, SOME_FAILED
from clipsearch.cli.options import flag, value
from clipsearch.cli.render.tables import counted
from clipsearch.errors import StoppedError, UsageError

if TYPE_CHECKING:
    from clipsearch.evaluate import Workplace
    from clipsearch.evaluate.results import Scored
    from clipsearch.indexing.results import Problem


SHOWN_MISSED = 10

Found = TypeVar("Found")
One = TypeVar("One", bound="Scored")

Labels = Annotated[
    list[str] | None,
    value(
        "--labels",
        "@FILE",
        "The labels with synonyms, as for classify. A folder matches a label by its name or a synonym; if no "
        "folder does, by their order. Default: the names of the folders, with _ read as a space.",
        completion.labels,
    ),
]
Models = Annotated[
    list[str] | None,
    value(
        "--model",
        "SPEC",
        "A model to measure; repeatable, to compare several. Default: the library's, then that of a new library.",
        completion.models,
    ),
]
Sample = Annotated[int | None, value("--sample", "N", "Use only N pictures, the same ones in every run.", min=2)]

app = typer.Typer(rich_markup_mode=None)


@app.callback()
def evaluate() -> None:
    """Measure how well models work on your own pictures.

    Several --model options give one table, so that you can compare a model on 200 pictures before you re-encode a
    library. Existing vectors of a library are used, and new ones are stored: a second run encodes nothing. Figures have
    95 % confidence intervals.
    """


@app.command("classify")
def classify(
    *,
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="A folder that contains one folder of pictures per label.")
    ],
    labels: Labels = None,
    template: options.Template = None,
    index: options.Index = None,
    model: Models = None,
    sample: Sample = None,
    device: options.Device = "auto",
    arch: options.Arch = None,
    trust_checkpoint: options.Trust = False,
    plot: options.Plot = None,
    dark: options.Dark = False,
    json: options.Json = False,
) -> int:
    """Measure zero-shot accuracy.

    Reports top-1 and top-5 accuracy, mean per-class accuracy, and expected calibration error: how far the probabilities
    are from the share of correct labels. --plot writes two files per model, FILE-confusion and FILE-reliability.
    """
    from clipsearch.cli.labels import read_labels, read_templates
    from clipsearch.cli.render import evaluation, plots
    from clipsearch.evaluate import classify as measured
    from clipsearch.evaluate import folder_per_class

    plots.check(plot, plots.PARTS)
    library = place.find_library(index)
    images = folder_per_class(folder, read_labels(labels or [], library)).sample(sample)
    found = _run(
        lambda work: measured(images, models=model or (), templates=read_templates(template or []), place=work),
        library,
        device=device,
        arch=arch,
        trust=trust_checkpoint,
    )
    render = evaluation.classification_json if json else evaluation.classification_text
    return _finish(
        found,
        render,
        partial(plots.classifications, dark=dark),
        plot,
        notice=images.notice,
        unreadable=images.unreadable,
    )


@app.command("relevance")
def relevance(
    *,
    folder: Annotated[
        str | None, typer.Argument(metavar="[DIR]", help="A folder that contains one folder of pictures per label.")
    ] = None,
    labels: Labels = None,
    template: options.Template = None,
    fit: Annotated[
        bool, flag("--fit", "Choose the constants that work best on these pictures, and store them with the library.")
    ] = False,
    reset: Annotated[bool, flag("--reset", "Go back to the built-in constants. Needs no DIR.")] = False,
    index: options.Index = None,
    model: Models = None,
    sample: Sample = None,
    device: options.Device = "auto",
    arch: options.Arch = None,
    trust_checkpoint: options.Trust = False,
    json: options.Json = False,
) -> int:
    """Measure what --relevant and --unknown return.

    Treats the pictures of all labels as one library, and runs each label as a query. Reports recall, precision and F1
    of `query --relevant`, how often it returns anything for labels whose pictures were left out and for random letters,
    and what `classify --unknown` keeps and detects.
    --fit adapts both to the model and to your pictures: from then on, `query --relevant`, and `classify --unknown`
    without --margin, use the constants chosen here.
    """
    from clipsearch.cli.labels import read_labels, read_templates
    from clipsearch.cli.render.relevance import relevance_json, relevance_text
    from clipsearch.evaluate import folder_per_class, forget_fits, measure_relevance, store_fit

    if reset:
        if folder is not None or fit:
            raise UsageError("--reset measures nothing: leave out DIR and --fit")
        count = forget_fits(place.require_library(index))
        output.note("the built-in constants are in use again" if count else "no constants were fitted for this library")
        return 0
    if folder is None:
        raise UsageError("missing argument DIR: a folder that contains one folder of pictures per label")
    if fit and len(model or ()) > 1:
        raise UsageError("--fit takes a single --model, the one that your queries use")
    library = place.require_library(index) if fit else place.find_library(index)
    images = folder_per_class(folder, read_labels(labels or [], library)).sample(sample)
    filled = read_templates(template or [])
    found = _run(
        lambda work: measure_relevance(images, models=model or (), templates=filled, fit=fit, place=work),
        library,
        device=device,
        arch=arch,
        trust=trust_checkpoint,
    )
    if found is not None and fit and library is not None:
        store_fit(library, found[0])
    render = relevance_json if json else relevance_text
    return _finish(found, render, notice=images.notice, unreadable=images.unreadable)


@app.command("retrieval")
def retrieval(
    *,
    captions: Annotated[
        str,
        typer.Argument(
            metavar="CAPTIONS",
            help="CSV, TSV or JSON lines with path and caption, or captions as COCO, Flickr8k or Flickr30k have them.",
        ),
    ],
    images: Annotated[
        str | None, value("--images", "DIR", "The folder that the paths are relative to. Default: that of CAPTIONS.")
    ] = None,
    index: options.Index = None,
    model: Models = None,
    sample: Sample = None,
    device: options.Device = "auto",
    arch: options.Arch = None,
    trust_checkpoint: options.Trust = False,
    plot: options.Plot = None,
    dark: options.Dark = False,
    json: options.Json = False,
) -> int:
    """Measure text–image retrieval.

    Reports recall (R@1, R@5, R@10), mean average precision and median rank in both directions, from captions to
    pictures and back. A picture may have several captions.
    """
    from clipsearch.cli.render import evaluation, plots
    from clipsearch.evaluate import read_captions, retrieve

    plots.check(plot)
    whole = read_captions(captions, images=images)
    if not any(os.path.lexists(path) for path in whole.paths):
        first = os.fsdecode(whole.paths[0])
        raise UsageError(
            f"{captions}: none of its {len(whole.paths)} pictures exists, such as {first}; set their folder: --images"
        )
    found = _run(
        lambda work: retrieve(whole.sample(sample), models=model or (), place=work),
        place.find_library(index),
        device=device,
        arch=arch,
        trust=trust_checkpoint,
    )
    render = evaluation.retrieval_json if json else evaluation.retrieval_text
    return _finish(found, render, partial(plots.retrievals, dark=dark), plot)


@app.command("self")
def find_again(
    *,
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PICTURES]...", help="Pictures or folders. Default: the whole library."),
    ] = None,
    index: options.Index = None,
    model: Models = None,
    sample: Sample = None,
    device: options.Device = "auto",
    arch: options.Arch = None,
    trust_checkpoint: options.Trust = False,
    plot: options.Plot = None,
    dark: options.Dark = False,
    json: options.Json = False,
) -> int:
    """Measure how often altered copies are recognised.

    Needs no labels: each picture is cropped, flipped, recompressed and darkened, and each copy is looked up among the
    pictures.
    """
    from clipsearch.cli.render import evaluation, plots
    from clipsearch.evaluate import find_again as measured
    from clipsearch.evaluate import library_images
    from clipsearch.evaluate.datasets import images_of, sampled

    plots.check(plot)
    shut: list[Problem] = []
    if images:
        library, paths = place.find_library(index), images_of(images, problems=shut)
    else:
        library = place.require_library(index)
        paths = library_images(library)
    found = _run(
        lambda work: measured(sampled(paths, sample), models=model or (), place=work),
        library,
        device=device,
        arch=arch,
        trust=trust_checkpoint,
    )
    render = evaluation.self_json if json else evaluation.self_text
    return _finish(found, render, partial(plots.copies, dark=dark), plot, unreadable=shut)


@app.command("index")
def engines(
    *,
    index: options.Index = None,
    model: Annotated[
        list[str] | None,
        value(
            "--model", "SPEC", "A model in the library; repeatable. Default: the active one.", completion.library_models
        ),
    ] = None,
    engine: Annotated[
        list[str] | None, value("--engine", "NAME", "Only this engine: exact or ivf; repeatable.", completion.engines)
    ] = None,
    k: Annotated[int, value("-k", "N", "Number of neighbours.", min=1)] = 10,
    sample: Annotated[int, value("--sample", "N", "Use N pictures and N prompts as queries.", min=1)] = 200,
    json: options.Json = False,
) -> int:
    """Measure how exact and how fast a library's search is.

    Reports the share of the true neighbours that each engine finds, and the median and the 95th percentile of the time
    per query. An engine that the library does not use is built for the test, then removed.
    """
    from clipsearch.cli.render import evaluation
    from clipsearch.evaluate import measure_engines
    from clipsearch.vectors.engines import names

    for name in engine or ():
        if name not in names():
            raise UsageError(f"--engine {name}: must be one of {', '.join(names())}")
    library = place.require_library(index)
    chosen = [name for name in names() if not engine or name in engine]
    found = _run(
        lambda work: measure_engines(library, models=model or (), engines=chosen, k=k, queries=sample, place=work),
        library,
    )
    if found is None:
        return INTERRUPTED
    _write(found, evaluation.engines_json if json else evaluation.engines_text)
    return 0


def _run(
    work: Callable[[Workplace], Found],
    library: Path | None,
    *,
    device: str = "auto",
    arch: str | None = None,
    trust: bool = False,
) -> Found | None:
    """Run an evaluation with a library or without; None where it was stopped."""
    from clipsearch.cli.progress import Bar, Stopper
    from clipsearch.encoders.base import EncoderOptions
    from clipsearch.evaluate import Workplace

    with Stopper() as stopper, Bar() as bar:
        workplace = Workplace(
            library,
            EncoderOptions(device=device, arch=arch, trust_checkpoint=trust),
            bar.show,
            stopper.asked,
        )
        try:
            return work(workplace)
        except StoppedError as exc:
            bar.note(str(exc))
            return None


def _write(found: Found, render: Callable[[Found], str | dict[str, Any]]) -> None:
    text = render(found)
    if isinstance(text, str):
        output.write(text)
    else:
        output.write_json(text)


def _finish(
    found: Sequence[One] | None,
    render: Callable[[Sequence[One]], str | dict[str, Any]],
    draw: Callable[[Sequence[One], str], None] | None = None,
    plot: str | None = None,
    *,
    notice: str | None = None,
    unreadable: Sequence[Problem] = (),
) -> int:
    """Write and plot the figures, and report notices and unreadable files; the exit code."""
    if found is None:
        return INTERRUPTED
    _write(found, render)
    if draw is not None and plot is not None:
        draw(found, plot)
    for text in dict.fromkeys([notice, *(text for one in found for text in one.notices)]):
        if text is not None:
            output.note(text)
    missed = {each.path: each.reason for one in found for each in one.missed}
    for path, reason in [*((each.path, each.reason) for each in unreadable), *list(missed.items())[:SHOWN_MISSED]]:
        output.error(f"{path}: {reason}")
    if len(missed) > SHOWN_MISSED:
        output.error(f"and {counted(len(missed) - SHOWN_MISSED, 'more picture')}; --json lists them all")
    return SOME_FAILED if missed or unreadable else 0
