"""`clipsearch info`, `doctor`, `prune`, `forget` and `reroot`: inspect a library and keep it in order."""

from __future__ import annotations

from typing import Annotated

import typer

from clipsearch.cli import completion, options, output, place
from clipsearch.cli.exits import DAMAGED
from clipsearch.cli.options import flag, value
from clipsearch.cli.render.tables import counted
from clipsearch.errors import UsageError
from clipsearch.library.results import ListedState


def info(
    *,
    index: options.Index = None,
    files: Annotated[
        ListedState | None, typer.Option("--files", help="List the files in this state, with the reason.")
    ] = None,
    json: options.Json = False,
    null: options.Null = False,
) -> int:
    """Show what a library contains: pictures, models, sizes, folders.

    To a pipe, --files prints plain paths.
    """
    from clipsearch.cli.render.library import files_json, files_text, info_text
    from clipsearch.export.json_reports import info_json
    from clipsearch.library.library import Library

    if null and (json or files is None):
        raise UsageError("-0 needs --files, without --json")
    with Library.open(place.require_library(index)) as library:
        if files is None:
            about = library.info()
            if json:
                output.write_json(info_json(about))
            else:
                output.write(info_text(about))
            return 0
        listed = list(library.files(files))
    if json:
        output.write_json(files_json(files, listed))
    elif output.to_terminal() and not null:
        output.write(files_text(listed))
        if not listed:
            output.note(f"no {files} files")
    else:
        for file in listed:
            output.write_path(file.path, end=b"\0" if null else b"\n")
    return 0


def doctor(*, index: options.Index = None, json: options.Json = False) -> int:
    """Check a library and suggest fixes.

    Checks the catalog and the snapshots, and shows the versions of the packages in use. Exits with 5 if something is
    damaged.
    """
    from clipsearch.cli.render.library import findings_json, findings_text
    from clipsearch.library.library import Library

    findings = Library(place.require_library(index)).doctor()
    if json:
        output.write_json(findings_json(findings))
    else:
        output.write(findings_text(findings))
    return DAMAGED if any(finding.level == "problem" for finding in findings) else 0


def prune(
    *,
    index: options.Index = None,
    encoder: Annotated[
        str | None, value("--encoder", "SPEC", "Also the vectors of this inactive model.", completion.library_models)
    ] = None,
    cache: Annotated[bool, flag("--cache", "Also the query cache (cache.db).")] = False,
    wait: options.Wait = False,
    json: options.Json = False,
) -> int:
    """Remove what no file needs any more.

    That is: missing files, pictures without a file and, with --encoder, the vectors of a model.
    """
    from clipsearch.cli.render.library import pruned_json
    from clipsearch.library.library import Library

    with Library.open(place.require_library(index)) as library:
        pruned = library.prune(encoder=encoder, cache=cache, wait=wait)
    if json:
        output.write_json(pruned_json(pruned))
    else:
        output.write(
            f"removed {counted(pruned.files, 'missing file')}, {counted(pruned.contents, 'picture')}, "
            f"{counted(pruned.vectors, 'vector')}{' and the cache' if pruned.cache else ''}\n"
        )
    return 0


def forget(
    *,
    paths: Annotated[list[str], typer.Argument(metavar="PATHS...", help="Files or folders in the library.")],
    index: options.Index = None,
    wait: options.Wait = False,
) -> int:
    """Remove files or folders from a library, and stop scanning them.

    The files themselves are left alone.
    """
    from clipsearch.library.library import Library

    with Library.open(place.require_library(index)) as library:
        count = library.forget(paths, wait=wait)
    output.write(f"forgot {counted(count, 'file')}; `clipsearch prune` removes their vectors\n")
    return 0


def reroot(
    *,
    old: Annotated[str, typer.Argument(metavar="OLD", help="Where the folder was.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Where it is now.")],
    index: options.Index = None,
    wait: options.Wait = False,
) -> int:
    """Tell the library that a folder has moved.

    No file is read again. Files already indexed at the new place are kept.
    """
    from clipsearch.library.library import Library

    with Library.open(place.require_library(index)) as library:
        count = library.reroot(old, new, wait=wait)
    output.write(f"{counted(count, 'file')} {'is' if count == 1 else 'are'} now in {output.printable(new)}\n")
    return 0
