"""`clipsearch query` and `clipsearch show`: what is asked, what narrows it, and the forms in which an answer comes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipsearch.cli import options, output, place
from clipsearch.cli.exits import SOME_FAILED

if TYPE_CHECKING:
    from clipsearch.catalog.filters import Filter
    from clipsearch.library.library import Library
    from clipsearch.search.terms import Term
    from clipsearch.types import Hit, QueryResult


OPENED = 5
"""Pictures that --open shows at most."""

SORTS = ("score", "taken", "path")

FORMAT_NAMES = {"JPG": "JPEG", "TIF": "TIFF", "HEIC": "HEIF", "JP2": "JPEG2000", "DNG": "RAW"}
"""Suffixes that people say for a format."""

FORMATS = frozenset(["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000", "PPM", "AVIF", "HEIF", "RAW"])

Texts = list[str] | None


def query(
    *,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORDS...",
            help="What to look for, quoted or not; or one picture's path, a part of it as photo.jpg#x,y,w,h "
            "(pixels or percent), id:N for an earlier hit, or - for a picture on standard input.",
        ),
    ] = None,
    index: options.Index = None,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="How many pictures.")] = 10,
    page: Annotated[int, typer.Option("--page", metavar="N", min=1, help="2 for the next best, and so on.")] = 1,
    text: Annotated[bool, typer.Option("--text", help="The words are words, even if a file has that name.")] = False,
    file: Annotated[
        str | None,
        typer.Option(
            "--file", metavar="FILE", help="Ask each line of a file, or of -, as words: one JSON object a line."
        ),
    ] = None,
    with_: Annotated[
        Texts, typer.Option("--with", metavar="X", help="Also words, a picture or id:N; a weight as X^0.5; repeatable.")
    ] = None,
    without: Annotated[
        Texts, typer.Option("--without", metavar="X", help="Hold this against a picture; as --with.")
    ] = None,
    like: Annotated[
        Texts, typer.Option("--like", metavar="PICTURE", help="Also like this picture or id:N; as --with.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every term must match, where a sum would let one win.")] = False,
    in_: Annotated[
        Texts, typer.Option("--in", metavar="FOLDER|GLOB", help="Only there; repeatable: in any of them.")
    ] = None,
    taken: Annotated[
        str | None, typer.Option("--taken", metavar="DATE", help="2021, 2021-05, 2021-05-03..2021-06, 2020.., ..2019.")
    ] = None,
    camera: Annotated[str | None, typer.Option("--camera", metavar="TEXT", help="Part of the camera's name.")] = None,
    near: Annotated[
        str | None, typer.Option("--near", metavar="LAT,LON,KM", help="Taken within so many kilometres of a place.")
    ] = None,
    format_: Annotated[
        Texts, typer.Option("--format", metavar="NAME", help="jpeg, png, heic, raw …; repeatable.")
    ] = None,
    min_size: Annotated[str | None, typer.Option("--min-size", metavar="WxH", help="In pixels, upright.")] = None,
    landscape: Annotated[bool, typer.Option("--landscape", help="Wider than high.")] = False,
    portrait: Annotated[bool, typer.Option("--portrait", help="Higher than wide.")] = False,
    indexed_since: Annotated[
        str | None, typer.Option("--indexed-since", metavar="DATE", help="New in the library since; UTC.")
    ] = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help="ok, or partial: files that end early.")
    ] = None,
    relevant: Annotated[
        bool, typer.Option("--relevant", help="Only pictures that stand out as right ones do.")
    ] = False,
    sort: Annotated[str, typer.Option("--sort", metavar="BY", help="Arrange them by score, taken or path.")] = "score",
    unfold: Annotated[bool, typer.Option("--unfold", help="Every path of a picture on its own.")] = False,
    model: Annotated[
        str | None, typer.Option("--model", metavar="SPEC", help="Another model that the library holds.")
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Neither use nor keep what earlier queries learnt.")
    ] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Show the pictures in the terminal.")] = False,
    html: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Write a page with the pictures; --open opens it.")
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help=f"Show the best ones, up to {OPENED}, in the desktop's viewer.")
    ] = False,
    copy_to: Annotated[
        str | None, typer.Option("--copy-to", metavar="FOLDER", help="Copy them there; nothing is overwritten.")
    ] = None,
    link_to: Annotated[
        str | None, typer.Option("--link-to", metavar="FOLDER", help="Make symbolic links to them there.")
    ] = None,
    json: options.Json = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a picture.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print a line a picture, as CSV.")] = False,
    null: options.Null = False,
) -> int:
    """Find pictures by words, or by another picture.

    Prints a table on a terminal, and plain paths, best first, into a pipe or a file.
    """
    from clipsearch.errors import UsageError
    from clipsearch.library.library import Library
    from clipsearch.search.query import QueryOptions

    if json + jsonl + csv + null > 1:
        raise UsageError("--json, --jsonl, --csv and -0 exclude one another")
    if sort not in SORTS:
        raise UsageError(f"--sort {sort}: sorts by {', '.join(SORTS)}")
    for option, folder in (("--copy-to", copy_to), ("--link-to", link_to)):
        if folder == "":
            raise UsageError(f"{option}: a path is empty; write . for the folder that you are in")
    where = _filter(in_, taken, camera, near, format_, min_size, landscape, portrait, indexed_since, state)
    if file is not None:
        others = words, with_, without, like, all_, html, preview, copy_to, link_to, open_, text, no_cache
        if any(others) or page > 1 or sort != "score" or relevant or unfold or json or csv or null:
            raise UsageError("--file asks each line by itself; it goes with -k, filters, --model and --jsonl only")
        with Library.open(place.require_library(index)) as library:
            return _ask_file(library, file, k=k, where=where, model=model)
    if not words:
        raise UsageError("nothing to look for: give words, or a picture")
    _stay_on_one_thread()
    terms = [_main_term(words, text=text), *_terms(with_, like)]
    negative = _terms(without, None)
    with Library.open(place.require_library(index)) as library:
        result = library.query(
            terms,
            k=k,
            where=where,
            options=QueryOptions(
                negative=negative,
                match_all=all_,
                page=page,
                sort=sort,  # type: ignore[arg-type]
                relevant=relevant,
                model=model,
                explain=json or jsonl,
                judge=json or jsonl or csv or html is not None or output.to_terminal(),
                use_cache=not no_cache,
            ),
        )
    if unfold:
        result = _unfolded(result)
    _write(result, json=json, jsonl=jsonl, csv=csv, null=null)
    if preview:
        _preview(result)
    _note(result, relevant=relevant, page=page, where=where)
    return _hand_over(result, html=html, open_=open_, copy_to=copy_to, link_to=link_to)


def _stay_on_one_thread() -> None:
    """Keep numpy from starting a thread a core when it is imported: 10 to 30 ms that one question never earns back."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


# What is asked


def _main_term(words: list[str], *, text: bool) -> Term:
    """One text; or what a single word names: a picture or a part of one, an earlier hit, standard input."""
    from clipsearch.cli.arguments import STANDARD_INPUT, named_term
    from clipsearch.search.terms import Picture, Text

    if text or len(words) != 1:
        return Text(" ".join(words))
    term = named_term(words[0], hint="; --text looks for the words")
    if isinstance(term, Picture) and words[0] != STANDARD_INPUT:
        output.note(f"looking for pictures like the file {words[0]}; --text looks for the words")
    return term


def _terms(texts: Texts, pictures: Texts) -> list[Term]:
    from clipsearch.search.terms import parse_term

    return [parse_term(t) for t in texts or ()] + [parse_term(p, picture=True) for p in pictures or ()]


def _filter(
    in_: Texts,
    taken: str | None,
    camera: str | None,
    near: str | None,
    format_: Texts,
    min_size: str | None,
    landscape: bool,
    portrait: bool,
    indexed_since: str | None,
    state: str | None,
) -> Filter | None:
    from clipsearch.catalog import filters
    from clipsearch.errors import UsageError

    if state not in (None, "ok", "partial"):
        raise UsageError(f"--state {state}: ok or partial; info --files lists files in other states")
    if landscape and portrait:
        raise UsageError("--landscape and --portrait exclude one another")
    names = tuple(FORMAT_NAMES.get(name.upper().lstrip("."), name.upper().lstrip(".")) for name in format_ or ())
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"--format {name.lower()}: one of {', '.join(sorted(FORMATS)).lower()}")
    chosen = filters.Filter(
        within=filters.parse_within(in_ or ()),
        taken=filters.parse_taken(taken) if taken is not None else None,
        camera=camera,
        near=filters.parse_near(near) if near is not None else None,
        formats=names,
        min_size=filters.parse_size(min_size) if min_size is not None else None,
        landscape=landscape,
        portrait=portrait,
        indexed_since=filters.parse_since(indexed_since) if indexed_since is not None else None,
        state=state,
    )
    return chosen or None


def _ask_file(library: Library, name: str, *, k: int, where: Filter | None, model: str | None) -> int:
    """Ask every line that is not blank, a thousand at a time."""
    from clipsearch.cli.labels import read_text
    from clipsearch.cli.render.hits import query_json

    lines = [line.strip() for line in read_text(name, option="--file ").splitlines() if line.strip()]
    told: set[str] = set()
    for start in range(0, len(lines), 1000):
        for result in library.query_many(lines[start : start + 1000], k=k, where=where, model=model):
            output.write_json(query_json(result), indent=None)
            for notice in result.notices:
                if notice not in told:
                    output.note(notice)
            told.update(result.notices)
    return 0


# What comes back


def _unfolded(result: QueryResult) -> QueryResult:
    from dataclasses import replace

    hits = tuple(replace(hit, path=path, paths=(path,)) for hit in result.hits for path in hit.paths)
    return replace(result, hits=hits)


def _write(result: QueryResult, *, json: bool, jsonl: bool, csv: bool, null: bool) -> None:
    if null or not (json or jsonl or csv or output.to_terminal()):
        for hit in result.hits:
            output.write_path(hit.path, end=b"\0" if null else b"\n")
        return
    from clipsearch.cli.render.hits import hit_json, query_csv, query_json, query_text

    if json:
        output.write_json(query_json(result))
    elif jsonl:
        for hit in result.hits:
            output.write_json(hit_json(hit), indent=None)
    elif csv:
        output.write_foreign(query_csv(result))
    else:
        output.write(query_text(result))


def _preview(result: QueryResult) -> None:
    import shutil

    from clipsearch.display import terminal

    protocol = terminal.detect(os.environ, output.to_terminal())
    if protocol == "none":
        output.note("--preview: needs a terminal with colours")
        return
    columns = shutil.get_terminal_size().columns
    for strip in terminal.strips(result.hits, protocol, columns=columns, cell=terminal.cell_pixels(1)):
        output.write(strip)


def _note(result: QueryResult, *, relevant: bool, page: int, where: Filter | None) -> None:
    from clipsearch.encoders.specs import FALLBACK_NOTICE

    for text in result.notices:
        # A script was told when the library was made.
        if output.is_terminal(sys.stderr) or not text.startswith(FALLBACK_NOTICE):
            output.note(text)
    offline = sum(hit.offline for hit in result.hits)
    if offline and not output.to_terminal():
        output.note(f"{offline} of these {len(result.hits)} are offline: no path of theirs can be read now")
    weak: Any = result.model.details.get("weak_below")
    if not result.hits:
        if relevant:
            output.note("no confident match")
        else:
            why = "no more pictures" if page > 1 else "the filter leaves no picture" if where else "no pictures yet"
            output.note(f"nothing found: {why}")
        return
    best = max(hit.score for hit in result.hits)
    if weak is not None and result.kind == "cosine" and not relevant and page == 1 and best < weak:
        output.note(
            f"a weak match: the best score is {best:.2f}, and right ones are mostly above {weak:.2f} "
            f"with {result.model.spec}"
        )


def _hand_over(result: QueryResult, *, html: str | None, open_: bool, copy_to: str | None, link_to: str | None) -> int:
    """Write the page, copy or link the files, open what is to be opened; the exit code."""
    code = 0
    if html is not None:
        from clipsearch.display.html.gallery import write_gallery

        write_gallery(result, Path(html).expanduser())
        output.note(f"{len(result.hits)} pictures are shown in {html}")
    for folder, link in ((copy_to, False), (link_to, True)):
        if folder is not None:
            code = max(code, _hand_out(result.hits, folder, link=link))
    if open_:
        from clipsearch.display.viewer import show

        best = [hit.path for hit in result.hits if not hit.offline][:OPENED]
        show([str(Path(html).expanduser().absolute())] if html is not None else best)
    return code


def _hand_out(hits: tuple[Hit, ...], folder: str, *, link: bool) -> int:
    from clipsearch.export.copies import hand_out

    done = hand_out(hits, Path(folder).expanduser(), link=link)
    for problem in done.failed:
        output.error(f"{problem.path}: {problem.reason}")
    new = sum(not each.existed for each in done.handed)
    output.note(f"{new} {'linked' if link else 'copied'} to {folder}, {len(done.handed) - new} were there already")
    return SOME_FAILED if done.failed else 0


# show


def show(
    *,
    picture: Annotated[str, typer.Argument(metavar="PICTURE", help="A file that is indexed, or the id of a hit.")],
    index: options.Index = None,
    k: Annotated[int, typer.Option("-k", metavar="N", min=0, help="How many neighbours.")] = 5,
    model: Annotated[
        str | None, typer.Option("--model", metavar="SPEC", help="Neighbours by another model that the library holds.")
    ] = None,
    json: options.Json = False,
) -> int:
    """Say everything that is known of a picture, and which are nearest to it."""
    from clipsearch.cli.render.hits import show_json, show_text
    from clipsearch.library.library import Library
    from clipsearch.types import MAX_INTEGER

    _stay_on_one_thread()
    number = picture.removeprefix("id:")
    is_id = number.isascii() and number.isdecimal() and not os.path.exists(picture)
    which = min(int(number), MAX_INTEGER) if is_id else None
    with Library.open(place.require_library(index)) as library:
        shown = library.show(Path(picture).expanduser() if which is None else which, k=k, model=model)
    if json:
        output.write_json(show_json(shown))
    else:
        output.write(show_text(shown))
    return 0
