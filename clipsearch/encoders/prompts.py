"""A fixed set of plain prompts, for measuring an encoder's text side without queries of the user's."""

from __future__ import annotations

from functools import cache
from importlib import resources

TEMPLATE = "a photo of a {label}"


@cache
def imagenet_names() -> tuple[str, ...]:
    """The names of ImageNet's 1,000 classes in their order: open_clip's (a test compares them)."""
    file = resources.files("clipsearch.encoders").joinpath("builtin", "data", "class_names.txt")
    return tuple(file.read_text(encoding="utf-8").splitlines())


def everyday_names(count: int) -> list[str]:
    """`count` names of everyday things and animals, spread over the 1,000 classes of ImageNet, or all of these."""
    names = imagenet_names()
    count = min(count, len(names))
    step = len(names) / count
    return [names[int(i * step)] for i in range(count)]


def everyday(count: int) -> list[str]:
    """As many prompts as `everyday_names` gives names for `count`."""
    return [TEMPLATE.format(label=name) for name in everyday_names(count)]


def others(count: int, *, besides: int) -> list[str]:
    """`count` prompts outside `everyday(besides)`, spread evenly over the rest; all of these if they are fewer."""
    taken = set(everyday_names(besides))
    left = [name for name in dict.fromkeys(imagenet_names()) if name not in taken]
    count = min(count, len(left))
    return [TEMPLATE.format(label=left[i * len(left) // count]) for i in range(count)]
