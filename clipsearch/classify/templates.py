"""Prompt templates: sentences with a place for the label, and the published sets `simple` and `openai`.

The sets are those of OpenAI's notebook on prompts for ImageNet (github.com/openai/CLIP, notebooks/
Prompt_Engineering_for_ImageNet.ipynb): 80 templates, and 7 that do nearly as well. open_clip carries both as lambdas;
the file with them is run by itself, since importing open_clip imports torch, which takes seconds.
"""

from __future__ import annotations

import importlib.util
import re
import runpy
from collections.abc import Iterable, Sequence
from pathlib import Path

from clipsearch.classify.labels import Label
from clipsearch.errors import EncoderError, UsageError
from clipsearch.types import is_text

PLACE = "{label}"

_PLACES = re.compile(r"\{(?:label)?\}")

NAMED = {"simple": "SIMPLE_IMAGENET_TEMPLATES", "openai": "OPENAI_IMAGENET_TEMPLATES"}
"""The sets by name, with the names of open_clip's variables."""

_SOURCE = "zero_shot_metadata.py"


def expand(templates: Iterable[str], *, default: str) -> tuple[str, ...]:
    """Templates from "…{}…" or "…{label}…", "simple" and "openai"; `default` without any.

    Raises UsageError for a text that has no place for the label or is not UTF-8, EncoderError where open_clip lacks a
    set.
    """
    found: list[str] = []
    for text in templates:
        if text in NAMED:
            found += published(text)
        elif not is_text(text):
            raise UsageError(f"the template {text} is not valid UTF-8")
        elif _PLACES.search(text):
            found.append(_PLACES.sub(PLACE, text))
        else:
            raise UsageError(
                f"the template {text!r} has no {{}} for the label and is not {' or '.join(NAMED)}",
                advice="try 'a photo of a {}'",
            )
    return tuple(found) or (default,)


def fill(template: str, word: str) -> str:
    """The prompt for a word; a {} in the word itself stays."""
    return _PLACES.sub(lambda _: word, template)


def prompts_of(label: Label, templates: Sequence[str]) -> list[str]:
    """Every word of a label in every template."""
    return [fill(template, word) for word in label.words for template in templates]


def published(name: str) -> list[str]:
    """One of the sets in NAMED, from the installed open_clip. Raises EncoderError."""
    spec = importlib.util.find_spec("open_clip")
    templates = call_lambdas(Path(spec.origin).with_name(_SOURCE), NAMED[name]) if spec and spec.origin else []
    if not templates:
        raise EncoderError(
            f'`templates="{name}"`: the installed open_clip has no such set', advice="give the templates themselves"
        )
    return templates


def call_lambdas(path: Path, variable: str) -> list[str]:
    """The templates of `variable = (lambda c: f"a photo of a {c}.", …)` in a Python file; none of anything else."""
    try:
        templates = [make(PLACE) for make in runpy.run_path(str(path))[variable]]
    except (ImportError, KeyError, OSError, SyntaxError, TypeError):
        return []
    return templates if all(PLACE in text for text in templates) else []
