"""Which options of `clipsearch classify` make no sense together."""

from __future__ import annotations

import typer

from clipsearch.errors import UsageError

NEEDS = {
    "--blend": "--examples",
    "--replace": "--save",
    "--threshold": "--multi",
    "--margin": "--unknown",
    "--dark": "--plot",
}
"""Options that only modify another one."""

MADE = ("--labels", "--template", "--examples", "--blend", "--save")
"""Options that make a classifier, which --use does not."""

FORMATS = ("--json", "--jsonl", "--csv")

RESULTS = ("--multi", "--unknown", "--explain", "-k", *FORMATS, "--plot", "--copy-to", "--link-to")
"""Options about a result, which --save without pictures does not have."""


def check(context: typer.Context) -> None:
    """Raise UsageError for options of the command line that contradict one another."""
    given = {
        parameter.opts[0]
        for parameter in context.command.params
        if (source := context.get_parameter_source(parameter.name or "")) and source.name == "COMMANDLINE"
    }
    if len(given.intersection(FORMATS)) > 1:
        raise UsageError("--json, --jsonl and --csv exclude one another")
    if "--use" in given and given.intersection(MADE):
        raise UsageError(f"--use takes a classifier unchanged: leave out {', '.join(MADE)}")
    if not given & {"--labels", "--examples", "--use"}:
        raise UsageError("no labels to choose from; give some: --labels cat dog")
    for option, other in NEEDS.items():
        if option in given and other not in given:
            raise UsageError(f"{option} is for {other}")
    if {"--in", "images"} <= given:
        raise UsageError("--in narrows the library; name pictures or --in, not both")
    results = [option for option in RESULTS if option in given]
    if "--save" in given and results and not given & {"--in", "images"}:
        raise UsageError(
            f"--save without IMAGES classifies nothing: leave out {', '.join(results)}, or name pictures, or --in"
        )
