"""A model's configuration, the module that it describes, and the fingerprint of both. Owns open_clip's model classes.

A configuration is the dict that open_clip keeps in its JSON files: embed_dim, vision_cfg, text_cfg, quick_gelu …
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip import factory
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, resize_pos_embed, resize_text_pos_embed
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from clipsearch.encoders.base import preprocess_json
from clipsearch.encoders.clip.foreign import translated
from clipsearch.errors import EncoderError, UsageError
from clipsearch.types import Preprocess

FINGERPRINT_SCHEME = 1
_MEANINGLESS = {
    "hf_model_pretrained", "hf_tokenizer_name", "output_tokens", "patch_dropout", "timm_drop", "timm_drop_path",
    "timm_model_pretrained", "tokenizer_kwargs", "tokenizer_mode",
}  # fmt: skip
"""Settings that say how a model is trained or fetched, or that the tokenizer's own identity covers."""
_LARGEST = {"layers": 1000, "image_size": 4096}
"""Limits that no published model reaches: open_clip's own configurations have at most 56 layers and 512 pixels."""
_SLACK = 10_000_000
"""A module may have twice the numbers of its checkpoint plus these (40 MB), or it is not built. With open_clip's own
configurations, the ratio is below 1.05."""
_CODE = frozenset({"auto_map", "attn_implementation", "_attn_implementation"})
"""Settings by which transformers runs a model's own Python code or fetches a kernel from the hub."""


def named_config(arch: str) -> dict[str, Any]:
    """open_clip's configuration of that name. Raises UsageError where it has none."""
    config = open_clip.get_model_config(arch)
    if config is None:
        raise UsageError(f'`arch="{arch}"`: unknown open_clip architecture (see `clipsearch models`)')
    return dict(config)


def openai_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The configuration of a checkpoint in OpenAI's layout, from the shapes of its tensors, with QuickGELU.

    Raises KeyError where a tensor of that layout is missing.
    """
    width = state["ln_final.weight"].shape[0]
    text = {
        "context_length": state["positional_embedding"].shape[0],
        "vocab_size": state["token_embedding.weight"].shape[0],
        "width": width,
        "heads": width // 64,
        "layers": _count(state, "transformer.resblocks.", 2),
    }
    vision: dict[str, Any]
    if "visual.proj" in state:
        kernel = state["visual.conv1.weight"]
        grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
        vision = {
            "image_size": kernel.shape[-1] * grid,
            "layers": _count(state, "visual.transformer.resblocks.", 3),
            "width": kernel.shape[0],
            "patch_size": kernel.shape[-1],
        }
    else:
        grid = round((state["visual.attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
        vision = {
            "image_size": 32 * grid,
            "layers": [_count(state, f"visual.layer{stage}.", 2) for stage in (1, 2, 3, 4)],
            "width": state["visual.layer1.0.conv1.weight"].shape[0],
            "patch_size": None,
        }
    dim = state["text_projection"].shape[1]
    return {"embed_dim": dim, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}


def _count(state: Mapping[str, Tensor], prefix: str, place: int) -> int:
    return len({name.split(".")[place] for name in state if name.startswith(prefix)})


def canonical_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that decides the vectors: settings that differ from open_clip's defaults, by name.

    Two descriptions of one architecture (a name's, and one read from a checkpoint's shapes) come out equal.
    """
    vision = _differing(config["vision_cfg"], CLIPVisionCfg)
    if isinstance(vision.get("layers"), list):
        vision.pop("patch_size", None)  # a ResNet has none, and its files say so in different ways
    canonical = {
        "embed_dim": config["embed_dim"],
        "quick_gelu": bool(config.get("quick_gelu", False)),
        "vision": vision,
        "text": _differing(config["text_cfg"], CLIPTextCfg),
    }
    if "multimodal_cfg" in config:
        canonical["multimodal"] = config["multimodal_cfg"]
    return canonical


def _differing(settings: Mapping[str, Any], defaults: type) -> dict[str, Any]:
    default = {field.name: field.default for field in fields(defaults)}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in sorted(settings.items())
        if name not in _MEANINGLESS and (name not in default or value != default[name])
    }


class _NoRandomStart(TorchFunctionMode):
    """Leaves new parameters as they are: a strict load overwrites every one, and drawing 150 million takes seconds."""

    _skipped = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_})

    def __torch_function__(
        self, func: Callable[..., object], types: object, args: Sequence[object] = (), kwargs: object = None
    ) -> object:
        if func in self._skipped:
            return args[0]
        return func(*args, **(kwargs if isinstance(kwargs, dict) else {}))


def build_model(
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    where: str,
    resize: bool = False,
    text_model: Path | None = None,
) -> nn.Module:
    """The float32 module on the CPU, in evaluation mode, with every tensor from `state`; none is left random.

    `where` names the checkpoint in errors. `resize` fits position embeddings of another size, as open_clip does for
    published checkpoints; for a user's file another size means another architecture. `text_model` is the folder of a
    Hugging Face text tower's configuration; code that comes with it is never run. Raises EncoderError where
    architecture and tensors disagree, and whatever open_clip raises over the configuration.
    """
    _check(config)
    with _without_code(text_model) as folder:
        with torch.device("meta"):
            size = _size(_built(config, folder))
        if size > 2 * sum(tensor.numel() for tensor in state.values()) + _SLACK:
            raise _mismatch(where, f"they are too few for {size:,} weights")
        model = _built(config, folder)
    try:
        adapted = _adapted(model, dict(state), resize=resize)
        model.load_state_dict(adapted, strict=True, assign=True)  # no second copy of the weights
    except (RuntimeError, AssertionError, TypeError, KeyError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise _mismatch(where, " ".join(lines[1:2] or lines)[:200]) from error
    return model.float().eval()


def _mismatch(where: str, why: str) -> EncoderError:
    reason = f"{where}: its tensors are not those of this architecture ({why})"
    return EncoderError(reason, advice="name the right one with `arch`")


def _size(model: nn.Module) -> int:
    """How many numbers a module has, those included that it computes itself."""
    return sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))


def _check(config: Mapping[str, Any]) -> None:
    """Raise ValueError for what open_clip would spend minutes and all memory on, or ask the network for."""
    if ":" in str(config["vision_cfg"].get("timm_model_name", "")):  # "hf-hub:ORG/NAME"
        raise ValueError("timm_model_name is not a name of timm's")
    for part in ("vision_cfg", "text_cfg", "multimodal_cfg"):
        for name, most in _LARGEST.items():
            value = config.get(part, {}).get(name, 0)
            numbers = value if isinstance(value, list) else [value]
            if any(isinstance(number, (int, float)) and number > most for number in numbers):
                raise ValueError(f"{part}: {name} is above {most}")


def _built(config: Mapping[str, Any], text_model: str | None) -> nn.Module:
    """open_clip's module, its weights not set. `text_model`: a folder with the configuration of its text tower."""
    settings = copy.deepcopy(dict(config))
    settings["vision_cfg"]["timm_model_pretrained"] = False
    hugging_face = "hf_model_name" in settings["text_cfg"]
    if hugging_face:
        settings["text_cfg"] |= {"hf_model_pretrained": False, "hf_model_name": text_model}
    custom = settings.pop("custom_text", False) or hugging_face
    kind = (open_clip.CoCa if "multimodal_cfg" in settings else open_clip.CustomTextCLIP) if custom else open_clip.CLIP
    with _NoRandomStart():
        model: nn.Module = kind(**settings)
    return model


@contextlib.contextmanager
def _without_code(text_model: Path | None) -> Iterator[str | None]:
    """A copy of a Hugging Face text tower's configuration that names no code, in a folder of its own.

    open_clip does not let `trust_remote_code=False` through, and without it transformers asks on the terminal.
    """
    if text_model is None:
        yield None
        return
    file = text_model / "config.json"
    with translated(str(file), "not a text model's configuration"):
        config = json.loads(file.read_bytes(), object_hook=_drop_code)
    with tempfile.TemporaryDirectory(prefix="clipsearch-") as folder:
        (Path(folder) / file.name).write_text(json.dumps(config))
        yield folder


def _drop_code(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _CODE}


def _adapted(model: nn.Module, state: dict[str, Tensor], *, resize: bool) -> dict[str, Tensor]:
    """The tensors under the names and shapes of today's module; older releases of open_clip wrote others."""
    state = factory.convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = factory.convert_to_custom_text_state_dict(state)
    for name in ("logit_scale", "logit_bias"):
        target = getattr(model, name, None)
        if target is not None and name in state:
            state[name] = state[name].reshape(target.shape)
    if getattr(model, "logit_bias", None) is not None and "logit_bias" not in state:
        state["logit_bias"] = torch.zeros_like(state["logit_scale"])
    for computed in ("attn_mask", "text.attn_mask", "text.transformer.embeddings.position_ids"):
        if computed not in model.state_dict():  # traced modules and old transformers save what the module makes itself
            state.pop(computed, None)
    if resize:
        resize_pos_embed(state, model)
        resize_text_pos_embed(state, model)
    return state


def fingerprint(
    model: nn.Module, *, config: Mapping[str, Any], preprocess: Preprocess, tokenizer: Mapping[str, Any]
) -> str:
    """SHA-256 in hex over everything that decides a vector: tensors by name, architecture, pixels, tokenizer, dim.

    Tensors count as float32, which half-precision files convert to without loss, so the file's format does not matter.
    """
    about = {
        "scheme": FINGERPRINT_SCHEME,
        "architecture": canonical_config(config),
        "preprocess": preprocess_json(preprocess),
        "tokenizer": dict(tokenizer),
        "dim": config["embed_dim"],
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, separators=(",", ":")).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if name.endswith("num_batches_tracked"):  # counts training steps; not every format keeps it
            continue
        shape = [] if tensor.numel() == 1 else list(tensor.shape)
        kind = "f4" if tensor.is_floating_point() else "i8"
        plain = tensor.detach().to("cpu", torch.float32 if kind == "f4" else torch.int64).contiguous()
        digest.update(f"\n{name.removeprefix('text.')} {kind} {shape}\n".encode())
        digest.update(plain.numpy().reshape(-1).view("uint8").data)
    return digest.hexdigest()
