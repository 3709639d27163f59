"""CLIP models through open_clip. This module stays light: torch is imported when a tower is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from clipsearch.encoders.base import Runtime, Towers, same_model
from clipsearch.encoders.cache import remembered
from clipsearch.encoders.clip.sources import Source, locate
from clipsearch.encoders.onnx.quantisation import Quantisation, is_int8, quantised_info, taken_apart
from clipsearch.encoders.specs import ModelSpec, check_device, parse_spec
from clipsearch.errors import ModelMismatchError
from clipsearch.images.sniff import PIXELS_REVISION
from clipsearch.types import Box, EncoderInfo, Preprocess, Seen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from clipsearch.encoders.base import EncoderOptions
    from clipsearch.encoders.clip.runtime import OnnxTowers
    from clipsearch.encoders.clip.tokenizer import Tokenizer
    from clipsearch.images.picture import Picture


FACT = f"encoder-2-{PIXELS_REVISION}"
"""Version of what is remembered about a checkpoint; it changes when the fingerprint or EncoderInfo does."""

TEXT_BATCH = 64


class OpenClipEncoder:
    """An encoder of open_clip's kinds, with its info known and its towers, tokenizer and weights loaded when needed."""

    def __init__(self, info: EncoderInfo, *, towers: Runtime, tokenizer: Callable[[], Tokenizer]) -> None:
        self._info = info
        self._towers = towers
        self._load_tokenizer = tokenizer
        self._tokenizer: Tokenizer | None = None
        self._lock = threading.Lock()

    @property
    def info(self) -> EncoderInfo:
        return self._info

    def prepare(self, picture: Picture, *, box: Box | None = None) -> NDArray[np.uint8]:
        """See Encoder.prepare."""
        return picture.pixels(self._info.preprocess, box=box)

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See Encoder.encode_images."""
        return self._towers.encode_images(batch) if len(batch) else self._no_rows()

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Encoder.encode_texts."""
        import numpy as np

        if not texts:
            return self._no_rows()
        with self._lock:  # Hugging Face's tokenizers refuse two threads at once
            tokenizer = self._ready_tokenizer()
            tokens = [tokenizer(texts[start : start + TEXT_BATCH]) for start in range(0, len(texts), TEXT_BATCH)]
        return np.concatenate([self._towers.encode_tokens(batch) for batch in tokens])

    def overflow(self, text: str) -> str:
        """See Encoder.overflow."""
        from clipsearch.encoders.clip.tokenizer import overflow

        with self._lock:
            return overflow(self._ready_tokenizer(), text)

    def convert(self) -> None:
        """See Encoder.convert."""
        self._towers.convert()

    def quantised(self, pixels: NDArray[np.uint8]) -> EncoderInfo:
        """See encoders.quantise."""
        if is_int8(self._info):
            return self._info
        return quantised_info(self._info, self._towers.calibrated(pixels))

    def explain(self, vector: NDArray[np.float32]) -> tuple[Seen, ...]:
        """Nothing: CLIP cannot say what it saw."""
        return ()

    def _ready_tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            self._tokenizer = self._load_tokenizer()
        return self._tokenizer

    def _no_rows(self) -> NDArray[np.float32]:
        import numpy as np

        return np.empty((0, self._info.dim), dtype=np.float32)


class _Loader:
    """Builds a model's module, checks it against the info that a library recorded, and hands it out once a side."""

    def __init__(self, spec: ModelSpec, options: EncoderOptions, *, expected: EncoderInfo | None = None) -> None:
        check_device(options.device)
        self._spec = spec
        self._options = options
        self._expected = expected
        self._source: Source | None = None
        self._module: nn.Module | None = None
        self._lock = threading.RLock()

    def info(self) -> EncoderInfo:
        """The info of what the spec resolves to now: from memory where its files are unchanged, else worked out.

        Raises ModelMismatchError where that is not what was expected.
        """
        source = self._located()

        def work_out(_: object) -> dict[str, Any]:
            return info_to_json(self._assemble(source))

        known = info_from_json(remembered(source.weights, source.kind(FACT), work_out))
        info = replace(known, spec=self._spec.name, details={**known.details, **source.facts()})
        expected = self._expected
        if expected is not None and not same_model(info.details, expected.details):
            raise ModelMismatchError(
                f"{self._spec.name} now has other weights, or other settings, than this library was made with; "
                "give the old ones' path with --model, or fill anew: clipsearch index --model " + self._spec.name
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
        with self._lock:
            if self._expected is not None:
                self.info()
            if self._module is None:
                self._assemble(self._located())
            module, self._module = self._module, None
            assert module is not None
            return module

    def tokenizer(self) -> Tokenizer:
        from clipsearch.encoders.clip.tokenizer import Tokenizer

        about = (self._expected or self.info()).details["tokenizer"]
        if about["kind"] != "hf":
            return Tokenizer(about)
        from clipsearch.encoders.clip.assembly import tokenizer_folder

        return Tokenizer(about, tokenizer_folder(self._located(), about))

    def _located(self) -> Source:
        with self._lock:
            if self._source is None:
                self._source = locate(self._spec, arch=self._options.arch)
            return self._source

    def _assemble(self, source: Source) -> EncoderInfo:
        from clipsearch.encoders.clip.assembly import assemble

        assembled = assemble(source, trust=self._options.trust_checkpoint)
        self._module = assembled.model
        return assembled.info


class _LazyTorchTowers:
    """Imports torch with the first picture or text that is left to it."""

    def __init__(self, loader: _Loader, preprocess: Preprocess, options: EncoderOptions) -> None:
        self._loader, self._preprocess, self._options = loader, preprocess, options
        self._lock = threading.Lock()
        self._towers: Towers | None = None

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._ready().encode_images(batch)

    def encode_tokens(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._ready().encode_tokens(tokens)

    def _ready(self) -> Towers:
        with self._lock:
            if self._towers is None:
                from clipsearch.encoders.clip.torch_towers import TorchTowers

                options = self._options
                self._towers = TorchTowers(
                    self._loader.module, self._preprocess, device=options.device, threads=options.threads
                )
            return self._towers


class _LazyTowers:
    """ONNX Runtime for texts, and for pictures on a CPU; torch for pictures on a GPU, and to convert, once."""

    def __init__(
        self, loader: _Loader, info: EncoderInfo, options: EncoderOptions, *, int8: Quantisation | None = None
    ) -> None:
        self._loader, self._info, self._options, self._int8 = loader, info, options, int8
        self._lock = threading.Lock()
        self._towers: OnnxTowers | None = None

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._ready().encode_images(batch)

    def encode_tokens(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._ready().encode_tokens(tokens)

    def convert(self) -> None:
        self._ready().convert()

    def calibrated(self, pixels: NDArray[np.uint8]) -> Quantisation:
        return self._ready().calibrated(pixels)

    def _ready(self) -> OnnxTowers:
        with self._lock:
            if self._towers is None:
                from clipsearch.encoders.clip.runtime import OnnxTowers

                self._loader.verify()
                torch = _LazyTorchTowers(self._loader, self._info.preprocess, self._options)
                self._towers = OnnxTowers(
                    self._loader.module,
                    self._info,
                    torch=torch,
                    device=self._options.device,
                    threads=self._options.threads,
                    int8=self._int8,
                )
            return self._towers


def load_open_clip(spec: ModelSpec, options: EncoderOptions) -> OpenClipEncoder:
    """The encoder that a parsed spec names; downloads, reads and fingerprints what is not remembered."""
    loader = _Loader(spec, options)
    info = loader.info()
    return OpenClipEncoder(info, towers=_LazyTowers(loader, info, options), tokenizer=loader.tokenizer)


def reload_open_clip(info: EncoderInfo, options: EncoderOptions) -> OpenClipEncoder:
    """The encoder that a library recorded; its files are looked at when a side is first used."""
    options = replace(options, arch=info.details.get("given_arch"))  # another model's --arch is none of its business
    base, int8 = taken_apart(info)
    loader = _Loader(parse_spec(base.spec), options, expected=base)
    return OpenClipEncoder(info, towers=_LazyTowers(loader, base, options, int8=int8), tokenizer=loader.tokenizer)


def info_to_json(info: EncoderInfo) -> dict[str, Any]:
    """JSON-able form of an EncoderInfo."""
    return asdict(replace(info, details=dict(info.details)))


def info_from_json(fields: dict[str, Any]) -> EncoderInfo:
    """The EncoderInfo that `info_to_json` took apart."""
    pixels = dict(fields["preprocess"])
    pixels["mean"], pixels["std"] = tuple(pixels["mean"]), tuple(pixels["std"])
    return EncoderInfo(**{**fields, "preprocess": Preprocess(**pixels)})
