"""Words → token ids, as the model was trained with them. Owns open_clip's tokenizers."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.clip.bpe import BytePairTokenizer
from clipsearch.encoders.clip.hub import VOCABULARIES
from clipsearch.errors import EncoderError

LONG_WORD = 24
"""Characters from which a "word" is probably a sentence in a script without spaces, and is cut inside."""


def describe_tokenizer(config: Mapping[str, Any]) -> dict[str, Any]:
    """What loads a configuration's tokenizer again, JSON-able: kind, context length, options, its repository."""
    text = config["text_cfg"]
    about: dict[str, Any] = {"context_length": text.get("context_length", 77)}
    if options := text.get("tokenizer_kwargs"):
        about["options"] = dict(options)
    if not (repo := text.get("hf_tokenizer_name")):
        return {"kind": "bpe", **about}
    if mode := text.get("tokenizer_mode"):
        about["mode"] = mode
    return {"kind": "hf", "repo": repo, **about}


def tokenizer_identity(about: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """The part of a description that decides token ids, hence of the fingerprint: files by content, not by name."""
    identity = {name: value for name, value in about.items() if name != "repo"}
    if folder is not None:
        found = next((folder / name for name in VOCABULARIES if (folder / name).is_file()), None)
        if found is None:
            raise EncoderError(f"contains no tokenizer ({', '.join(VOCABULARIES)})", path=str(folder))
        identity["sha256"] = hashlib.sha256(found.read_bytes()).hexdigest()
    return identity


class Tokenizer:
    """Texts → int64 ids of shape (n, context), padded and cut as open_clip does; `folder` for Hugging Face's kinds."""

    def __init__(self, about: Mapping[str, Any], folder: Path | None = None) -> None:
        options = dict(about.get("options", {}))
        self.context_length = int(about["context_length"])
        self._tokenize: Any
        if about["kind"] == "bpe" and not set(options) - {"clean"}:
            self._tokenize = BytePairTokenizer(context_length=self.context_length, **options)
        elif about["kind"] == "bpe":
            from open_clip.tokenizer import SimpleTokenizer

            self._tokenize = SimpleTokenizer(context_length=self.context_length, **options)
        else:
            from open_clip.tokenizer import HFTokenizer

            self._tokenize = HFTokenizer(
                str(folder), context_length=self.context_length, tokenizer_mode=about.get("mode"), **options
            )

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        return np.asarray(self._tokenize(list(texts)), dtype=np.int64)

    def count(self, text: str) -> int:
        """Tokens of the whole text, the marks of its start and end included."""
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
