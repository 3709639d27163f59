"""What makes two encoders the same: their model, and how pictures are prepared for it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from clipsearch.images import PIXELS_REVISION


def identified(model: str) -> tuple[str, dict[str, Any]]:
    """The fingerprint of a model (itself known by a SHA-256) with today's preparation, and the details that say so."""
    whole = hashlib.sha256(f"{model} pixels {PIXELS_REVISION}".encode()).hexdigest()
    return whole, {"model": model, "pixels": PIXELS_REVISION}


def same_model(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the details of two encoders name the same model, however pictures were prepared for them."""
    return bool(one["model"] == other["model"])


def is_prepared_as_today(details: Mapping[str, Any]) -> bool:
    """Whether pictures are still prepared as they were when an encoder was recorded."""
    return bool(details.get("pixels", PIXELS_REVISION) == PIXELS_REVISION)
