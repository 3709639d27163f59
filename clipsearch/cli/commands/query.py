"""`clipsearch query` and `clipsearch show`: their options, and the output in each form."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipsearch.cli import completion, options, output, place
from clipsearch.cli.exits import SOME_FAILED
from clipsearch.cli.options import Texts, flag, value
from clipsearch.errors import UsageError
from clipsearch.files import expanded
from clipsearch.types import Sort, whole_number

if TYPE_CHECKING:
    from clipsearch.catalog.filters import Filter
    from clipsearch.cli.remote import Server
    from clipsearch.search.terms import Term
    from clipsearch.types import Hit, QueryResult


SERVER_VARIABLE = "CLIPSEARCH_SERVER"

OPENED = 5
"""Pictures that --open shows at most."""


def query(
    *,
    words: Annotated[
        Texts,
        typer.Argument(
            metavar="WORDS...",
            autocompletion=completion.ids,
            help="What to look for, quoted or not. Or one picture: its path, a part of it as photo.jpg#x,y,w,h "
            "(pixels or percent), id:N for an earlier hit, or - for a picture on standard input.",
        ),
    ] = None,
    index: options.Index = None,
    server: Annotated[
        str | None,
        value(
            "--server",
            "URL",
            "Ask a `clipsearch serve`. Default: $CLIPSEARCH_SERVER, unless --index is given; without it, no server.",
        ),
    ] = None,
    k: Annotated[int, value("-k", "N", "Number of pictures.", min=1)] = 10,
    page: Annotated[int, value("--page", "N", "Page of results: 2 for the next best.", min=1)] = 1,
    text: Annotated[bool, flag("--text", "The words are text, even if a file has that name.")] = False,
    file: Annotated[
        str | None,
        value(
            "--file",
            "FILE",
            "Run each line of a file (- for standard input) as a query; prints one JSON object per line.",
        ),
    ] = None,
    with_: Annotated[
        Texts, value("--with", "X", "Add words, a picture or id:N; X^0.5 sets its weight; repeatable.", completion.ids)
    ] = None,
    without: Annotated[
        Texts, value("--without", "X", "Penalise pictures that match this; same syntax as --with.", completion.ids)
    ] = None,
    like: Annotated[
        Texts, value("--like", "PICTURE", "Add a picture or id:N; same syntax as --with.", completion.ids)
    ] = None,
    all_: Annotated[bool, flag("--all", "Every term must match; in a sum, one can outweigh the others.")] = False,
    in_: options.In = None,
    taken: options.Taken = None,
    tag: options.Tag = None,
    rating: options.Rating = None,
    caption: options.Caption = None,
    name: options.Name = None,
    camera: options.Camera = None,
    near: options.Near = None,
    format_: options.Format = None,
    min_size: options.MinSize = None,
    landscape: options.Landscape = False,
    portrait: options.Portrait = False,
    indexed_since: options.IndexedSince = None,
    state: options.State = None,
    relevant: Annotated[bool, flag("--relevant", "Only relevant pictures; not with --without or --all.")] = False,
    sort: Annotated[Sort, typer.Option("--sort", help="Order of the hits.")] = "score",
    unfold: Annotated[bool, flag("--unfold", "List every file of a picture separately.")] = False,
    model: options.LibraryModel = None,
    no_cache: Annotated[bool, flag("--no-cache", "Do not read or write the query cache.")] = False,
    preview: Annotated[bool, flag("--preview", "Show the pictures in the terminal.")] = False,
    html: Annotated[str | None, value("--html", "FILE", "Write the hits as a web page; --open opens it.")] = None,
    open_: Annotated[bool, flag("--open", f"Open the best hits, up to {OPENED}, in the desktop's viewer.")] = False,
    copy_to: options.CopyTo = None,
    link_to: options.LinkTo = None,
    json: options.Json = False,
    jsonl: options.JsonLines = False,
    csv: Annotated[bool, flag("--csv", "Print one line of CSV per picture.")] = False,
    null: options.Null = False,
) -> int:
    """Find pictures by words or by another picture.

    Prints a table to a terminal, and plain paths, best first, to a pipe or a file.
    """
    if json + jsonl + csv + null > 1:
        raise UsageError("--json, --jsonl, --csv and -0 exclude one another")
    unusable = {"--copy-to": copy_to, "--link-to": link_to, "--preview": preview, "--open": open_}
    ask = _server(server, index, unusable)
    filters = {
        "within": in_,
        "taken": taken,
        "tags": tag,
        "rating": rating,
        "caption": caption,
        "name": name,
        "camera": camera,
        "near": near,
        "formats": format_,
        "min_size": min_size,
        "landscape": landscape,
        "portrait": portrait,
        "indexed_since": indexed_since,
        "state": state,
    }
    where = _where(filters)
    if file is not None:
        others = words, with_, without, like, all_, html, preview, copy_to, link_to, open_, text, no_cache
        if any(others) or page > 1 or sort != "score" or relevant or unfold or json or csv or null:
            raise UsageError(
                "--file runs each line as a query of its own; it takes -k, filters, --model and --jsonl only"
            )
        if ask:
            many = partial(ask.query_many, k=k, where=where, filters=filters, model=model)
            return _ask_file(file, many, batch=max(1, min(ask.texts, ask.hits // k)), longest=ask.characters)
        from clipsearch.library.library import Library

        with Library.open(place.require_library(index)) as library:
            return _ask_file(file, partial(library.query_many, k=k, where=where, model=model), batch=1000)
    if not words:
        raise UsageError("nothing to look for: give words or a picture")
    terms = [_main_term(words, text=text), *_terms(with_, like)]
    settings: dict[str, Any] = {
        "negative": _terms(without, None),
        "match_all": all_,
        "page": page,
        "sort": sort,
        "relevant": relevant,
        "model": model,
        "unfold": unfold,
        "explain": json or jsonl,
        "judge": json or jsonl or csv or html is not None or output.to_terminal(),
        "use_cache": not no_cache,
    }
    if ask:
        result = ask.query(terms, k=k, where=where, filters=filters, **settings)
    else:
        result = _of_library(index, terms, k=k, where=where, settings=settings)
    _write(result, json=json, jsonl=jsonl, csv=csv, null=null)
    if preview:
        _preview(result)
    _note(result, relevant=relevant, unfold=unfold, page=page, k=k, where=where)
    return _hand_over(result, html=html, open_=open_, copy_to=copy_to, link_to=link_to, server=ask)


# Who is asked


def _server(given: str | None, index: str | None, unusable: Mapping[str, object]) -> Server | None:
    """The server to ask; None to open a library. Raises UsageError for options that make no sense with a server."""
    if given is not None and index is not None:
        raise UsageError("--server and --index exclude one another")
    url = given if given is not None or index is not None else os.environ.get(SERVER_VARIABLE) or None
    if url is None:
        return None
    from clipsearch.cli.remote import Server

    for option, is_given in unusable.items():
        if is_given:
            hint = "" if given is not None else f", and ${SERVER_VARIABLE} is set; --index DIR opens a library here"
            raise UsageError(f"{option} needs the files, which are on the server's machine with --server{hint}")
    return Server(url)


def _of_library(
    index: str | None, terms: list[Term], *, k: int, where: Filter | None, settings: dict[str, Any]
) -> QueryResult:
    from clipsearch.library.library import Library
    from clipsearch.search.query import QueryOptions

    _stay_on_one_thread()
    with Library.open(place.require_library(index)) as library:
        return library.query(terms, k=k, where=where, options=QueryOptions(**settings))


def _stay_on_one_thread() -> None:
    """Keep numpy from starting one thread per core on import: that costs 10 to 30 ms, more than one query gains."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


# What is asked


def _main_term(words: list[str], *, text: bool) -> Term:
    """One text; or what a single word names: a picture or a part of one, an earlier hit, standard input."""
    from clipsearch.cli.arguments import STANDARD_INPUT, named_term
    from clipsearch.search.terms import Image, Text, parse_term

    if text:
        return Text(" ".join(words))
    if len(words) != 1:
        last = parse_term(words[-1])
        return Text(" ".join([*words[:-1], last.words if isinstance(last, Text) else words[-1]]), last.weight)
    term = named_term(words[0], hint="; --text looks for the words", weighed=True)
    if isinstance(term, Image) and words[0] != STANDARD_INPUT:
        output.note(f"looking for pictures like the file {words[0]}; --text looks for the words")
    return term


def _where(filters: dict[str, Any]) -> Filter | None:
    if all(given in (None, False, []) for given in filters.values()):
        return None
    from clipsearch.search.filter_options import read_filter

    return read_filter(**filters)


def _terms(texts: Texts, images: Texts) -> list[Term]:
    from clipsearch.search.terms import parse_term

    return [parse_term(t) for t in texts or ()] + [parse_term(p, image=True) for p in images or ()]


def _ask_file(
    name: str, query_many: Callable[[list[str]], Sequence[QueryResult]], *, batch: int, longest: int = sys.maxsize
) -> int:
    """Run every line that is not blank as a query, `batch` at a time. Raises UsageError for too long ones."""
    from clipsearch.cli.labels import read_text
    from clipsearch.export.json import query_json

    every = [line.strip() for line in read_text(name, option="--file ").splitlines()]
    if large := next(((number, len(line)) for number, line in enumerate(every, 1) if len(line) > longest), None):
        raise UsageError(f"--file {name}: line {large[0]} has {large[1]:,} characters; a server takes {longest:,}")
    lines = [line for line in every if line]
    told: set[str] = set()
    for start in range(0, len(lines), batch):
        for result in query_many(lines[start : start + batch]):
            output.write_json(query_json(result), indent=None)
            for notice in result.notices:
                if notice not in told:
                    output.note(notice)
            told.update(result.notices)
    return 0


# What comes back


def _write(result: QueryResult, *, json: bool, jsonl: bool, csv: bool, null: bool) -> None:
    if null or not (json or jsonl or csv or output.to_terminal()):
        for hit in result.hits:
            output.write_path(hit.path, end=b"\0" if null else b"\n")
        return
    from clipsearch.cli.render.hits import query_csv, query_text
    from clipsearch.export.json import hit_json, query_json

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
        output.note("--preview needs a terminal with colours")
        return
    columns = shutil.get_terminal_size().columns
    for strip in terminal.strips(result.hits, protocol, columns=columns, cell=terminal.cell_pixels(1)):
        output.write(strip)


def _note(result: QueryResult, *, relevant: bool, unfold: bool, page: int, k: int, where: Filter | None) -> None:
    for notice in result.notices:
        # `clipsearch index` has already told a script.
        if output.is_terminal(sys.stderr) or notice.kind != "fallback":
            output.note(notice)
    from clipsearch.cli.render.tables import counted

    unreadable = sum(hit.unreadable for hit in result.hits)
    offline = sum(hit.offline for hit in result.hits) - unreadable
    for count, state in ((offline, "offline"), (unreadable, "unreadable")):
        if count and not output.to_terminal():
            output.note(f"{count} of these {len(result.hits)} are {state}: none of their paths can be read now")
    weak: Any = result.model.details.get("weak_below")
    if not result.hits:
        if result.relevant is not None:
            output.note("no more relevant pictures" if result.relevant.count else "no confident match")
        else:
            none = "no pictures match the filter" if where else "no pictures yet"
            output.note("no more pictures" if page > 1 else none)
        return
    if result.relevant is not None and unfold:
        about = "" if result.relevant.exact else "about "
        output.note(f"{about}{counted(result.relevant.count, 'relevant picture')} in all; every file has its own line")
    elif result.relevant is not None:
        shown = len({hit.id for hit in result.hits})
        before = (page - 1) * k
        which = f"{before + 1}–{before + shown}" if before else f"{shown}"
        all_shown = shown == result.relevant.count
        of = "" if all_shown else f" of {'' if result.relevant.exact else 'about '}{result.relevant.count:,}"
        output.note(f"{which}{of} relevant {'picture' if all_shown and shown == 1 else 'pictures'}")
    best = max(hit.score for hit in result.hits)
    if weak is not None and result.kind == "cosine" and not relevant and page == 1 and best < weak:
        output.note(
            f"weak match: the best score is {best:.2f}; correct matches are mostly above {weak:.2f} "
            f"with {result.model.spec}"
        )


def _hand_over(
    result: QueryResult,
    *,
    html: str | None,
    open_: bool,
    copy_to: str | None,
    link_to: str | None,
    server: Server | None,
) -> int:
    """Write the page, copy or link the files, open the page or the best hits; the exit code."""
    code = 0
    if html is not None:
        from clipsearch.cli.render.tables import counted
        from clipsearch.display.html.gallery import write_gallery

        write_gallery(result, expanded(html), shown=server.thumbnails(result.hits) if server else None)
        output.note(f"{counted(len(result.hits), 'picture')} on the page {html}")
    for folder, link in ((copy_to, False), (link_to, True)):
        if folder is not None:
            code = max(code, _hand_out(result.hits, folder, link=link))
    if open_:
        from clipsearch.display.viewer import show

        best = [hit.path for hit in result.hits if not hit.offline][:OPENED]
        show([str(expanded(html).absolute())] if html is not None else best)
    return code


def _hand_out(hits: tuple[Hit, ...], folder: str, *, link: bool) -> int:
    from clipsearch.export.copies import export_copies

    done = export_copies(hits, expanded(folder), link=link)
    for problem in done.failed:
        output.error(f"{problem.path}: {problem.reason}")
    new = sum(not each.existed for each in done.handed)
    output.note(f"{new} {'linked' if link else 'copied'} to {folder}, {len(done.handed) - new} already there")
    return SOME_FAILED if done.failed else 0


# show


def show(
    *,
    image: Annotated[
        str,
        typer.Argument(metavar="PICTURE", autocompletion=completion.ids, help="An indexed file, or the id of a hit."),
    ],
    index: options.Index = None,
    k: Annotated[int, value("-k", "N", "Number of neighbours.", min=0)] = 5,
    model: options.LibraryModel = None,
    json: options.Json = False,
) -> int:
    """Show everything known about a picture and its nearest neighbours."""
    from clipsearch.cli.render.hits import show_text
    from clipsearch.export.json import show_json
    from clipsearch.library.library import Library

    _stay_on_one_thread()
    number = image.removeprefix("id:")
    is_id = number.isascii() and number.isdecimal() and not os.path.exists(image)
    which = whole_number(number) if is_id else None
    with Library.open(place.require_library(index)) as library:
        shown = library.show(expanded(image) if which is None else which, k=k, model=model)
    if json:
        output.write_json(show_json(shown))
    else:
        output.write(show_text(shown))
    return 0
