"""`clipsearch query` and `clipsearch classify`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.cli import options, output, place

if TYPE_CHECKING:
    from clipsearch.encoders import EncoderOptions
    from clipsearch.types import ClassifyResult, QueryResult

SOME_FAILED = 3
NONE_DONE = 2

OPENED = 5
"""Pictures that --open shows at most."""


def query(
    *,
    words: Annotated[
        list[str], typer.Argument(metavar="WORDS...", help="What to look for, quoted or not; or one picture's path.")
    ],
    index: options.Index = None,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="How many pictures.")] = 10,
    text: Annotated[bool, typer.Option("--text", help="The words are words, even if a file has that name.")] = False,
    model: Annotated[
        str | None, typer.Option("--model", metavar="SPEC", help="Another model that the library holds.")
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help=f"Show the best ones, up to {OPENED}, in the desktop's viewer.")
    ] = False,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Neither use nor keep what earlier queries have learnt.")
    ] = False,
    json: options.Json = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a picture.")] = False,
    null: options.Null = False,
) -> int:
    """Find pictures by words, or by another picture.

    Prints a table on a terminal, and plain paths, best first, into a pipe or a file.
    """
    from clipsearch.errors import UsageError
    from clipsearch.library import Library

    if json + jsonl + null > 1:
        raise UsageError("--json, --jsonl and -0 exclude one another")
    term = _term(words, text=text)
    with Library.open(place.require_library(index)) as library:
        result = library.query(term, k=k, model=model, explain=json or jsonl, use_cache=not no_cache)
    if null or not (json or jsonl or output.to_terminal()):
        for hit in result.hits:
            output.write_path(hit.path, end=b"\0" if null else b"\n")
    else:
        _render(result, json=json, jsonl=jsonl)
    _note(result)
    if open_:
        from clipsearch.cli.viewer import show

        show([hit.path for hit in result.hits if not hit.offline][:OPENED])
    return 0


def _term(words: list[str], *, text: bool) -> str | Path:
    """What to look for: one text, or one picture where a single word names a file."""
    from clipsearch import images
    from clipsearch.errors import UsageError

    if text or len(words) != 1:
        return " ".join(words)
    word = words[0]
    path = os.path.expanduser(word)
    # Not by pathlib, which raises for a text that is too long to be a path.
    if os.path.isfile(path):
        output.note(f"looking for pictures like the file {word}; --text looks for the words")
        return Path(path)
    if os.path.splitext(path)[1].lower() in images.PICTURE_SUFFIXES:
        what = "not a regular file" if os.path.exists(path) else "no such file"
        raise UsageError(f"{word}: {what}; --text looks for the words")
    return word


def _render(result: QueryResult, *, json: bool, jsonl: bool) -> None:
    from clipsearch.cli import render

    if json:
        output.write_json(render.query_json(result))
    elif jsonl:
        for hit in result.hits:
            output.write_json(render.hit_json(hit), indent=None)
    else:
        output.write(render.query_text(result))


def _note(result: QueryResult) -> None:
    from clipsearch.library import FALLBACK_NOTICE

    for text in result.notices:
        # A script was told when the library was made.
        if output.is_terminal(sys.stderr) or not text.startswith(FALLBACK_NOTICE):
            output.note(text)
    weak = result.model.details.get("weak_below")
    if not result.hits:
        output.note("nothing found: the library holds no picture")
    elif weak is not None and result.kind == "cosine" and result.hits[0].score < weak:
        output.note(
            f"a weak match: the best score is {result.hits[0].score:.2f}, and right ones are mostly above {weak:.2f} "
            f"with {result.model.spec}"
        )


def classify(
    *,
    pictures: Annotated[list[str] | None, typer.Argument(metavar="IMAGES...", help="Pictures, or folders.")] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--labels",
            metavar="LABEL...",
            help='What to choose from: cat dog "red car", or cat,dog, or @FILE with one a line. '
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
    return _outcome(result)


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
