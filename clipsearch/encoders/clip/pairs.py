"""open_clip's table of published checkpoints: where a pair is on the hub, and its preprocessing."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import open_clip
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

from clipsearch.encoders.known import companions
from clipsearch.encoders.specs import OPENAI_MODELS, PICKLED_WEIGHTS
from clipsearch.errors import EncoderError, UsageError
from clipsearch.types import Preprocess


@dataclass(frozen=True, slots=True)
class Pair:
    """A published checkpoint: hub repository, file name, and open_clip's preprocessing settings.
    `companions` are the repositories of a Hugging Face tokenizer or text tower."""

    repo: str
    file: str
    pixels: Mapping[str, Any]
    companions: tuple[str, ...] = ()


def published_pair(arch: str, tag: str) -> Pair:
    """Look a pair up.

    Raises UsageError where open_clip has no such pair, or where the checkpoint was trained with another activation
    than the architecture has: open_clip only warns, and ImageNet accuracy falls from 62.9 to 60.2 %.
    """
    if arch not in open_clip.list_models():
        raise UsageError(f'`model="{arch}/{tag}"`: unknown open_clip architecture {arch}', advice=_similar(arch))
    entry = get_pretrained_cfg(arch, tag)
    if not entry:
        tags = ", ".join(list_pretrained_tags_by_model(arch)) or "none"
        raise UsageError(f'`model="{arch}/{tag}"`: {arch} has no tag {tag}', advice=f"published: {tags}")
    _check_activation(arch, tag, entry)
    repo, _, file = str(entry.get("hf_hub", "")).rpartition("/")
    if not repo:
        advice = f"download {entry.get('url')} and give its path"
        raise EncoderError(f'`model="{arch}/{tag}"`: not on the hub', advice=advice)
    text = (open_clip.get_model_config(arch) or {}).get("text_cfg", {})
    return Pair(repo, file or PICKLED_WEIGHTS, entry, companions(text))


def _similar(arch: str) -> str:
    close = difflib.get_close_matches(arch, open_clip.list_models(), n=1)
    return f"did you mean {close[0]}?" if close else ""


def _check_activation(arch: str, tag: str, entry: Mapping[str, Any]) -> None:
    config = open_clip.get_model_config(arch) or {}
    trained, built = bool(entry.get("quick_gelu")), bool(config.get("quick_gelu"))
    other = arch.removesuffix("-quickgelu") if built else f"{arch}-quickgelu"
    if trained == built or other not in open_clip.list_models():
        return
    names = [name for name, model in OPENAI_MODELS.items() if model.arch == other and tag == "openai"]
    right = " or ".join([*names, f"{other}/{tag}"])
    activation = "QuickGELU" if trained else "GELU"
    raise UsageError(f'`model="{arch}/{tag}"`: trained with {activation}', advice=f"its name is {right}")


def pixels_of(arch: str | None) -> Mapping[str, Any]:
    """The preprocessing of an architecture's published checkpoints, if all of them agree; otherwise nothing."""
    if arch is None:
        return {}
    entries = [get_pretrained_cfg(arch, tag) for tag in list_pretrained_tags_by_model(arch)]
    wanted = [{key: entry.get(key) for key in ("mean", "std", "interpolation", "resize_mode")} for entry in entries]
    return wanted[0] if wanted and all(one == wanted[0] for one in wanted) else {}


def preprocess_from(size: object, settings: Mapping[str, Any], *, where: str) -> Preprocess:
    """open_clip's preprocessing settings as ours; what they leave out is as in OpenAI's CLIP.

    `size` is the image tower's: a number or (height, width) in pixels. Raises EncoderError for unsupported settings.
    """
    sides = set(size) if isinstance(size, (tuple, list)) else {size}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int):
        raise EncoderError(f"{where}: takes images of {size} pixels; only square ones are supported")
    resize: Any = settings.get("resize_mode") or "shortest"
    if resize not in ("shortest", "squash", "longest"):
        raise EncoderError(f"{where}: unknown resize_mode {resize!r}")
    plain = Preprocess(size=side)
    mean, std = settings.get("mean") or plain.mean, settings.get("std") or plain.std
    return replace(
        plain,
        resize=resize,
        interpolation="bilinear" if settings.get("interpolation") == "bilinear" else "bicubic",
        mean=_three(mean),
        std=_three(std),
        fill=int(settings.get("fill_color") or 0),
    )


def _three(value: Sequence[float] | float) -> tuple[float, float, float]:
    red, green, blue = map(float, (value, value, value) if isinstance(value, (int, float)) else value)
    if not all(map(math.isfinite, (red, green, blue))):
        raise ValueError(f"mean and std must be finite, not {value}")
    return red, green, blue
