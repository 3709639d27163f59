"""CLIP's byte-pair tokenizer, without open_clip and torch: ready in about 10 ms, most of it to unpack its table.

Byte-pair encoding after Sennrich et al. 2016 (arXiv:1508.07909), on bytes as GPT-2 has it; the table is the one that
open_clip's package carries.
"""

from __future__ import annotations

import functools
import gzip
import itertools
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.clip.hub import open_clip_file
from clipsearch.errors import EncoderError

TABLE = "bpe_simple_vocab_16e6.txt.gz"
MERGES = 49152 - 256 - 2
"""Merges that count; the table has more. Ids: 256 bytes, 256 bytes that end a word, the merges, two marks."""
LINE = 16
"""Bytes that are read for each merge; those that count take 10.7 on average, and the rest of the table is longer."""
START, END = 512 + MERGES, 512 + MERGES + 1
SPECIAL = {"<start_of_text>": START, "<end_of_text>": END}

CLEANINGS = ("lower", "whitespace", "canonicalize")
"""How a text is normalised before it is split: names that open_clip's configurations use."""

# Plain text that no repair changes: no entities, no control characters, nothing beyond ASCII.
_PLAIN = re.compile(r"[ -%'-~\t\n\r]*")
_PLAIN_WORDS = re.compile(
    r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+", re.IGNORECASE
)
_PUNCTUATION = str.maketrans("", "", "!\"#$%&'()*+,-./:;<=>?@[\\]^`{|}~")


class BytePairTokenizer:
    """Texts → int64 ids of shape (n, context), padded with zeros, and truncated where they are too long.

    Gives open_clip's ids (its SimpleTokenizer, without reduction masks). Raises EncoderError without its table.
    """

    def __init__(self, *, context_length: int = 77, clean: str = "lower") -> None:
        if clean not in CLEANINGS:
            raise ValueError(f"unknown cleaning {clean!r}")
        self.context_length = context_length
        self._clean = clean

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        rows = np.zeros((len(texts), self.context_length), np.int64)
        for row, text in zip(rows, texts, strict=True):
            ids = [START, *self.encode(text), END][: self.context_length]
            ids[-1] = END
            row[: len(ids)] = ids
        return rows

    def encode(self, text: str) -> list[int]:
        """Ids of the whole text, without the marks of its start and end."""
        text = self._cleaned(text)
        words = _PLAIN_WORDS.findall(text) if text.isascii() else _words().findall(text)
        return [number for word in words for number in _pieces(word)]

    def _cleaned(self, text: str) -> str:
        if not _PLAIN.fullmatch(text):
            import html

            import ftfy

            text = html.unescape(html.unescape(ftfy.fix_text(text)))
        if self._clean == "canonicalize":
            text = text.strip().replace("_", " ").translate(_PUNCTUATION).lower()
        text = " ".join(text.split())
        return text.lower() if self._clean == "lower" else text


@functools.cache
def _words() -> re.Pattern[str]:
    """Matches the words that a text is split into, in any script."""
    import regex

    pattern = r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    compiled: re.Pattern[str] = regex.compile(pattern, regex.IGNORECASE)
    return compiled


@functools.cache
def _ranks() -> dict[str, int]:
    """The merges, "left right", by rank: the lower one goes first."""
    path = open_clip_file(TABLE)
    try:
        with gzip.open(path) as file:
            lines = file.read(MERGES * LINE).decode("utf-8", errors="ignore").split("\n", MERGES + 1)
    except (OSError, EOFError) as exc:
        raise EncoderError(f"cannot be read ({exc})", path=str(path), advice="install open-clip-torch again") from exc
    return dict(zip(lines[1 : MERGES + 1], range(MERGES), strict=True))


@functools.cache
def _letters() -> dict[int, str]:
    """The character that stands for each byte in the table: itself if it is visible, otherwise one from U+0100 on."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


@functools.cache
def _single() -> dict[str, int]:
    """Ids of the pieces that no merge makes: bytes, inside a word and at its end."""
    letters = list(_letters().values())
    return {letter: i for i, letter in enumerate(letters)} | {f"{c}</w>": 256 + i for i, c in enumerate(letters)}


@functools.lru_cache(maxsize=50_000)
def _pieces(word: str) -> tuple[int, ...]:
    """Ids of one word: its bytes, merged pair by pair, the pair of lowest rank first."""
    if word in SPECIAL:
        return (SPECIAL[word],)
    letters, ranks, single = _letters(), _ranks(), _single()
    parts = [letters[byte] for byte in word.encode("utf-8")]
    parts[-1] += "</w>"
    ids = [single[part] for part in parts]
    while len(parts) > 1:
        found = [ranks.get(f"{a} {b}", MERGES) for a, b in itertools.pairwise(parts)]
        rank = min(found)
        if rank == MERGES:
            break
        i = 0
        pair = parts[found.index(rank)], parts[found.index(rank) + 1]
        while i < len(parts) - 1:
            if (parts[i], parts[i + 1]) == pair:
                parts[i : i + 2] = [pair[0] + pair[1]]
                ids[i : i + 2] = [512 + rank]
            i += 1
    return tuple(ids)
