"""The table behind `clipsearch models`: recommended models and their published facts. Imports nothing heavy.

`accuracy` is zero-shot top-1 on ImageNet's validation set as open_clip's results table, the model's card or its paper
(SigLIP 2: arXiv 2502.14786, table 1; MobileCLIP: arXiv 2311.17049, table 7) has it. `megabytes` counts the float32
parameters. A test compares dimensions, sizes and repositories with open_clip's own tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clipsearch.encoders.specs import BUILTIN_SPEC, DEFAULT_SPEC, OPENAI_MODELS


@dataclass(frozen=True, slots=True)
class Row:
    """A known model. `repo` is its hub repository, `companion` that of its tokenizer where that is Hugging Face's."""

    spec: str
    repo: str
    dim: int
    pixels: int
    megabytes: int
    accuracy: float | None
    licence: str
    note: str = ""
    companion: str | None = None


_HUNDRED_LANGUAGES = "about 100 languages; needs the extra hf"
_MANY_LANGUAGES = "many languages; needs the extra hf"
_MOBILE = "fast; see Apple's terms before other than private use"

ROWS = (
    Row(BUILTIN_SPEC, "", 384, 260, 0, None, "Apache-2.0", "works offline; not CLIP: everyday objects and scenes only"),
    Row(DEFAULT_SPEC, "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K", 512, 256, 605, 0.728, "MIT", "the default"),
    Row("ViT-B/32", "timm/vit_base_patch32_clip_224.openai", 512, 224, 605, 0.633, "MIT", "OpenAI"),
    Row("ViT-B/16", "timm/vit_base_patch16_clip_224.openai", 512, 224, 599, 0.683, "MIT", "OpenAI"),
    Row("ViT-L/14", "timm/vit_large_patch14_clip_224.openai", 768, 224, 1710, 0.755, "MIT", "OpenAI"),
    Row("ViT-L/14@336px", "timm/vit_large_patch14_clip_336.openai", 768, 336, 1712, 0.766, "MIT", "OpenAI"),
    Row("RN50", "timm/resnet50_clip.openai", 1024, 224, 408, 0.598, "MIT", "OpenAI"),
    Row("RN101", "timm/resnet101_clip.openai", 512, 224, 479, 0.623, "MIT", "OpenAI"),
    Row("RN50x4", "timm/resnet50x4_clip.openai", 640, 288, 714, 0.663, "MIT", "OpenAI"),
    Row("RN50x16", "timm/resnet50x16_clip.openai", 768, 384, 1165, 0.707, "MIT", "OpenAI"),
    Row("RN50x64", "timm/resnet50x64_clip.openai", 1024, 448, 2495, 0.739, "MIT", "OpenAI"),
    Row("ViT-B-16/datacomp_xl_s13b_b90k", "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", 512, 224, 599, 0.735, "MIT"),
    Row("ViT-L-14/datacomp_xl_s13b_b90k", "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", 768, 224, 1710, 0.792, "MIT"),
    Row("ViT-H-14/laion2b_s32b_b79k", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", 1024, 224, 3944, 0.780, "MIT"),
    Row("MobileCLIP-S1/datacompdr", "apple/MobileCLIP-S1-OpenCLIP", 512, 256, 340, 0.726, "Apple", _MOBILE),
    Row("MobileCLIP-S2/datacompdr", "apple/MobileCLIP-S2-OpenCLIP", 512, 256, 397, 0.744, "Apple", _MOBILE),
    Row(
        "ViT-B-32-SigLIP2-256/webli", "timm/ViT-B-32-SigLIP2-256", 768, 256, 1507, 0.740, "Apache-2.0",
        _MANY_LANGUAGES, "timm/ViT-B-32-SigLIP2-256",
    ),
    Row(
        "ViT-B-16-SigLIP2/webli", "timm/ViT-B-16-SigLIP2", 768, 224, 1501, 0.782, "Apache-2.0",
        _MANY_LANGUAGES, "timm/ViT-B-16-SigLIP2",
    ),
    Row(
        "ViT-SO400M-14-SigLIP2/webli", "timm/ViT-SO400M-14-SigLIP2", 1152, 224, 4542, 0.832, "Apache-2.0",
        _MANY_LANGUAGES, "timm/ViT-SO400M-14-SigLIP2",
    ),
    Row(
        "ViT-SO400M-16-SigLIP2-384/webli", "timm/ViT-SO400M-16-SigLIP2-384", 1152, 384, 4544, 0.841, "Apache-2.0",
        _MANY_LANGUAGES, "timm/ViT-SO400M-16-SigLIP2-384",
    ),
    Row(
        "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
        512, 224, 1465, 0.623, "MIT", _HUNDRED_LANGUAGES, "xlm-roberta-base",
    ),
)  # fmt: skip


def companions(text: Mapping[str, Any]) -> tuple[str, ...]:
    """The repositories of a Hugging Face tokenizer or text tower that a `text_cfg` names."""
    names = (text.get("hf_tokenizer_name"), text.get("hf_model_name"))
    return tuple(dict.fromkeys(name for name in names if name and isinstance(name, str)))


def row_of(arch: str, tag: str) -> Row | None:
    """The row of a pair, by any of its names: a known pair is found without importing open_clip."""
    for row in ROWS:
        openai = OPENAI_MODELS.get(row.spec)
        if (openai and (openai.arch, "openai") == (arch, tag)) or row.spec == f"{arch}/{tag}":
            return row
    return None


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A row of `clipsearch models`."""

    spec: str
    dim: int
    pixels: int
    megabytes: int
    """Size of the weights to download."""
    accuracy: float | None
    """ImageNet zero-shot top-1 as published, 0 … 1; None where none is published."""
    licence: str
    cached: bool
    note: str = ""
