"""A fixed set of plain prompts: what an encoder's text side is tried with where nobody has asked anything yet."""

from __future__ import annotations

from importlib import resources

TEMPLATE = "a photo of a {label}"


def everyday(count: int) -> list[str]:
    """`count` prompts that name everyday things and animals, spread over the 1,000 classes of ImageNet."""
    names = (
        resources.files("clipsearch.encoders")
        .joinpath("builtin_data", "class_names.txt")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    step = len(names) / count
    return [TEMPLATE.format(label=names[int(i * step)]) for i in range(count)]
