"""Labels: classes with other words for them, as files and people write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from clipsearch import prompts
from clipsearch.errors import UsageError

IMAGENET = "imagenet"
"""The name of the built-in set."""


@dataclass(frozen=True, slots=True)
class Label:
    """A class, with other words for it that share its prototype."""

    name: str
    synonyms: tuple[str, ...] = ()
    spoken: str | None = None
    """What prompts say for the name, where that had to be told apart from another label's."""

    @property
    def words(self) -> tuple[str, ...]:
        """What prompts say: the name, then the synonyms."""
        return (self.spoken or self.name, *self.synonyms)


def checked(labels: Iterable[str | Label]) -> tuple[Label, ...]:
    """`labels` as such. Raises UsageError for none, for an empty one and for a name that is given twice."""
    found = tuple(label if isinstance(label, Label) else Label(label) for label in labels)
    if not found:
        raise UsageError("no labels to choose from; give some: --labels cat dog")
    seen: set[str] = set()
    for label in found:
        if not label.name.strip():
            raise UsageError("a label is empty")
        if label.name in seen:
            raise UsageError(f"the label {label.name!r} is given twice")
        seen.add(label.name)
    return found


def imagenet() -> tuple[Label, ...]:
    """The 1,000 classes of ImageNet in their order, under the names that open_clip gives them.

    Two names are those of two classes each (missile, sunglasses): the second is told apart by a number.
    """
    labels: dict[str, Label] = {}
    for word in prompts.imagenet_names():
        label = Label(word) if word not in labels else Label(f"{word} (2)", spoken=word)
        labels[label.name] = label
    return tuple(labels.values())


def parse_labels(text: str) -> list[Label]:
    """Labels of a file or an argument's lines: `label: synonym, synonym` a line, `#` begins a comment.

    `\\:`, `\\#`, `\\,` and `\\\\` stand for the characters themselves.
    """
    labels = []
    for line in text.splitlines():
        parts = _split(_split(line, "#")[0], ":")
        words = [part.strip() for part in _split(":".join(parts[1:]), ",")] if len(parts) > 1 else []
        name = parts[0].strip()
        if name:
            labels.append(Label(_unescape(name), tuple(_unescape(w) for w in words if w)))
    return labels


def format_labels(labels: Sequence[Label]) -> str:
    """What `parse_labels` reads as these labels. Raises UsageError for a name that goes over a line."""
    lines = []
    for label in labels:
        if any(len(word.splitlines()) > 1 for word in label.words):
            raise UsageError(f"the label {label.name!r} goes over a line's end; a saved set has one a line")
        words = f": {', '.join(_escape(word) for word in label.synonyms)}" if label.synonyms else ""
        lines.append(_escape(label.name) + words)
    return "".join(f"{line}\n" for line in lines)


def _split(text: str, mark: str) -> list[str]:
    """`text` cut at each `mark` that no backslash stands before; escapes stay."""
    parts, start, i = [], 0, 0
    while i < len(text):
        if text[i] == "\\":
            i += 2
            continue
        if text[i] == mark:
            parts.append(text[start:i])
            start = i + 1
        i += 1
    parts.append(text[start:])
    return parts


_ESCAPED = re.compile(r"\\([:#,\\])")
_MARK = re.compile(r"([:#,\\])")


def _unescape(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def _escape(text: str) -> str:
    return _MARK.sub(r"\\\1", text)
