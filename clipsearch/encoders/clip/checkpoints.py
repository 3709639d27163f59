"""Checkpoint files → tensors by name, and what a file records of its architecture. Owns torch's file readers.

Pickles are read with `weights_only=True`, always. A TorchScript archive is a program: it is opened only where its
SHA-256 is on OpenAI's published list, or where the user trusts it; only once, since it is then converted.
"""

from __future__ import annotations

import contextlib
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from clipsearch.encoders.cache import cache_dir, remembered_sha256
from clipsearch.encoders.clip.foreign import translated
from clipsearch.encoders.specs import PUBLISHED_ARCHIVES
from clipsearch.errors import EncoderError
from clipsearch.files import replacing

ARCHIVE_FACTS = ("input_resolution", "context_length", "vocab_size")
"""Entries of OpenAI's archives that are not weights; a state dict saved from such an archive has them too."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Tensors by name, as the file has them. `openai`: it is in OpenAI's format, hence trained with QuickGELU.
    `arch` is open_clip's name for the architecture, where the file reveals it."""

    state: dict[str, Tensor]
    openai: bool = False
    arch: str | None = None


def read_checkpoint(path: Path, *, trust: bool = False) -> Checkpoint:
    """Read a checkpoint in any of the forms that a model's path may name.

    Raises EncoderError where it cannot be read, contains no model, or is a TorchScript archive that is not trusted.
    """
    with translated(str(path), "not a checkpoint, or a damaged one"):
        try:
            if path.suffix.lower() == ".safetensors":
                return _read_safetensors(path)
            if _is_torchscript(path):
                return _read_torchscript(path, trust=trust)
            return _read_pickle(path)
        except OSError as error:
            raise EncoderError(f"cannot be read ({error.strerror or error})", path=str(path)) from error


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            facts: Mapping[str, str] = file.metadata() or {}
        state = load_file(path)
    except SafetensorError as error:
        raise EncoderError(
            f"damaged, or not a safetensors file ({error})", path=str(path), advice="download it again"
        ) from error
    return Checkpoint(_weights(path, state), openai=facts.get("layout") == "openai")


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_torchscript(path: Path, *, trust: bool) -> Checkpoint:
    digest = remembered_sha256(path)
    converted = cache_dir() / "converted" / f"{digest}.safetensors"
    if converted.is_file():
        with contextlib.suppress(EncoderError):  # a damaged one is made again
            return _read_safetensors(converted)
    if digest not in PUBLISHED_ARCHIVES and not trust:
        raise EncoderError(
            "a TorchScript archive can run code, and this is not one of OpenAI's published files",
            path=str(path),
            advice="if you trust its source, add `trust_checkpoint=True`",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls TorchScript deprecated; only this place reads it
            module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise EncoderError("a damaged TorchScript archive", path=str(path), advice="download it again") from error
    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items() if name not in ARCHIVE_FACTS}
    state = _weights(path, state)
    with contextlib.suppress(OSError):
        converted.parent.mkdir(parents=True, exist_ok=True)
        with replacing(converted) as temporary:
            save_file(state, temporary, metadata={"layout": "openai"})
    return Checkpoint(state, openai=True)


def _read_pickle(path: Path) -> Checkpoint:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # bytes that are not a pickle make the reader fail in any way possible
        reason = str(error).strip().split("\n")[0][:160]
        raise EncoderError(f"not a checkpoint of tensors, or a damaged one ({reason})", path=str(path)) from error
    if not isinstance(loaded, Mapping):
        raise EncoderError(f"contains a {type(loaded).__name__}, not a model's tensors", path=str(path))
    wrapped = "state_dict" in loaded
    state = _weights(path, loaded["state_dict"] if wrapped else loaded)
    openai = not wrapped and (any(name in loaded for name in ARCHIVE_FACTS) or _half(state))
    return Checkpoint(state, openai=openai, arch=_trained_arch(loaded.get("name")))


def _weights(path: Path, state: object) -> dict[str, Tensor]:
    """Only the tensors, without the prefix of a distributed training run."""
    if not isinstance(state, Mapping):
        raise EncoderError(f"its state_dict is a {type(state).__name__}, not tensors by name", path=str(path))
    tensors = {
        str(name): tensor for name, tensor in state.items() if isinstance(tensor, Tensor) and name not in ARCHIVE_FACTS
    }
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    if not tensors:
        raise EncoderError("contains no tensors", path=str(path))
    return tensors


def _half(state: Mapping[str, Tensor]) -> bool:
    """OpenAI keeps its matrices in half precision, in open_clip's own names; open_clip's training saves float32."""
    kernel = state.get("visual.conv1.weight")
    return kernel is not None and kernel.dtype == torch.float16 and "text_projection" in state


def _trained_arch(run: object) -> str | None:
    """The architecture in the name that open_clip's training gives a run: "2024_05_01-model_ViT-B-32-lr_0.0005-…"."""
    found = re.search(r"model_(.+?)-lr_", run) if isinstance(run, str) else None
    return found.group(1) if found else None
