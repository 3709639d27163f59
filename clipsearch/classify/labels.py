"""Labels with synonyms, the syntax of label files, and the built-in set; `cli.labels` reads the option."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from clipsearch.encoders import prompts
from clipsearch.errors import UsageError
from clipsearch.types import is_text

IMAGENET = "imagenet"
"""The name of the built-in set."""

SPOKEN = "="
"""Marks the synonym, in a label file, that prompts use instead of the name."""

_COLON = re.compile(r"(?<!\\):\s")
"""Before synonyms. Without a space after it, or with a backslash before it, it is part of a word: 4:3."""


@dataclass(frozen=True, slots=True)
class Label:
    """A class, with synonyms that share its prototype."""

    name: str
    synonyms: tuple[str, ...] = ()
    spoken: str | None = None
    """What prompts use instead of the name, where that differs only to be distinct from another label's."""

    @property
    def words(self) -> tuple[str, ...]:
        """The words that prompts use: the name, then the synonyms."""
        return (self.spoken or self.name, *self.synonyms)


def checked(labels: Iterable[str | Label]) -> tuple[Label, ...]:
    """`labels` as `Label`s.

    Raises UsageError for no labels, an empty one, one that is not UTF-8, and a name that is given twice.
    """
    found = tuple(label if isinstance(label, Label) else Label(label) for label in labels)
    if not found:
        raise UsageError("no labels to choose from; give some as `labels`")
    seen: set[str] = set()
    for label in found:
        if not label.name.strip():
            raise UsageError("a label is empty")
        for word in (label.name, *label.words):
            if not is_text(word):
                raise UsageError(f"the label {word} is not valid UTF-8")
        if label.name in seen:
            raise UsageError(f"the label {label.name!r} is given twice")
        seen.add(label.name)
    return found


def imagenet() -> tuple[Label, ...]:
    """The 1,000 classes of ImageNet in their order, under the names that open_clip gives them.

    Two names are used for two classes each (missile, sunglasses): the second one has a number added.
    """
    labels: dict[str, Label] = {}
    for word in prompts.imagenet_names():
        label = Label(word) if word not in labels else Label(f"{word} (2)", spoken=word)
        labels[label.name] = label
    return tuple(labels.values())


def parse_labels(text: str) -> list[Label]:
    """Labels of a file with one `label: synonym, synonym` per line; `#` begins a comment.

    A synonym with `=` in front is what prompts use instead of the name. `\\:`, `\\#`, `\\,`, `\\=` and `\\\\`
    stand for the characters themselves.
    """
    labels = []
    for line in text.splitlines():
        name, *rest = _split(_split(line, "#")[0], ":")
        label = read_label(name, ":".join(rest))
        if label is not None:
            labels.append(label)
    return labels


def labels_in(value: str) -> list[Label]:
    """The labels that one value of `labels` names: several separated by commas, or one with synonyms after a colon.

    Raises UsageError.
    """
    if not _COLON.search(value):
        return [Label(word) for part in value.split(",") if (word := part.strip().replace("\\:", ":"))]
    name, synonyms = _COLON.split(value, maxsplit=1)
    if re.search(r"(?<!\\),", name):
        raise UsageError(f"`labels` {value}: a label with synonyms is a separate argument; in a name, \\, is a comma")
    label = read_label(name, synonyms)
    if label is None:
        raise UsageError(f"`labels` {value}: no label before the colon")
    return [label]


def read_label(name: str, synonyms: str) -> Label | None:
    """A label from the parts of a `parse_labels` line before and after its colon; None without a name."""
    words = [word for part in _split(synonyms, ",") if (word := part.strip())]
    spoken = [said for word in words if word.startswith(SPOKEN) and (said := word[1:].strip())]
    others = tuple(_unescape(word) for word in words if not word.startswith(SPOKEN))
    name = name.strip()
    return Label(_unescape(name), others, _unescape(spoken[-1]) if spoken else None) if name else None


def format_labels(labels: Sequence[Label]) -> str:
    """The text that `parse_labels` reads as these labels. Raises UsageError for a word with a line break."""
    lines = []
    for label in labels:
        if any(len(word.splitlines()) > 1 for word in (label.name, *label.words)):
            raise UsageError(f"the label {label.name!r} contains a line break; a saved set has one label per line")
        words = [SPOKEN + _escape(label.spoken)] if label.spoken else []
        words += [("\\" if word.startswith(SPOKEN) else "") + _escape(word) for word in label.synonyms]
        lines.append(_escape(label.name) + (f": {', '.join(words)}" if words else ""))
    return "".join(f"{line}\n" for line in lines)


def _split(text: str, mark: str) -> list[str]:
    """`text` split at each `mark` without a backslash before it; escapes stay."""
    ends = [found.start() for found in re.finditer(rf"\\.|{mark}", text, re.DOTALL) if found[0] == mark]
    return [text[start:end] for start, end in zip([0, *(end + 1 for end in ends)], [*ends, None], strict=True)]


_ESCAPED = re.compile(r"\\([:#,=\\])")
_MARK = re.compile(r"([:#,\\])")


def _unescape(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def _escape(text: str) -> str:
    return _MARK.sub(r"\\\1", text)
