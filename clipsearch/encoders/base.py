"""What an encoder is: the protocol, the options to load one, what identifies it, and batches too large for memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from clipsearch.errors import EncoderError, OutOfMemoryError
from clipsearch.images.sniff import PIXELS_REVISION
from clipsearch.types import EncoderInfo, Preprocess, Seen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """How to load an encoder. None of it changes what its vectors mean.

    device: "auto", "cpu", "cuda", "cuda:N" or "mps". arch: the architecture, for checkpoints that do not record it.
    trust_checkpoint: open a TorchScript archive that is not on OpenAI's published list.
    threads: CPU threads of one encode call; 0 leaves it to the runtime.
    """

    device: str = "auto"
    arch: str | None = None
    trust_checkpoint: bool = False
    threads: int = 0


class Encoder(Protocol):
    """Image and text towers with their preprocessing. Each side loads at its first use."""

    @property
    def info(self) -> EncoderInfo: ...

    def load_images(self) -> None:
        """Load the image side now, rather than at its first use."""
        ...

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed pixels (`Picture.pixels`) of shape (n, 3, S, S) as unit rows of shape (n, dim).

        Raises OutOfMemoryError where the batch is too large for the device.
        """
        ...

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts as unit rows of shape (n, dim)."""
        ...

    def overflow(self, text: str) -> str:
        """The end of `text` beyond the tower's context, which is ignored; "" if all of it counts."""
        ...

    def convert(self) -> None:
        """Put what a later query needs into the cache directory, unless it is there: the text side, ready to open."""
        ...

    def quantised(self, pixels: NDArray[np.uint8]) -> EncoderInfo:
        """The info of this encoder with its image side in 8 bits, for `encoders.load.reload_encoder`.

        Calibrated with `pixels` of shape (n, 3, S, S), prepared from a sample of the user's images. Raises UsageError
        where the encoder has no such form, EncoderError.
        """
        ...

    def explain(self, vector: NDArray[np.float32]) -> tuple[Seen, ...]:
        """What the encoder recognised, from an image vector of shape (dim,); empty for CLIP, which cannot tell."""
        ...


def encode_halving(encoder: Encoder, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Embed a batch (n, 3, S, S), in halves if the device's memory is too small for it.

    Raises EncoderError if not even one image fits.
    """
    import numpy as np

    try:
        return encoder.encode_images(pixels)
    except OutOfMemoryError as exc:
        if len(pixels) == 1:
            raise EncoderError(
                "not enough memory on the device for a single image", advice='try `device="cpu"`'
            ) from exc
    half = len(pixels) // 2
    return np.concatenate([encode_halving(encoder, pixels[:half]), encode_halving(encoder, pixels[half:])])


def identified(model: str) -> tuple[str, dict[str, Any]]:
    """The fingerprint of a model (a SHA-256) with today's decoding of pixels, and the details that record both."""
    whole = hashlib.sha256(f"{model} pixels {PIXELS_REVISION}".encode()).hexdigest()
    return whole, {"model": model, "pixels": PIXELS_REVISION}


def same_model(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the details of two encoders name the same model, however images were decoded for them."""
    return bool(one["model"] == other["model"])


def is_prepared_as_today(details: Mapping[str, Any]) -> bool:
    """Whether images are still decoded as they were when an encoder was recorded."""
    return bool(details.get("pixels", PIXELS_REVISION) == PIXELS_REVISION)


def preprocess_json(preprocess: Preprocess) -> dict[str, Any]:
    """JSON-able form. Keys and their order are stored and part of fingerprints: they stay when fields are renamed."""
    return {
        "size": preprocess.size,
        "resize": preprocess.resize,
        "interpolation": preprocess.interpolation,
        "mean": preprocess.mean,
        "std": preprocess.std,
        "crop": preprocess.crop,
        "fill": preprocess.fill,
    }


def preprocess_from_json(stored: Mapping[str, Any]) -> Preprocess:
    """What `preprocess_json` took apart."""
    return Preprocess(
        size=stored["size"],
        resize=stored["resize"],
        interpolation=stored["interpolation"],
        mean=tuple(stored["mean"]),
        std=tuple(stored["std"]),
        crop=stored["crop"],
        fill=stored["fill"],
    )
