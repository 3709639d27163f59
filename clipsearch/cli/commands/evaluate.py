"""`clipsearch eval`: how well models, and the engines of a library, do on one's own pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from clipsearch.cli import options, output, place
from clipsearch.cli.exits import INTERRUPTED, SOME_FAILED

if TYPE_CHECKING:
    from clipsearch.evaluate import Missed, Workplace
    from clipsearch.evaluate.results import Scored
    from clipsearch.types import Problem


SHOWN_MISSED = 10

Found = TypeVar("Found")
One = TypeVar("One", bound="Scored")

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="SPEC",
        help="A model to measure; repeatable, for several side by side. Else the library's own, or the default one.",
    ),
]
Sample = Annotated[
    int | None, typer.Option("--sample", metavar="N", min=2, help="Look at N pictures only, the same in every run.")
]

app = typer.Typer(rich_markup_mode=None)


@app.callback()
def evaluate() -> None:
    """Measure how well models do on pictures of your own.

    Several --model stand side by side in one table, so that a model can be compared on 200 pictures before a library
    is encoded anew. Vectors that a library holds are taken from there, all others are kept: a second run encodes
    nothing. Figures come with their 95 % intervals.
    """


@app.command("classify")
def classify(
    *,
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder with a folder of pictures for each label.")],
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--labels",
            metavar="@FILE",
            help="The labels, as for classify, synonyms included. Folders are matched by any of their words; where "
            "none is named like a label, in their order. Without it, folder names are the labels, with _ read as a "
            "blank.",
        ),
    ] = None,
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
    """Say how often pictures get their label.

    Top-1 and top-5 accuracy, the mean of the labels' accuracies, and the expected calibration error: how far the
    probabilities lie from the shares that are right. --plot draws two files for each model, FILE-confusion and
    FILE-reliability.
    """
    from clipsearch.cli.labels import read_labels, read_templates
    from clipsearch.cli.render import evaluation, plots
    from clipsearch.evaluate import classify as measured
    from clipsearch.evaluate import folder_per_class

    plots.check(plot, plots.PARTS)
    library = place.find_library(index)
    pictures = folder_per_class(folder, read_labels(labels or [], library)).sample(sample)
    found = _run(
        lambda work: measured(pictures, models=model or (), templates=read_templates(template or []), place=work),
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
        more=pictures.notice,
        unreadable=pictures.unreadable,
    )


@app.command("retrieval")
def retrieval(
    *,
    captions: Annotated[
        str,
        typer.Argument(
            metavar="CAPTIONS",
            help="CSV, TSV or JSON lines with path and caption, or a file as COCO, Flickr8k or Flickr30k have it.",
        ),
    ],
    images: Annotated[
        str | None,
        typer.Option("--images", metavar="DIR", help="Where the paths start. Else the folder of CAPTIONS."),
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
    """Say how often captions find their pictures.

    R@1, R@5 and R@10 in both directions, from captions to pictures and back, mean average precision, and the median
    rank of what is right. A picture may have several captions.
    """
    from clipsearch.cli.render import evaluation, plots
    from clipsearch.errors import UsageError
    from clipsearch.evaluate import read_captions, retrieve

    plots.check(plot)
    whole = read_captions(captions, images=images)
    if not any(os.path.lexists(path) for path in whole.paths):
        first = os.fsdecode(whole.paths[0])
        raise UsageError(
            f"{captions}: none of its {len(whole.paths)} pictures is there, {first} for one; --images DIR says where"
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
    pictures: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PICTURES]...", help="Pictures, or folders. Without any: those of the library."),
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
    """Say how often altered copies are recognised.

    That needs no labels: each picture is cropped, flipped, recompressed and darkened, and each copy looked up among
    the pictures.
    """
    from clipsearch.cli.render import evaluation, plots
    from clipsearch.evaluate import find_again as measured
    from clipsearch.evaluate import library_pictures
    from clipsearch.evaluate.datasets import pictures_of, sampled

    plots.check(plot)
    shut: list[Problem] = []
    if pictures:
        library, paths = place.find_library(index), pictures_of(pictures, problems=shut)
    else:
        library = place.require_library(index)
        paths = library_pictures(library)
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
        typer.Option("--model", metavar="SPEC", help="A model that the library holds; repeatable. Else its own."),
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option("--engine", metavar="NAME", help="Only this one: exact or ivf; repeatable.")
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="How many neighbours count.")] = 10,
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", min=1, help="Ask with N pictures, and with N prompts.")
    ] = 200,
    json: options.Json = False,
) -> int:
    """Say how exact and how fast a library's search is.

    The share of the true neighbours that each finds, and the median and the 95th percentile of the time of one query.
    An engine that the library does not use is built for it, and removed again.
    """
    from clipsearch.cli.render import evaluation
    from clipsearch.errors import UsageError
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
    """Do it with `library`, where there is one; None where it was stopped."""
    from clipsearch.cli.progress import Bar, Stopper
    from clipsearch.encoders.base import EncoderOptions
    from clipsearch.errors import StoppedError
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
    draw: Callable[[Sequence[One], str], None],
    plot: str | None,
    *,
    more: str | None = None,
    unreadable: Sequence[Problem] = (),
) -> int:
    """Write the figures, draw them where that was asked, and say what should be known beside them; the exit code."""
    if found is None:
        return INTERRUPTED
    _write(found, render)
    if plot is not None:
        draw(found, plot)
    return _told(found, more=[more] if more else [], unreadable=unreadable)


def _told(found: Sequence[Scored], *, more: Sequence[str] = (), unreadable: Sequence[Problem] = ()) -> int:
    """Say what should be known beside the figures; the exit code."""
    from clipsearch.cli.render.tables import counted

    for text in dict.fromkeys([*more, *(text for one in found for text in one.notices)]):
        output.note(text)
    for folder in unreadable:
        output.error(f"{folder.path}: {folder.reason}")
    missed: dict[str, Missed] = {each.path: each for one in found for each in one.missed}
    for each in list(missed.values())[:SHOWN_MISSED]:
        output.error(f"{each.path}: {each.reason}")
    if len(missed) > SHOWN_MISSED:
        output.error(f"and {counted(len(missed) - SHOWN_MISSED, 'more picture')}; --json lists them all")
    return SOME_FAILED if missed or unreadable else 0
