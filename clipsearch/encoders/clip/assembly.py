"""A located checkpoint → the module and everything that identifies it: architecture, pixels, tokenizer, fingerprint."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from torch import nn

from clipsearch.encoders.base import identified
from clipsearch.encoders.clip.architectures import (
    build_model,
    canonical_config,
    fingerprint,
    named_config,
    openai_config,
)
from clipsearch.encoders.clip.checkpoints import Checkpoint, read_checkpoint
from clipsearch.encoders.clip.foreign import translated
from clipsearch.encoders.clip.hub import fetch_tokenizer, require_transformers
from clipsearch.encoders.clip.pairs import pixels_of, preprocess_from, published_pair
from clipsearch.encoders.clip.sources import ModelFiles
from clipsearch.encoders.clip.tokenizer import describe_tokenizer, tokenizer_identity
from clipsearch.errors import EncoderError, UsageError
from clipsearch.types import EncoderInfo

OPENAI_LAYOUT = "openai"
"""`arch="openai"`: a checkpoint in OpenAI's layout, trained with QuickGELU, its sizes read from the tensors."""


@dataclass(frozen=True, slots=True)
class Assembled:
    info: EncoderInfo
    model: nn.Module
    """float32, on the CPU."""


@dataclass(frozen=True, slots=True)
class _Design:
    """What is known about a checkpoint apart from its tensors."""

    config: dict[str, Any]
    arch: str | None
    pixels: Mapping[str, Any]


def assemble(source: ModelFiles, *, trust: bool = False) -> Assembled:
    """Read a checkpoint, build its module and take its fingerprint. Costs seconds and the memory of the weights.

    Raises EncoderError where the file cannot be read or does not record what it is, UsageError for an unknown name.
    """
    checkpoint = read_checkpoint(source.weights, trust=trust)
    with translated(_described_by(source), "does not describe a model that can be loaded"):
        return _assembled(source, checkpoint)


def _described_by(source: ModelFiles) -> str:
    """The file that a model's configuration comes from."""
    if source.arch is not None and source.arch.endswith(".json"):
        return source.arch
    return str(source.config or source.weights)


def _assembled(source: ModelFiles, checkpoint: Checkpoint) -> Assembled:
    where = source.spec.name
    design = _design(source, checkpoint)
    about = describe_tokenizer(design.config)
    folder = None
    if about["kind"] == "hf":
        require_transformers(where)
        folder = tokenizer_folder(source, about)
    model = build_model(
        design.config,
        checkpoint.state,
        where=where,
        resize=source.spec.kind != "file",
        text_model=_text_model_folder(source, design.config, folder),
    )
    preprocess = preprocess_from(getattr(model.visual, "image_size", 224), design.pixels, where=where)
    scale = getattr(model, "logit_scale", None)
    bias = getattr(model, "logit_bias", None)
    if scale is None:
        raise EncoderError(f"{where}: not a contrastive model: it has no logit scale")
    whole, identity = identified(
        fingerprint(model, config=design.config, preprocess=preprocess, tokenizer=tokenizer_identity(about, folder))
    )
    info = EncoderInfo(
        spec=where,
        fingerprint=whole,
        dim=int(design.config["embed_dim"]),
        logit_scale=math.exp(scale.item()),
        logit_bias=None if bias is None else bias.item(),
        preprocess=preprocess,
        details={
            "family": "open_clip",
            "arch": design.arch,
            "config": canonical_config(design.config),
            "tokenizer": about,
            **identity,
            **source.facts(),
        },
    )
    return Assembled(info, model)


def tokenizer_folder(source: ModelFiles, about: Mapping[str, Any]) -> Path | None:
    """Where a Hugging Face tokenizer's files are: beside a local checkpoint, or in the hub's cache, once downloaded."""
    if about["kind"] != "hf":
        return None
    beside = source.weights.parent
    if source.spec.kind == "file" and (beside / "tokenizer.json").is_file():
        return beside
    return fetch_tokenizer(source.spec.name, str(about["repo"]))


def _text_model_folder(source: ModelFiles, config: Mapping[str, Any], tokenizer: Path | None) -> Path | None:
    """The folder with the configuration of a Hugging Face text tower, which is usually the tokenizer's."""
    name = config["text_cfg"].get("hf_model_name")
    if not name:
        return None
    if tokenizer and name == config["text_cfg"].get("hf_tokenizer_name") and (tokenizer / "config.json").is_file():
        return tokenizer
    return fetch_tokenizer(source.spec.name, name)


def _design(source: ModelFiles, checkpoint: Checkpoint) -> _Design:
    spec = source.spec
    if spec.kind == "pair" and spec.arch and spec.tag:
        return _Design(named_config(spec.arch), spec.arch, published_pair(spec.arch, spec.tag).pixels)
    beside = _config_file(source.config) if source.config else {}
    pixels = beside.get("preprocess_cfg", {})
    if source.arch is not None:
        return _given(source.arch, checkpoint, source, pixels)
    if beside:
        return _Design(beside["model_cfg"], None, pixels)
    if checkpoint.openai:
        return _Design(_openai(checkpoint, source), OPENAI_LAYOUT, pixels)
    if checkpoint.arch in open_clip.list_models():
        return _Design(named_config(str(checkpoint.arch)), checkpoint.arch, pixels_of(checkpoint.arch))
    raise EncoderError(f"{spec.name}: does not record its architecture", advice=_guess(checkpoint))


def _given(arch: str, checkpoint: Checkpoint, source: ModelFiles, pixels: Mapping[str, Any]) -> _Design:
    """The architecture that `arch` names: a configuration file, "openai", or one of open_clip's names."""
    if arch.endswith(".json"):
        settings = _config_file(Path(arch))
        return _Design(settings["model_cfg"], arch, settings.get("preprocess_cfg", pixels))
    if arch == OPENAI_LAYOUT:
        return _Design(_openai(checkpoint, source), arch, pixels)
    return _Design(named_config(arch), arch, pixels or pixels_of(arch))


def _openai(checkpoint: Checkpoint, source: ModelFiles) -> dict[str, Any]:
    try:
        return openai_config(checkpoint.state)
    except KeyError as error:
        raise EncoderError(
            f"{source.spec.name}: not in OpenAI's layout (it has no {error.args[0]})",
            advice="name its architecture with `arch`",
        ) from error


def _config_file(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_bytes())
        known = {"embed_dim", "vision_cfg", "text_cfg"} <= set(settings.get("model_cfg", {}))
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", path=str(path)) from error
    except (ValueError, AttributeError, TypeError, RecursionError):
        known = False
    if not known:
        raise EncoderError("not an open_clip model configuration", path=str(path))
    return dict(settings)


def _guess(checkpoint: Checkpoint) -> str:
    """Advice on `arch`: open_clip's names whose sizes are those of the tensors, which do not tell the activation."""
    if any(name.startswith(("text_model.", "vision_model.")) for name in checkpoint.state):
        return "it is in transformers' format; give the model's hub name as hf-hub:ORG/NAME, or an open_clip file"
    try:
        shape = canonical_config(openai_config(checkpoint.state)) | {"quick_gelu": None}
    except (KeyError, ZeroDivisionError):
        return "name it with `arch` (an open_clip name, or its open_clip_config.json)"
    names = [
        name
        for name in open_clip.list_models()
        if canonical_config(open_clip.get_model_config(name)) | {"quick_gelu": None} == shape
    ]
    choices = " or ".join(f'`arch="{name}"`' for name in names or [OPENAI_LAYOUT])
    return f"name it with {choices} (only whoever trained it knows which)"
