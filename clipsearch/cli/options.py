"""Options and arguments that several commands share, each declared once; `filters` reads those that narrow a query."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from clipsearch.cli import completion
from clipsearch.images.sniff import FORMATS
from clipsearch.types import HitState

Texts = list[str] | None


def flag(name: str, help: str, **settings: Any) -> Any:  # noqa: ANN401 - as typer.Option
    """An option without a value; `settings` are those of `typer.Option`."""
    return typer.Option(name, help=help, **settings)


def value(name: str, metavar: str, help: str, complete: Any = None, **settings: Any) -> Any:  # noqa: ANN401
    """An option with a value; `complete` gives a shell its candidates, `settings` are those of `typer.Option`."""
    return typer.Option(name, metavar=metavar, help=help, autocompletion=complete, **settings)


# Where to look


Index = Annotated[
    str | None,
    value(
        "--index",
        "DIR",
        "The library. Default: $CLIPSEARCH_INDEX, then ./index, then the nearest index/ in a parent folder.",
    ),
]
Wait = Annotated[bool, flag("--wait", "Wait while another run writes to the library.")]

# Models


_DEVICES = ("auto", "cpu", "cuda", "mps")


def _device(name: str) -> str:
    if name not in _DEVICES and not (name.startswith("cuda:") and name[5:].isdecimal()):
        raise typer.BadParameter(f"{name!r} is not one of auto, cpu, cuda, cuda:N, mps")
    return name


Device = Annotated[
    str,
    value("--device", "DEVICE", "Where to encode: auto, cpu, cuda, cuda:N or mps.", lambda: _DEVICES, callback=_device),
]
Model = Annotated[str | None, value("--model", "SPEC", "The model; `clipsearch models` lists some.", completion.models)]
LibraryModel = Annotated[
    str | None, value("--model", "SPEC", "Another model in the library.", completion.library_models)
]
Template = Annotated[
    Texts,
    value(
        "--template",
        "TEXT",
        'A prompt with {} for the label, such as CLIP\'s "a photo of a {}"; repeatable: their embeddings are '
        "averaged. Or simple (7 prompts), openai (80), or @FILE with one per line.",
    ),
]
Arch = Annotated[str | None, value("--arch", "NAME", "Architecture, for checkpoints that do not record it.")]
Trust = Annotated[
    bool,
    flag(
        "--trust-checkpoint",
        "Open a TorchScript archive that is not on OpenAI's list. It can run code: only for files you trust.",
    ),
]

# Filters


In = Annotated[Texts, value("--in", "FOLDER|GLOB", "Only pictures in this folder, or whose path matches; repeatable.")]
Taken = Annotated[
    str | None, value("--taken", "DATE", "Only pictures of 2021, 2021-05, 2021-05-03..2021-06, 2020.. or ..2019.")
]
Tag = Annotated[Texts, value("--tag", "WORD", "Only pictures with this keyword; repeatable: all of them.")]
Rating = Annotated[str | None, value("--rating", "STARS", "Only pictures with 4, 4..5, 4.. or ..2 stars.")]
Caption = Annotated[str | None, value("--caption", "TEXT", "Only pictures whose caption contains TEXT.")]
Name = Annotated[str | None, value("--name", "TEXT", "Only pictures whose file name contains TEXT.")]
Camera = Annotated[str | None, value("--camera", "TEXT", "Only pictures whose camera name contains TEXT.")]
Near = Annotated[str | None, value("--near", "LAT,LON,KM", "Only pictures taken within KM kilometres of a place.")]
Format = Annotated[
    Texts,
    value(
        "--format",
        "NAME",
        "Only this format: jpeg, png, heic, raw …; repeatable.",
        lambda: sorted(map(str.lower, FORMATS)),
    ),
]
MinSize = Annotated[str | None, value("--min-size", "WxH", "Only pictures at least this large, in upright pixels.")]
Landscape = Annotated[bool, flag("--landscape", "Only pictures wider than tall.")]
Portrait = Annotated[bool, flag("--portrait", "Only pictures taller than wide.")]
IndexedSince = Annotated[str | None, value("--indexed-since", "DATE", "Only pictures indexed since this date (UTC).")]
State = Annotated[
    HitState | None, typer.Option("--state", help="Only intact or truncated (partial) files; see also `info --files`.")
]

# What comes back


Json = Annotated[bool, flag("--json", "Print one JSON object.")]
JsonLines = Annotated[bool, flag("--jsonl", "Print one JSON object per picture.")]
Null = Annotated[bool, typer.Option("-0", "--null", help="End each path with a zero byte instead of a newline.")]


def folder(path: str | None) -> str | None:
    """Refuse an empty path: most likely an unset variable."""
    if path == "":
        raise typer.BadParameter("the path is empty; write . for the current folder")
    return path


CopyTo = Annotated[
    str | None, value("--copy-to", "FOLDER", "Copy the pictures there; never overwrites.", callback=folder)
]
LinkTo = Annotated[str | None, value("--link-to", "FOLDER", "Like --copy-to, with symbolic links.", callback=folder)]
Plot = Annotated[str | None, value("--plot", "FILE", "Draw a plot into a .png or .svg; needs the extra `plot`.")]
Dark = Annotated[bool, flag("--dark", "Dark background. Without it, an SVG follows the viewer's light or dark mode.")]
