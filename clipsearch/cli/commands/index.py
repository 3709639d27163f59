"""`clipsearch index`: its options, and creating a library on the first run."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.cli import completion, options, output, place
from clipsearch.cli.arguments import read_bytes
from clipsearch.cli.exits import INTERRUPTED, SOME_FAILED
from clipsearch.cli.options import flag, value
from clipsearch.errors import LockedError, UsageError
from clipsearch.files import absolute
from clipsearch.images.limits import LEAST_MEMORY_BYTES, MEMORY_BYTES, SECONDS, Limits
from clipsearch.images.sniff import MAX_PIXELS
from clipsearch.images.tiles import Tiles
from clipsearch.types import MAX_INTEGER, Precision

if TYPE_CHECKING:
    from clipsearch.encoders.base import EncoderOptions
    from clipsearch.indexing.results import IndexReport
    from clipsearch.indexing.run import RunOptions
    from clipsearch.library.library import Library


def index(
    *,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATHS]...", help="Folders and pictures. Default: all that the library contains."),
    ] = None,
    index: options.Index = None,
    model: Annotated[
        str | None,
        value(
            "--model",
            "SPEC",
            "The model of a new library (default: CLIP, or builtin when offline). For an existing library: a "
            "model to build beside the active one, which it then replaces.",
            completion.models,
        ),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            "--precision",
            help="int8: encode in 8 bits, two to three times as fast on a CPU, after reporting how well the results "
            "agree on your pictures; fp32: back to full precision.",
        ),
    ] = None,
    device: options.Device = "auto",
    batch_size: Annotated[int, value("--batch-size", "N", "Pictures encoded together; 0: automatic.", min=0)] = 0,
    workers: Annotated[
        str, value("--workers", "N", "Decoder processes; 0: one per core; none: decode in the main process.")
    ] = "0",
    threads: Annotated[str | None, typer.Option("--threads", hidden=True)] = None,
    decode_timeout: Annotated[
        float,
        value("--decode-timeout", "S", "Give up a picture after so many seconds of CPU time.", min=0.1),
    ] = SECONDS,
    decode_memory: Annotated[
        float,
        value("--decode-memory", "GIB", "Memory limit of a decoder process, in GiB (0.25 or more); 0: none.", min=0),
    ] = MEMORY_BYTES / 2**30,
    exclude: Annotated[
        list[str] | None,
        value(
            "--exclude",
            "PATTERN",
            "Skip what matches, as in a .gitignore file; repeatable. Remembered for later runs.",
        ),
    ] = None,
    no_exclude: Annotated[bool, flag("--no-exclude", "Forget the exclusions of earlier runs.")] = False,
    hidden: Annotated[
        bool | None,
        flag(
            "--hidden/--no-hidden",
            "Include names that begin with a dot. Remembered for later runs.",
            show_default=False,
        ),
    ] = None,
    follow_symlinks: Annotated[
        bool | None,
        flag(
            "--follow-symlinks/--no-follow-symlinks",
            "Follow symbolic links. Remembered for later runs.",
            show_default=False,
        ),
    ] = None,
    all_files: Annotated[
        bool | None,
        flag(
            "--all-files/--no-all-files",
            "Find images by their content, whatever the file is called. Remembered for later runs.",
            show_default=False,
        ),
    ] = None,
    default_excludes: Annotated[
        bool | None,
        flag(
            "--default-excludes/--no-default-excludes",
            "Skip recycle bins, thumbnails, previews and system folders (the default). Remembered for later runs.",
            show_default=False,
        ),
    ] = None,
    ignore_files: Annotated[
        bool | None,
        flag(
            "--ignore-files/--no-ignore-files",
            "Skip folders with a .nomedia or .noimage file, and what .immichignore and .ppignore files exclude (the "
            "default). Remembered for later runs.",
            show_default=False,
        ),
    ] = None,
    files_from: Annotated[
        str | None, value("--files-from", "FILE", "Also index the paths in FILE, one per line (- for stdin).")
    ] = None,
    null: Annotated[
        bool, typer.Option("-0", "--null", help="The paths of --files-from end with a zero byte instead of a newline.")
    ] = False,
    max_pixels: Annotated[
        float, value("--max-pixels", "MP", "Largest picture to decode, in megapixels.", min=0.01)
    ] = MAX_PIXELS // 10**6,
    rehash: Annotated[bool, flag("--rehash", "Read every file, even if its date is unchanged.")] = False,
    switch: Annotated[bool, flag("--switch", "Activate the model being built, without offline files.")] = False,
    engine: Annotated[
        str | None,
        value(
            "--engine",
            "NAME",
            "How to search: exact, ivf, or auto (by the library's size). Remembered for later runs.",
            lambda: ["auto", *completion.engines()],
        ),
    ] = None,
    tiles: Annotated[
        Tiles | None,
        typer.Option(
            "--tiles",
            help="Also index parts of pictures separately: auto for panoramas, all for every picture. Remembered for "
            "later runs.",
        ),
    ] = None,
    arch: options.Arch = None,
    trust_checkpoint: options.Trust = False,
    wait: options.Wait = False,
    dry_run: Annotated[bool, flag("--dry-run", "Only show what would be read.")] = False,
    json: options.Json = False,
) -> int:
    """Create a library from folders of photos, or update it.

    Only what changed since the last run is read. Ctrl-C keeps what is done; the next run picks up where it left off.
    """
    for option, number, unit in (("--max-pixels", max_pixels, "megapixels"), ("--decode-memory", decode_memory, "GiB")):
        if not math.isfinite(number):
            raise UsageError(f"{option} {number:g}: must be a number of {unit}")
    if 0 < decode_memory < LEAST_MEMORY_BYTES / 2**30:
        raise UsageError(f"--decode-memory {decode_memory:g}: must be at least {LEAST_MEMORY_BYTES / 2**30:g}, or 0")
    from clipsearch.catalog.catalog import CATALOG_NAME, exists

    folder = place.place_for_index(index)
    limits = Limits(
        _count(workers if threads is None else threads),
        decode_timeout,
        round(min(decode_memory * 2**30, MAX_INTEGER // 4)),
    )
    if not dry_run and not exists(folder / CATALOG_NAME):
        from clipsearch.images.workers import shared

        shared(limits).warm_up(2)  # They start while the model is loaded; the others once there is enough work.

    from clipsearch.encoders.base import EncoderOptions
    from clipsearch.encoders.specs import INT8_SUFFIX
    from clipsearch.indexing.roots import GivenOptions
    from clipsearch.indexing.run import RunOptions
    from clipsearch.library.library import Library
    from clipsearch.vectors.engines import check_choice

    if engine is not None:
        check_choice(engine)
    if model is not None and precision is None and model.endswith(INT8_SUFFIX):
        model, precision = model.removesuffix(INT8_SUFFIX), "int8"
    run = RunOptions(
        given=GivenOptions(
            exclude=tuple(exclude or ()) if exclude or no_exclude else None,
            hidden=hidden,
            follow_symlinks=follow_symlinks,
            all_files=all_files,
            default_excludes=default_excludes,
            ignore_files=ignore_files,
        ),
        workers=limits.count,
        decode_timeout=limits.seconds,
        decode_memory=limits.memory,
        batch_size=batch_size,
        max_pixels=round(min(max_pixels * 1e6, MAX_INTEGER)),
        rehash=rehash,
        switch=switch,
        engine=engine,
        tiles=tiles,
    )
    encoder_options = EncoderOptions(device=device, arch=arch, trust_checkpoint=trust_checkpoint)
    wanted, gone = _wanted(paths or [], files_from, null=null)
    if wanted is None:
        output.note(f"--files-from {files_from}: none of the listed files exists; nothing to do")
        return SOME_FAILED if gone else 0
    library = Library(folder, encoder_options)
    if not library.exists and not dry_run:
        made = _made(folder, wanted, model, precision, run, encoder_options, wait=wait)
        if made is not None:
            library, model = made, None
    with library:
        report = _indexed(
            library,
            wanted,
            model,
            precision,
            run,
            wait=wait,
            dry_run=dry_run,
        )
    code = _report(report, json=json)
    return code or (SOME_FAILED if gone else 0)


def _count(workers: str) -> int | None:
    if workers.lower() == "none":
        return None
    if not workers.isdecimal():
        raise UsageError(f"--workers {workers}: a number, or none")
    return int(workers[:20])


def _wanted(paths: list[str], files_from: str | None, *, null: bool) -> tuple[list[str] | None, int]:
    """The paths that were given (None: only an empty list), and how many of the listed ones do not exist."""
    if files_from is None:
        if null:
            raise UsageError("-0 needs --files-from")
        return paths, 0
    data = read_bytes(files_from, option="--files-from ")
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
    precision: Precision | None,
    run: RunOptions,
    options: EncoderOptions,
    *,
    wait: bool,
) -> Library | None:
    """A new library, after checking the paths; None where another run has created one meanwhile."""
    from clipsearch.indexing.run import check_paths
    from clipsearch.library.access import Access
    from clipsearch.library.library import Library

    if not wanted:
        raise UsageError(f"no library in {os.fspath(folder)} yet; name what to index: `clipsearch index FOLDER`")
    with Access(Path(folder)).reader_or_empty() as catalog:
        check_paths(catalog, [absolute(path) for path in wanted], run, own=absolute(folder))
    while True:
        try:
            library = Library.create(folder, model=model, precision=precision, options=options)
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
            "With a network, this switches to CLIP: clipsearch index --model default"
        )
    else:
        output.say(f"created a library in {library.path} with the model {info.encoders[0].info.spec}")


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
                notify=bar.note,
                stop=stopper.asked,
            )
        except LockedError:
            if stopper.asked():
                raise KeyboardInterrupt from None
            raise


def _report(report: IndexReport, *, json: bool) -> int:
    from clipsearch.cli.render.runs import index_text
    from clipsearch.export.json_reports import index_json

    if json:
        output.write_json(index_json(report))
    else:
        output.write(index_text(report))
    for text in report.notices:
        output.note(text)
    if report.interrupted:
        output.note("stopped early; finished work is kept, and `clipsearch index` picks up where it left off")
        return INTERRUPTED
    return SOME_FAILED if report.failed else 0
