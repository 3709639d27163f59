"""`clipsearch classify`: its options, and the output in each form."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.cli import completion, options, output, place
from clipsearch.cli.exits import NONE_DONE, SOME_FAILED
from clipsearch.cli.options import Texts, flag, value
from clipsearch.errors import UsageError
from clipsearch.files import expanded

if TYPE_CHECKING:
    from clipsearch.catalog.filters import Filter
    from clipsearch.classify.classifier import Classifier
    from clipsearch.classify.labels import Label
    from clipsearch.classify.options import ClassifyOptions
    from clipsearch.classify.prototypes import Report, Step
    from clipsearch.classify.results import ClassifyResult
    from clipsearch.encoders.base import EncoderOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the command line asks for."""

    pictures: list[str] | None
    labels: list[Label]
    examples: str | None
    blend: float | None
    save: str | None
    use: str | None
    replace: bool
    where: Filter | None
    options: EncoderOptions
    choice: ClassifyOptions


def classify(
    context: typer.Context,
    *,
    images: Annotated[
        Texts, typer.Argument(metavar="[IMAGES]...", help="Pictures or folders. Default: the whole library.")
    ] = None,
    labels: Annotated[
        Texts,
        value(
            "--labels",
            "LABEL...",
            'Labels to choose from: cat dog "red car", or cat,dog, or with synonyms "red: crimson, scarlet", '
            "or @FILE with one per line (# begins a comment; \\: and \\# are the characters themselves), "
            "or @NAME of a saved set, or @imagenet. "
            "Everything up to the next option is a label, so pictures come first.",
            completion.labels,
        ),
    ] = None,
    template: options.Template = None,
    multi: Annotated[bool, flag("--multi", "Judge each label separately, and print those above --threshold.")] = False,
    threshold: Annotated[
        float | None, value("--threshold", "P", "Lowest probability for --multi (default 0.5).")
    ] = None,
    unknown: Annotated[bool, flag("--unknown", "Print unknown where no label stands out from unrelated ones.")] = False,
    margin: Annotated[
        float | None, value("--margin", "X", "Standard deviations that --unknown requires (default: as fitted, or 2).")
    ] = None,
    examples: Annotated[
        str | None, value("--examples", "DIR", "Learn from a few pictures per class, in one folder each.")
    ] = None,
    blend: Annotated[
        float | None,
        value(
            "--blend",
            "SHARE",
            "Weight of the examples against the prompts, 0 to 1. Default: the one that best predicts the "
            "examples (lowest log-loss, leave-one-out).",
        ),
    ] = None,
    save: Annotated[str | None, value("--save", "NAME", "Save the classifier; without IMAGES, only that.")] = None,
    replace: Annotated[bool, flag("--replace", "Let --save replace a classifier of that name.")] = False,
    use: Annotated[str | None, value("--use", "NAME", "Use a saved classifier.", completion.classifiers)] = None,
    in_: options.In = None,
    explain: Annotated[
        bool, flag("--explain", "Add the best-matching prompt and each label's nearest pictures.")
    ] = False,
    index: options.Index = None,
    k: Annotated[int | None, value("-k", "N", "Labels per picture (default 5; with --multi, all).", min=1)] = None,
    model: options.Model = None,
    device: options.Device = "auto",
    arch: options.Arch = None,
    trust_checkpoint: options.Trust = False,
    copy_to: Annotated[
        str | None,
        value("--copy-to", "FOLDER", "Copy the pictures there, into one folder per label.", callback=options.folder),
    ] = None,
    link_to: options.LinkTo = None,
    json: options.Json = False,
    jsonl: options.JsonLines = False,
    csv: Annotated[bool, flag("--csv", "Print path, label, probability and score as CSV.")] = False,
    plot: options.Plot = None,
    dark: options.Dark = False,
) -> int:
    """Choose the best of your labels for each picture.

    Works without a library; with one, its pictures are neither opened nor encoded again.
    To a pipe, prints path, label and probability, separated by tabs.
    """
    from clipsearch.classify.options import ClassifyOptions
    from clipsearch.cli.commands import classify_checks
    from clipsearch.cli.labels import read_templates
    from clipsearch.encoders.base import EncoderOptions
    from clipsearch.search.filter_options import read_filter

    classify_checks.check(context)
    if images:  # Where the cores are busy, numpy's threads would wait for one another longer than they compute.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    target = None
    if plot is not None:
        from clipsearch.display.plots.file import check

        target = check(plot)
    library = place.find_library(index)
    asked = _Asked(
        pictures=images or None,
        labels=_labels(labels or [], images, library),
        examples=examples,
        blend=blend,
        save=save,
        use=use,
        replace=replace,
        where=read_filter(within=in_),
        options=EncoderOptions(device=device, arch=arch, trust_checkpoint=trust_checkpoint),
        choice=ClassifyOptions(
            k=k or (None if multi else 5),
            multi=multi,
            threshold=0.5 if threshold is None else threshold,
            unknown=unknown,
            margin=margin,
            explain=explain,
            templates=read_templates(template or []),
            model=model,
        ),
    )
    result, classifier = _answer(asked, library, named=index is not None)
    if result is None:
        return 0
    _write(result, classifier, json=json, jsonl=jsonl, csv=csv)
    if examples is not None:
        _note_fit(classifier)
    code = _outcome(result)
    if target is not None and code != NONE_DONE:
        _plot(result, target, dark=dark)
    return max(code, _sort_out(result, copy_to, link_to))


# What is asked


def _labels(values: list[str], images: Texts, library: Path | None) -> list[Label]:
    from clipsearch.cli.labels import images_among, read_labels

    for name in images_among(values):
        output.note(f"the label {name} is also the name of a picture here; pictures come before --labels")
        if not images:
            raise UsageError("no picture to classify; pictures come before --labels")
    return read_labels(values, library)


# The answer


def _answer(asked: _Asked, folder: Path | None, *, named: bool) -> tuple[ClassifyResult | None, Classifier | None]:
    """With the library if there is one; no result where the classifier is only saved."""
    from clipsearch.images.workers import shared

    if folder is None and asked.pictures is not None:
        shared().warm_up()  # While the model is loaded; a library may know the pictures.

    from clipsearch.classify.run import classify_alone
    from clipsearch.cli.progress import Counter
    from clipsearch.errors import ModelMismatchError, NoLibraryError

    with Counter() as counter:

        def progress(step: Step) -> None:
            counter.show(step.stage, step.done, step.total)

        if folder is not None:
            try:
                return _with_library(asked, folder, progress)
            except ModelMismatchError:
                needs_it = asked.pictures is None or asked.use is not None or asked.save is not None
                if named or asked.choice.model is None or needs_it:
                    raise
        for option, value in (("--use", asked.use), ("--save", asked.save), ("--in", asked.where)):
            if value:
                raise NoLibraryError(
                    f"{option} needs a library, and there is none here; `clipsearch index FOLDER` creates one"
                )
        if asked.pictures is None:
            raise UsageError("no picture to classify, and no library here; pictures come before --labels")
        result, classifier = classify_alone(
            asked.pictures,
            asked.labels,
            options=asked.choice,
            examples=asked.examples,
            blend=asked.blend,
            load=asked.options,
            progress=progress,
        )
        return result, classifier


def _with_library(asked: _Asked, folder: Path, progress: Report) -> tuple[ClassifyResult | None, Classifier | None]:
    from clipsearch.classify import store
    from clipsearch.library.library import Library

    with Library.open(folder, options=asked.options) as library:
        if asked.save is not None:
            store.classifiers(folder).check_free(asked.save, replace=asked.replace)  # Before minutes of encoding.
        if asked.use is not None:
            classifier = library.saved_classifier(asked.use, model=asked.choice.model)
        else:
            classifier = library.make_classifier(
                asked.labels,
                examples=asked.examples,
                blend=asked.blend,
                templates=asked.choice.templates,
                model=asked.choice.model,
                progress=progress,
            )
        if asked.save is not None:
            path = store.save_classifier(folder, asked.save, classifier, replace=asked.replace)
            output.note(f"saved the classifier {asked.save} in {path}")
            if asked.pictures is None and asked.where is None:
                _note_fit(classifier)
                for text in classifier.notices:
                    output.note(text)
                return None, classifier
        result = library.classify(
            asked.pictures, where=asked.where, options=asked.choice, classifier=classifier, progress=progress
        )
        return result, classifier


def _note_fit(classifier: Classifier | None) -> None:
    from clipsearch.cli.render import classification

    if classifier is not None and classifier.fit is not None:
        output.note(classification.fit_text(classifier, classifier.fit))


# What comes back


def _write(result: ClassifyResult, classifier: Classifier | None, *, json: bool, jsonl: bool, csv: bool) -> None:
    from clipsearch.cli.render import classification
    from clipsearch.export.json_reports import classify_json, item_json

    if json:
        output.write_json(classify_json(result, classifier))
    elif jsonl:
        for item in result.results:
            output.write_json(item_json(item), indent=None)
    elif csv:
        output.write_foreign(classification.csv(result))
    elif output.to_terminal():
        output.write(classification.text(result))
        if len(result.results) > classification.FEW_ROWS:
            output.say(classification.summary(result))
    else:
        for path, label, probability, _ in classification.rows(result):
            output.write_path(path, end=f"\t{label}\t{probability[:6]}\n".encode("utf-8", "surrogateescape"))


def _plot(result: ClassifyResult, file: Path, *, dark: bool) -> None:
    from clipsearch.display.plots.classification import plot_classification

    shown = plot_classification(result, file, dark=dark)
    classified = sum(item.reason is None for item in result.results)
    output.note(f"wrote the plot to {file}" + (f", {shown} of {classified} pictures" if shown < classified else ""))


def _outcome(result: ClassifyResult) -> int:
    """Report what could not be classified; the exit code."""
    from clipsearch.cli.render.tables import counted

    for text in result.notices:
        output.note(text)
    failed = [item for item in result.results if item.reason is not None]
    for item in failed:
        output.error(f"{item.path}: {item.reason}")
    if not result.results:
        output.note("no pictures found")
    none = sum(item.reason is None and not item.predictions for item in result.results)
    if none and not output.to_terminal():
        has = "has" if none == 1 else "have"
        output.note(f"{none:,} of {counted(len(result.results), 'picture')} {has} none of the labels")
    if not failed:
        return 0
    return NONE_DONE if len(failed) == len(result.results) else SOME_FAILED


def _sort_out(result: ClassifyResult, copy_to: str | None, link_to: str | None) -> int:
    """Copy or link the pictures into one folder per label; the exit code."""
    from clipsearch.export.folders import export_folders

    code = 0
    for folder, link in ((copy_to, False), (link_to, True)):
        if folder is None:
            continue
        done = export_folders(result, expanded(folder), link=link)
        for problem in done.failed:
            output.error(f"{problem.path}: {problem.reason}")
        new = sum(done.counts.values()) - done.existed
        labels = f"{len(done.counts)} {'folder' if len(done.counts) == 1 else 'folders'}"
        verb = "linked" if link else "copied"
        output.note(f"{new} {verb} to {labels} in {folder}, {done.existed} already there")
        code = SOME_FAILED if done.failed else code
    return code
