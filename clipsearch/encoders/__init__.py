"""Encoders turn pictures and words into unit vectors of one space; this module picks one by its spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from clipsearch.encoders.identity import same_model
from clipsearch.encoders.specs import BUILTIN_SPEC, DEFAULT_SPEC, FALLBACK_NOTICE, parse_spec
from clipsearch.errors import EncoderError, ModelMismatchError, OutOfMemoryError, UsageError
from clipsearch.types import Box, EncoderInfo, Seen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.encoders.openclip import OpenClipEncoder
    from clipsearch.images import Picture

__all__ = [
    "BUILTIN_SPEC",
    "DEFAULT_SPEC",
    "Encoder",
    "EncoderOptions",
    "default_spec",
    "encode_halving",
    "load_alone",
    "load_encoder",
    "quantise",
    "refuse_int8",
    "reload_encoder",
]


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """How to load an encoder; nothing in here changes what its vectors mean.

    device: "auto", "cpu", "cuda", "cuda:N" or "mps". arch: the architecture of a checkpoint that cannot say.
    trust_checkpoint: open a TorchScript archive that is not on OpenAI's published list.
    threads: CPU threads of one encode call; 0 leaves it to the runtime.
    """

    device: str = "auto"
    arch: str | None = None
    trust_checkpoint: bool = False
    threads: int = 0


class Encoder(Protocol):
    """Image and text towers with the preprocessing that belongs to them. Each side loads at its first use."""

    @property
    def info(self) -> EncoderInfo: ...

    def prepare(self, picture: Picture, *, box: Box | None = None) -> NDArray[np.uint8]:
        """Pixels as the image tower wants them, before normalisation: uint8 of shape (3, S, S).

        Thread-safe; runs in the decoders. `box` (upright pixels) takes a part of the picture.
        Raises ImageError where the pixels cannot be decoded.
        """
        ...

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed prepared pixels of shape (n, 3, S, S) as unit rows of shape (n, dim).

        Raises OutOfMemoryError where the batch is too large for the device.
        """
        ...

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts as unit rows of shape (n, dim)."""
        ...

    def overflow(self, text: str) -> str:
        """The end of `text` that lies beyond the tower's context and is ignored; "" if all of it counts."""
        ...

    def convert(self) -> None:
        """Put what a later query needs into the cache directory, if it is not there: the text side, ready to open."""
        ...

    def explain(self, vector: NDArray[np.float32]) -> tuple[Seen, ...]:
        """What the encoder saw, from an image vector of shape (dim,); empty where it cannot say (CLIP)."""
        ...


def load_encoder(spec: str, options: EncoderOptions = EncoderOptions()) -> Encoder:
    """The encoder that `spec` names, its fingerprint known (from memory where its files are unchanged).

    Downloads the weights where the spec names a hub's model that is not cached.
    Raises UsageError for a spec that means nothing, or an 8-bit one (see `quantise`), EncoderError and DownloadError.
    """
    parsed = parse_spec(spec)
    if parsed.int8:
        name = parsed.base.name
        raise UsageError(
            f"{spec}: int8 has to see your pictures first: clipsearch index --model {name} --precision int8"
        )
    if parsed.kind == "builtin":
        from clipsearch.encoders.builtin import BuiltinEncoder

        return BuiltinEncoder(options)
    from clipsearch.encoders.openclip import load_open_clip

    return load_open_clip(parsed, options)


def reload_encoder(info: EncoderInfo, options: EncoderOptions = EncoderOptions()) -> Encoder:
    """An encoder that a library recorded, without touching its weights until a side is used.

    Raises, at first use, ModelMismatchError where the spec now resolves to other weights.
    """
    if info.spec != BUILTIN_SPEC:
        from clipsearch.encoders.openclip import reload_open_clip

        return reload_open_clip(info, options)
    from clipsearch.encoders.builtin import BuiltinEncoder

    encoder = BuiltinEncoder(options)
    if not same_model(encoder.info.details, info.details):
        raise ModelMismatchError(
            "this library was made with another version of the built-in encoder; fill it anew: "
            f"clipsearch index --model {BUILTIN_SPEC}"
        )
    return encoder


def quantise(encoder: Encoder, pixels: NDArray[np.uint8]) -> EncoderInfo:
    """The info of `encoder` with its image side in 8 bits, for `reload_encoder`.

    It is rounded by what `pixels`, prepared by the encoder from a sample of the user's own pictures, of shape
    (n, 3, S, S), send through it. Raises UsageError where the encoder has no such form, EncoderError.
    """
    return _with_int8(encoder).quantised(pixels)


def refuse_int8(encoder: Encoder) -> None:
    """Raise UsageError where an encoder is known, without loading it, to have no 8-bit form."""
    from clipsearch.encoders.int8 import may_have_int8

    if not may_have_int8(_with_int8(encoder).info):
        raise UsageError(
            f"--precision int8: {encoder.info.spec} has no 8-bit form, only vision transformers; leave it out"
        )


def _with_int8(encoder: Encoder) -> OpenClipEncoder:
    from clipsearch.encoders.openclip import OpenClipEncoder

    if not isinstance(encoder, OpenClipEncoder):
        raise UsageError(f"--precision int8: {encoder.info.spec} has no 8-bit form; leave it out")
    return encoder


def default_spec() -> tuple[str, str | None]:
    """The spec for a new library, with the reason where it is the fallback (see docs/models.md).

    Raises DownloadError where the hub answers with a failure of its own.
    """
    from clipsearch.encoders import hub

    return hub.default_spec()


def load_alone(model: str | None, options: EncoderOptions | None) -> tuple[Encoder, tuple[str, ...]]:
    """The encoder for work without a library: `model`, or the one that a new library would get.

    The second part says that it is the fallback, where it is. Raises as `load_encoder` and `default_spec`.
    """
    spec, fallback = (model, None) if model is not None else default_spec()
    notices = (f"{FALLBACK_NOTICE} ({fallback}); --model names another",) if fallback else ()
    return load_encoder(spec, options or EncoderOptions()), notices


def encode_halving(encoder: Encoder, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Embed a batch (n, 3, S, S), in halves where the device's memory is too small for it.

    Raises EncoderError where not even one picture fits.
    """
    import numpy as np

    try:
        return encoder.encode_images(pixels)
    except OutOfMemoryError as exc:
        if len(pixels) == 1:
            raise EncoderError("not enough memory on the device for a single picture; try --device cpu") from exc
    half = len(pixels) // 2
    return np.concatenate([encode_halving(encoder, pixels[:half]), encode_halving(encoder, pixels[half:])])
