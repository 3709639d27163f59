"""Options and arguments that several commands share, each declared once; `filters` reads those that narrow a query."""

from __future__ import annotations

from typing import Annotated

import typer

from clipsearch.cli import completion
from clipsearch.images.sniff import FORMATS
from clipsearch.types import HitState

Texts = list[str] | None

# Where to look


Index = Annotated[
    str | None,
    typer.Option(
        "--index",
        metavar="DIR",
        help="The library. Default: $CLIPSEARCH_INDEX, then ./index, then the nearest index/ in a parent folder.",
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait while another run writes to the library.")]

# Models


_DEVICES = ("auto", "cpu", "cuda", "mps")


def _device(name: str) -> str:
    if name not in _DEVICES and not (name.startswith("cuda:") and name[5:].isdecimal()):
        raise typer.BadParameter(f"{name!r} is not one of auto, cpu, cuda, cuda:N, mps")
    return name


Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        autocompletion=lambda: _DEVICES,
        callback=_device,
        help="Where to encode: auto, cpu, cuda, cuda:N or mps.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="SPEC", autocompletion=completion.models, help="The model; `clipsearch models` lists some."
    ),
]
HeldModel = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="SPEC", autocompletion=completion.held_models, help="Another model in the library."
    ),
]
Template = Annotated[
    Texts,
    typer.Option(
        "--template",
        metavar="TEXT",
        help='A prompt with {} for the label, such as CLIP\'s "a photo of a {}"; repeatable: their embeddings are '
        "averaged. Or simple (7 prompts), openai (80), or @FILE with one per line.",
    ),
]
Arch = Annotated[
    str | None, typer.Option("--arch", metavar="NAME", help="Architecture, for checkpoints that do not record it.")
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust-checkpoint",
        help="Open a TorchScript archive that is not on OpenAI's list. It can run code: only for files you trust.",
    ),
]

# Filters


In = Annotated[
    Texts,
    typer.Option(
        "--in",
        metavar="FOLDER|GLOB",
        help="Only pictures in this folder, or whose path matches; repeatable: any of them.",
    ),
]
Taken = Annotated[
    str | None,
    typer.Option(
        "--taken", metavar="DATE", help="Only pictures taken in 2021, 2021-05, 2021-05-03..2021-06, 2020.. or ..2019."
    ),
]
Camera = Annotated[
    str | None, typer.Option("--camera", metavar="TEXT", help="Only pictures whose camera name contains TEXT.")
]
Near = Annotated[
    str | None,
    typer.Option("--near", metavar="LAT,LON,KM", help="Only pictures taken within KM kilometres of a place."),
]
Format = Annotated[
    Texts,
    typer.Option(
        "--format",
        metavar="NAME",
        autocompletion=lambda: sorted(map(str.lower, FORMATS)),
        help="Only this format: jpeg, png, heic, raw …; repeatable.",
    ),
]
MinSize = Annotated[
    str | None, typer.Option("--min-size", metavar="WxH", help="Only pictures at least this large, in upright pixels.")
]
Landscape = Annotated[bool, typer.Option("--landscape", help="Only pictures wider than tall.")]
Portrait = Annotated[bool, typer.Option("--portrait", help="Only pictures taller than wide.")]
IndexedSince = Annotated[
    str | None,
    typer.Option("--indexed-since", metavar="DATE", help="Only pictures added to the library since this date (UTC)."),
]
State = Annotated[
    HitState | None,
    typer.Option("--state", help="Only intact or only truncated (partial) files; `info --files` lists other states."),
]

# What comes back


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
JsonLines = Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per picture.")]
Null = Annotated[bool, typer.Option("-0", "--null", help="End each path with a zero byte instead of a newline.")]


def folder(path: str | None) -> str | None:
    """Refuse an empty path: most likely an unset variable."""
    if path == "":
        raise typer.BadParameter("the path is empty; write . for the current folder")
    return path


CopyTo = Annotated[
    str | None,
    typer.Option("--copy-to", metavar="FOLDER", callback=folder, help="Copy the pictures there; never overwrites."),
]
LinkTo = Annotated[
    str | None,
    typer.Option(
        "--link-to", metavar="FOLDER", callback=folder, help="Like --copy-to, with symbolic links instead of copies."
    ),
]
Plot = Annotated[
    str | None, typer.Option("--plot", metavar="FILE", help="Draw a plot into a .png or .svg; needs the extra `plot`.")
]
Dark = Annotated[
    bool,
    typer.Option("--dark", help="Dark background. Without it, an SVG follows the viewer's light or dark mode."),
]
