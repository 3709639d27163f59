"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Index = Annotated[
    str | None,
    typer.Option(
        "--index",
        metavar="DIR",
        help="The library. Else $CLIPSEARCH_INDEX, else ./index, else the nearest index/ in a folder above.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Null = Annotated[bool, typer.Option("-0", "--null", help="End each path with a zero byte instead of a line's end.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait while another run writes to the library.")]


def _device(name: str) -> str:
    if name not in ("auto", "cpu", "cuda", "mps") and not (name.startswith("cuda:") and name[5:].isdecimal()):
        raise typer.BadParameter(f"{name} is none of auto, cpu, cuda, cuda:N and mps")
    return name


Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="DEVICE", callback=_device, help="Where to encode: auto, cpu, cuda, cuda:N or mps."
    ),
]
Model = Annotated[str | None, typer.Option("--model", metavar="SPEC", help="The model; clipsearch models lists some.")]
Template = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        metavar="TEXT",
        help='A sentence with {} for the label; repeatable, and averaged. CLIP\'s: "a photo of a {}". '
        "Or simple (7 sentences), openai (80), or @FILE with one a line.",
    ),
]
Arch = Annotated[
    str | None, typer.Option("--arch", metavar="NAME", help="The architecture of a checkpoint that cannot say.")
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust-checkpoint",
        help="Open a TorchScript archive that is not on OpenAI's list. It can run code: only for files you trust.",
    ),
]
Plot = Annotated[
    str | None,
    typer.Option("--plot", metavar="FILE", help="Draw it into a .png or .svg; needs the extra `plot`."),
]
Dark = Annotated[
    bool,
    typer.Option("--dark", help="Draw on a dark ground; an SVG else follows the reader's light or dark mode."),
]
