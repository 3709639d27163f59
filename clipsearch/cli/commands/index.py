"""`clipsearch index`."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.cli import options, output, place
from clipsearch.cli.exits import INTERRUPTED, SOME_FAILED

if TYPE_CHECKING:
    from clipsearch.encoders.base import EncoderOptions
    from clipsearch.indexing.results import IndexReport
    from clipsearch.indexing.run import RunOptions
    from clipsearch.library.int8 import Precision
    from clipsearch.library.library import Library


def index(
    *,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATHS]...", help="Folders and pictures. Without any: all that the library knows."),
    ] = None,
    index: options.Index = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="SPEC",
            help="The model of a new library (default: CLIP, or builtin offline); "
            "for one that is there, a model to fill beside the one that answers, until it takes over.",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            metavar="fp32|int8",
            help="Fill the model in 8 bits, two to three times as fast on a CPU, once it says how well that agrees "
            "on your pictures; or in full precision again.",
        ),
    ] = None,
    device: options.Device = "auto",
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=0, help="Pictures encoded together; 0 chooses.")
    ] = 0,
    threads: Annotated[
        int, typer.Option("--threads", metavar="N", min=0, help="Threads that decode; 0 is one a core.")
    ] = 0,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            metavar="GLOB",
            help="Leave out names that match, or with a slash paths below the folder; repeatable. Kept.",
        ),
    ] = None,
    no_exclude: Annotated[bool, typer.Option("--no-exclude", help="Forget the exclusions of earlier runs.")] = False,
    hidden: Annotated[
        bool | None,
        typer.Option("--hidden/--no-hidden", help="Take names that begin with a dot too. Kept.", show_default=False),
    ] = None,
    follow_symlinks: Annotated[
        bool | None,
        typer.Option("--follow-symlinks/--no-follow-symlinks", help="Follow links. Kept.", show_default=False),
    ] = None,
    files_from: Annotated[
        str | None, typer.Option("--files-from", metavar="FILE", help="Also the paths in FILE, one a line; - is stdin.")
    ] = None,
    null: Annotated[
        bool, typer.Option("-0", "--null", help="The paths of --files-from end with a zero byte instead.")
    ] = False,
    max_pixels: Annotated[
        float,
        typer.Option("--max-pixels", metavar="MP", min=0.01, help="Megapixels that may be decoded for one picture."),
    ] = 64,
    rehash: Annotated[bool, typer.Option("--rehash", help="Read every file, even if its date is unchanged.")] = False,
    switch: Annotated[
        bool, typer.Option("--switch", help="Change to the model being filled without files that are offline.")
    ] = False,
    engine: Annotated[
        str | None,
        typer.Option("--engine", metavar="NAME", help="How to search: exact, ivf, or auto, which goes by size. Kept."),
    ] = None,
    tiles: Annotated[
        str | None,
        typer.Option(
            "--tiles",
            metavar="none|auto|all",
            help="Look at parts of pictures by themselves, too: auto for panoramas, all for every picture. Kept.",
        ),
    ] = None,
    arch: options.Arch = None,
    trust_checkpoint: options.Trust = False,
    wait: options.Wait = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be read.")] = False,
    json: options.Json = False,
) -> int:
    """Make a library of folders of photos, or bring it up to date.

    Only what changed since the last run is read. Ctrl-C keeps what is done, and the next run goes on.
    """
    from clipsearch.encoders.base import EncoderOptions
    from clipsearch.encoders.specs import INT8_SUFFIX
    from clipsearch.errors import UsageError
    from clipsearch.images.tiles import MODES
    from clipsearch.indexing.roots import GivenOptions
    from clipsearch.indexing.run import RunOptions
    from clipsearch.library.library import Library
    from clipsearch.vectors.engines import check_choice

    if not math.isfinite(max_pixels):
        raise UsageError(f"--max-pixels {max_pixels:g}: give a number of megapixels")
    if engine is not None:
        check_choice(engine)
    if tiles not in (None, *MODES):
        raise UsageError(f"--tiles {tiles}: none, auto, or all")
    if precision not in (None, "fp32", "int8"):
        raise UsageError(f"--precision {precision}: fp32 or int8")
    if model is not None and precision is None and model.endswith(INT8_SUFFIX):
        model, precision = model.removesuffix(INT8_SUFFIX), "int8"
    run = RunOptions(
        given=GivenOptions(
            exclude=tuple(exclude or ()) if exclude or no_exclude else None,
            hidden=hidden,
            follow_symlinks=follow_symlinks,
        ),
        threads=threads,
        batch_size=batch_size,
        max_pixels=round(max_pixels * 1e6),
        rehash=rehash,
        switch=switch,
        engine=engine,
        tiles=tiles,
    )
    encoder_options = EncoderOptions(device=device, arch=arch, trust_checkpoint=trust_checkpoint)
    wanted, gone = _wanted(paths or [], files_from, null=null)
    if wanted is None:
        output.note(f"--files-from {files_from}: nothing in the list is there, nothing to do")
        return SOME_FAILED if gone else 0
    folder = place.place_for_index(index)
    library = Library(folder, encoder_options)
    if not library.exists and not dry_run:
        made = _made(folder, wanted, model, precision, encoder_options, wait=wait)
        if made is not None:
            library, model = made, None
    with library:
        report = _indexed(
            library,
            wanted,
            model,
            precision,  # type: ignore[arg-type]
            run,
            wait=wait,
            dry_run=dry_run,
        )
    code = _told(report, json=json)
    return code or (SOME_FAILED if gone else 0)


def _wanted(paths: list[str], files_from: str | None, *, null: bool) -> tuple[list[str] | None, int]:
    """All paths that were named (None where the list is empty, and nothing else was), and how many listed are gone."""
    from clipsearch.cli.arguments import standard_input
    from clipsearch.errors import UsageError, reason

    if files_from is None:
        if null:
            raise UsageError("-0 is about the list of --files-from, which is not given")
        return paths, 0
    try:
        if files_from == "-":
            data = standard_input()
        else:
            with open(files_from, "rb") as file:
                data = file.read()
    except OSError as exc:
        raise UsageError(f"--files-from {files_from}: {reason(exc)}") from exc
    listed = [os.fsdecode(name) for name in data.split(b"\0" if null else b"\n") if name]
    gone = [name for name in listed if not os.path.exists(os.path.expanduser(name))]
    for name in gone:
        output.error(f"{name}: no such file or directory")
    missing = set(gone)
    return [*paths, *(name for name in listed if name not in missing)] or None, len(gone)


def _made(
    folder: os.PathLike[str],
    wanted: list[str],
    model: str | None,
    precision: str | None,
    options: EncoderOptions,
    *,
    wait: bool,
) -> Library | None:
    """A new library, once the paths are known to be right; None where another run made one meanwhile."""
    from clipsearch.errors import LockedError, UsageError, reason
    from clipsearch.library.library import Library

    if not wanted:
        raise UsageError(f"no library in {os.fspath(folder)} yet; name what to index: clipsearch index FOLDER")
    for path in wanted:
        try:
            os.stat(os.path.expanduser(path))
        except OSError as exc:
            raise UsageError(f"{path}: {reason(exc)}") from exc
    while True:
        try:
            library = Library.create(folder, model=model, precision=precision, options=options)  # type: ignore[arg-type]
        except (LockedError, UsageError) as exc:
            if Library(folder).exists and (wait or isinstance(exc, UsageError)):
                return None
            if not (wait and isinstance(exc, LockedError)):
                raise
            time.sleep(0.2)
        else:
            _say_model(library)
            return library


def _say_model(library: Library) -> None:
    info = library.info()
    if info.fallback:
        output.warn(
            f"the default CLIP model is not cached, and {info.fallback}.\n"
            "The built-in encoder is used instead. It is NOT CLIP: it finds everyday objects and scenes, "
            "and cannot read colours, counts, people or relations.\n"
            "With a network, this changes to CLIP: clipsearch index --model default"
        )
    else:
        output.say(f"new library in {library.path}, with the model {info.encoders[0].info.spec}")


def _indexed(
    library: Library,
    wanted: list[str],
    model: str | None,
    precision: Precision | None,
    run: RunOptions,
    *,
    wait: bool,
    dry_run: bool,
) -> IndexReport:
    from clipsearch.cli.progress import Bar, Stopper
    from clipsearch.errors import LockedError

    with Stopper() as stopper, Bar() as bar:
        try:
            return library.index(
                wanted,
                model=model,
                precision=precision,
                run=run,
                wait=wait,
                dry_run=dry_run,
                progress=bar.show,
                say=bar.note,
                stop=stopper.asked,
            )
        except LockedError:
            if stopper.asked():
                raise KeyboardInterrupt from None
            raise


def _told(report: IndexReport, *, json: bool) -> int:
    from clipsearch.cli.render.runs import index_json, index_text

    if json:
        output.write_json(index_json(report))
    else:
        output.write(index_text(report))
    for text in report.notices:
        output.note(text)
    if report.interrupted:
        output.note("stopped early; what is done is kept, and clipsearch index goes on")
        return INTERRUPTED
    return SOME_FAILED if report.failed else 0
