"""CLIP models through open_clip. This module stays light: torch is imported when a side is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from clipsearch.encoders.base import EncoderOptions, preprocess_from_json, preprocess_json, same_model
from clipsearch.encoders.cache import remembered
from clipsearch.encoders.clip.foreign import translated
from clipsearch.encoders.clip.sources import ModelFiles, locate
from clipsearch.encoders.onnx.quantisation import is_int8, quantised_info, taken_apart
from clipsearch.encoders.specs import ModelSpec, check_device, parse_spec
from clipsearch.errors import EncoderError, ModelMismatchError, OutOfMemoryError
from clipsearch.images.sniff import PIXELS_REVISION
from clipsearch.types import EncoderInfo, Seen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from clipsearch.encoders.clip.assembly import Assembled
    from clipsearch.encoders.clip.runtime import Runtime
    from clipsearch.encoders.clip.tokenizer import Tokenizer


FACT = f"encoder-2-{PIXELS_REVISION}"
"""Version of what is remembered about a checkpoint; it changes when the fingerprint or EncoderInfo does."""

TEXT_BATCH = 64


class OpenClipEncoder:
    """An encoder of open_clip's kinds: its info is known, its tokenizer and sides load at their first use.

    One lock guards whatever loads; what is loaded does not wait for it: texts go on while the image side loads. Another
    one guards tokenizing: Hugging Face's tokenizers refuse two threads at once. Encoding runs outside both.
    """

    def __init__(self, info: EncoderInfo, loader: Loader) -> None:
        self.info = info
        self._loader = loader
        self._loading = threading.Lock()
        self._tokenizing = threading.Lock()

    def load_images(self) -> None:
        """See Encoder.load_images."""
        _ = self._images

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See Encoder.encode_images."""
        if not len(batch):
            return self._no_rows()
        return self._images(batch)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Encoder.encode_texts."""
        import numpy as np

        if not texts:
            return self._no_rows()
        tokenizer = self._tokenizer
        with self._tokenizing:
            tokens = [tokenizer(texts[start : start + TEXT_BATCH]) for start in range(0, len(texts), TEXT_BATCH)]
        encode = self._texts
        try:
            return np.concatenate([encode(batch) for batch in tokens])
        except OutOfMemoryError:
            raise
        except EncoderError as exc:  # its weights have been checked: what fails is a token
            raise EncoderError(f"its tokenizer does not fit it ({exc.reason})", path=self.info.spec) from exc

    def overflow(self, text: str) -> str:
        """See Encoder.overflow."""
        from clipsearch.encoders.clip.tokenizer import overflow

        tokenizer = self._tokenizer
        with self._tokenizing:
            return overflow(tokenizer, text)

    def convert(self) -> None:
        """See Encoder.convert."""
        _ = self._texts

    def quantised(self, pixels: NDArray[np.uint8]) -> EncoderInfo:
        """See Encoder.quantised."""
        if is_int8(self.info):
            return self.info
        with self._loading:
            return quantised_info(self.info, self._runtime.calibrated(pixels))

    def explain(self, vector: NDArray[np.float32]) -> tuple[Seen, ...]:
        """Nothing: CLIP has no list of concepts that it could name."""
        return ()

    @cached_property
    def _images(self) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        with self._loading:
            return self._runtime.images

    @cached_property
    def _texts(self) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
        with self._loading:
            return self._runtime.texts

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        with self._loading, translated(self.info.spec, "its tokenizer is not described correctly"):
            return self._loader.tokenizer(self.info.details["tokenizer"])

    @cached_property
    def _runtime(self) -> Runtime:
        """To be used with the lock only."""
        from clipsearch.encoders.clip.runtime import Runtime

        self._loader.verify()
        base, int8 = taken_apart(self.info)
        return Runtime(self._loader.module, base, self._loader.options, int8=int8)

    def _no_rows(self) -> NDArray[np.float32]:
        import numpy as np

        return np.empty((0, self.info.dim), dtype=np.float32)


class Loader:
    """Builds a model's module, checks it against the info that a library recorded, and hands it out once per side.

    For one thread at a time.
    """

    def __init__(self, spec: ModelSpec, options: EncoderOptions, *, expected: EncoderInfo | None = None) -> None:
        check_device(options.device)
        self.options = options
        self._spec = spec
        self._expected = expected
        self._module: nn.Module | None = None

    @cached_property
    def _source(self) -> ModelFiles:
        return locate(self._spec, arch=self.options.arch)

    def info(self) -> EncoderInfo:
        """The info of what the spec resolves to now: from memory where its files are unchanged, else worked out.

        Raises ModelMismatchError where that is not what was expected.
        """
        source = self._source
        fact = remembered(source.weights, source.kind(FACT), lambda _: info_to_json(self._assemble().info))
        known = info_from_json(fact)
        info = replace(known, spec=self._spec.name, details={**known.details, **source.facts()})
        expected = self._expected
        if expected is not None and not same_model(info.details, expected.details):
            raise ModelMismatchError(
                f"{self._spec.name} now has other weights, or other settings, than this library was made with",
                advice="give the old ones' path as `model`, or index again with this model",
            )
        return info

    def verify(self) -> None:
        """Raise ModelMismatchError where the spec's files, if they are on this machine, are not those recorded."""
        from clipsearch.encoders.clip.hub import is_cached

        path = self._spec.path
        if self._expected is not None and (is_cached(self._spec.name) if path is None else path.is_file()):
            self.info()

    def module(self) -> nn.Module:
        """A module for one side to keep its half of."""
        if self._expected is not None:
            self.info()
        module = self._assemble().model if self._module is None else self._module
        self._module = None
        return module

    def tokenizer(self, about: Mapping[str, Any]) -> Tokenizer:
        """The tokenizer that `describe_tokenizer` describes."""
        from clipsearch.encoders.clip.tokenizer import Tokenizer

        if about["kind"] != "hf":
            return Tokenizer(about, name=self._spec.name)
        from clipsearch.encoders.clip.assembly import tokenizer_folder

        return Tokenizer(about, tokenizer_folder(self._source, about), name=self._spec.name)

    def _assemble(self) -> Assembled:
        from clipsearch.encoders.clip.assembly import assemble

        assembled = assemble(self._source, trust=self.options.trust_checkpoint)
        self._module = assembled.model
        return assembled


def load_open_clip(spec: ModelSpec, options: EncoderOptions) -> OpenClipEncoder:
    """The encoder that a parsed spec names; downloads, reads and fingerprints what is not remembered."""
    loader = Loader(spec, options)
    return OpenClipEncoder(loader.info(), loader)


def reload_open_clip(info: EncoderInfo, options: EncoderOptions) -> OpenClipEncoder:
    """The encoder that a library recorded; its files are looked at when a side is first used."""
    options = replace(options, arch=info.details.get("given_arch"))  # `arch` may be meant for another model
    base, _ = taken_apart(info)
    return OpenClipEncoder(info, Loader(parse_spec(base.spec), options, expected=base))


def info_to_json(info: EncoderInfo) -> dict[str, Any]:
    """What is remembered of an EncoderInfo, JSON-able. The keys are stored: they stay when fields are renamed."""
    return {
        "spec": info.spec,
        "fingerprint": info.fingerprint,
        "dim": info.dim,
        "logit_scale": info.logit_scale,
        "logit_bias": info.logit_bias,
        "preprocess": preprocess_json(info.preprocess),
        "is_clip": info.is_clip,
        "template": info.template,
        "details": dict(info.details),
    }


def info_from_json(stored: Mapping[str, Any]) -> EncoderInfo:
    """The EncoderInfo that `info_to_json` took apart."""
    return EncoderInfo(
        spec=stored["spec"],
        fingerprint=stored["fingerprint"],
        dim=stored["dim"],
        logit_scale=stored["logit_scale"],
        logit_bias=stored["logit_bias"],
        preprocess=preprocess_from_json(stored["preprocess"]),
        is_clip=stored["is_clip"],
        template=stored["template"],
        details=stored["details"],
    )
