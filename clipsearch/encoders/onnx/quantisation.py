"""8-bit encoders: the grids that the image side rounds to, and their fingerprints. Imports nothing heavy.

Such an encoder is recorded beside the one it was made from, with the spec `SPEC+int8` and a fingerprint of its own over
that one's and all that decides how numbers are rounded. Its text side is the other's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from clipsearch.encoders.devices import adds_in_32_bits
from clipsearch.encoders.specs import INT8_SUFFIX
from clipsearch.types import EncoderInfo

RECIPE = 1
"""Goes up when the same grids give other vectors."""

LOWEST_COSINE = 0.99
"""What a tower must reach against the same rounding in floating point. Closer they need not be: where a sum differs in
its last bit, some value is rounded the other way, and layer by layer the two go apart as far as rounding takes vectors
at all (.9995 for noise, .9976 at worst for 32 photographs, DINOv2's small vision transformer). On one machine nothing
differs. The tiny checkpoint with 8-bit weights on an emulated processor without VNNI: .983."""

OWN_DETAILS = frozenset({"precision", "base", "int8", "agreement"})
"""The keys of `details` that only an 8-bit encoder has."""

Way = Literal["signed", "unsigned", "float"]
"""How the products are taken: of unsigned by signed bytes, which is fast, but overflows on processors without VNNI
unless weights have 7 bits; of unsigned by unsigned bytes, exact everywhere; of the rounded values in floating point,
slow, to check the others against."""


@dataclass(frozen=True, slots=True)
class Grid:
    """256 evenly spaced values: (level − zero) · step for the levels 0 … 255. `step` is a float32's value."""

    step: float
    zero: int


@dataclass(frozen=True, slots=True)
class Quantisation:
    """How an image side is rounded: the grids of what enters its linear layers, in the order they are written in.

    reduce_range: weights have 7 bits, for processors that add products of bytes in 16 bits.
    """

    reduce_range: bool
    grids: tuple[Grid, ...]

    def fingerprint(self, base: str) -> str:
        """The fingerprint of the encoder `base` rounded in this way."""
        rounding = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(f"int8 {RECIPE}\n{base}\n{rounding}".encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads: floats are written so that they are restored exactly."""
        return {"reduce_range": self.reduce_range, "grids": [[grid.step, grid.zero] for grid in self.grids]}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Quantisation:
        return cls(bool(fields["reduce_range"]), tuple(Grid(float(s), int(z)) for s, z in fields["grids"]))


def quantised_info(base: EncoderInfo, quantisation: Quantisation) -> EncoderInfo:
    """The info of `base` in 8 bits."""
    details = {**base.details, "precision": "int8", "base": base.fingerprint, "int8": quantisation.to_json()}
    fingerprint = quantisation.fingerprint(base.fingerprint)
    return replace(base, spec=base.spec + INT8_SUFFIX, fingerprint=fingerprint, details=details)


def is_int8(info: EncoderInfo) -> bool:
    """Whether an encoder encodes images in 8 bits."""
    return info.details.get("precision") == "int8"


def may_have_int8(info: EncoderInfo) -> bool:
    """Whether an encoder is not in 8 bits but has such a form, as far as its architecture tells without loading it."""
    if info.details.get("family") != "open_clip" or is_int8(info):
        return False
    vision = info.details.get("config", {}).get("vision", {})
    return not isinstance(vision.get("layers"), list) and "timm_model_name" not in vision  # neither ResNet nor timm's


def taken_apart(info: EncoderInfo) -> tuple[EncoderInfo, Quantisation | None]:
    """The fp32 encoder that an info is or comes from, and how it is rounded: the inverse of `quantised_info`."""
    if not is_int8(info):
        return info, None
    details = {key: value for key, value in info.details.items() if key not in OWN_DETAILS}
    base = replace(
        info, spec=info.spec.removesuffix(INT8_SUFFIX), fingerprint=str(info.details["base"]), details=details
    )
    return base, Quantisation.from_json(info.details["int8"])


def product(quantisation: Quantisation) -> Way:
    """The fastest exact way to take products on this processor."""
    return "signed" if quantisation.reduce_range or adds_in_32_bits() else "unsigned"
