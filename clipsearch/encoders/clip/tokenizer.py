"""Words → token ids, as the model was trained with them. Owns open_clip's tokenizers."""

from __future__ import annotations

import hashlib
import logging
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.clip.bpe import BytePairTokenizer
from clipsearch.encoders.clip.foreign import translated
from clipsearch.encoders.clip.hub import VOCABULARIES
from clipsearch.errors import EncoderError

log = logging.getLogger(__name__)

KEYWORDS = frozenset({"clean", "strip_sep_token"})
"""The `tokenizer_kwargs` in open_clip's own configurations. Others are ignored: transformers would get them, and some
make it run Python code that comes with a model."""

LONGEST_CONTEXT = 16384
"""Tokens, more than any published model reads: open_clip's own configurations end at 77."""

LONG_WORD = 24
"""Characters from which a "word" is probably a sentence in a script without spaces, and is cut inside."""


def describe_tokenizer(config: Mapping[str, Any]) -> dict[str, Any]:
    """What loads a configuration's tokenizer again, JSON-able: kind, context length, options, its repository."""
    text = config["text_cfg"]
    about: dict[str, Any] = {"context_length": text.get("context_length", 77)}
    read_context(about)
    if options := text.get("tokenizer_kwargs"):
        about["options"] = dict(options)
    if not (repo := text.get("hf_tokenizer_name")):
        return {"kind": "bpe", **about}
    if mode := text.get("tokenizer_mode"):
        about["mode"] = mode
    return {"kind": "hf", "repo": repo, **about}


def read_context(about: Mapping[str, Any]) -> int:
    """The context length of a description, in tokens. Raises ValueError for one that would fill the memory."""
    length = int(about["context_length"])
    if not 0 < length <= LONGEST_CONTEXT:
        raise ValueError(f"context_length is {length}, not from 1 to {LONGEST_CONTEXT}")
    return length


def tokenizer_identity(about: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """The part of a description that decides token ids, hence of the fingerprint: files by content, not by name."""
    identity = {name: value for name, value in about.items() if name != "repo"}
    if folder is not None:
        identity["sha256"] = hashlib.sha256(_vocabulary(folder).read_bytes()).hexdigest()
    return identity


def _vocabulary(folder: Path) -> Path:
    """The file of a Hugging Face tokenizer that decides token ids. Raises EncoderError where there is none."""
    found = next((folder / name for name in VOCABULARIES if (folder / name).is_file()), None)
    if found is None:
        raise EncoderError(f"contains no tokenizer ({', '.join(VOCABULARIES)})", path=str(folder))
    return found


class Tokenizer:
    """Texts → int64 ids of shape (n, context), padded and cut as open_clip does.

    `about` is from `describe_tokenizer` or a catalog, and not trusted. `folder`: of a Hugging Face tokenizer; its code
    is never run. `name`: the model's. Every method raises EncoderError where the tokenizer does not work.
    """

    def __init__(self, about: Mapping[str, Any], folder: Path | None = None, *, name: str) -> None:
        self._where = name if folder is None else str(_vocabulary(folder))
        with self._translated():
            given = about.get("options", {})
            options = {word: value for word, value in given.items() if word in KEYWORDS}
            if ignored := sorted(set(given) - KEYWORDS):
                log.warning("%s: these tokenizer_kwargs are ignored: %r", name, ignored)
            self.context_length = read_context(about)
            self._tokenize: Any
            if folder is None:
                self._tokenize = BytePairTokenizer(context_length=self.context_length, **options)
            else:
                from open_clip.tokenizer import HFTokenizer

                self._tokenize = HFTokenizer(
                    str(folder),
                    context_length=self.context_length,
                    tokenizer_mode=about.get("mode"),
                    trust_remote_code=False,
                    **options,
                )

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._where, "its tokenizer does not work")

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        with self._translated():
            return np.asarray(self._tokenize(list(texts)), dtype=np.int64)

    def count(self, text: str) -> int:
        """Tokens of the whole text, the marks of its start and end included."""
        with self._translated():
            return self._count(text)

    def _count(self, text: str) -> int:
        if hasattr(self._tokenize, "encode"):
            return len(self._tokenize.encode(text)) + 2
        return len(self._tokenize.tokenizer(self._tokenize.clean_fn(text)).input_ids)


def overflow(tokenizer: Tokenizer, text: str) -> str:
    """The end of `text` beyond the context, from the first word that does not fit whole; "" if all fits."""
    room = tokenizer.context_length
    if tokenizer.count(text) <= room:
        return ""
    words = list(re.finditer(r"\S+", text))
    fitting = bisect_right(words, room, key=lambda word: tokenizer.count(text[: word.end()]))
    cut, end = words[fitting].span()
    if end - cut > LONG_WORD:
        cut += bisect_right(range(1, end - cut + 1), room, key=lambda n: tokenizer.count(text[: cut + n]))
    return text[cut:]
