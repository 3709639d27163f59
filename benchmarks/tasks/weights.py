"""Checkpoints with random weights: speed and memory are those of the published ones, answers mean nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def make(arch: str, path: str) -> Callable[[], dict[str, Any]]:
    """Write open_clip's own start values, drawn from seed 0, as safetensors."""

    def write() -> dict[str, Any]:
        import open_clip
        import torch
        from safetensors.torch import save_file

        torch.manual_seed(0)
        state = open_clip.create_model(arch, pretrained=None).state_dict()
        temporary = Path(path + ".part")
        save_file({k: v.detach().clone().contiguous() for k, v in state.items()}, temporary, metadata={"format": "pt"})
        temporary.rename(path)
        return {"bytes": Path(path).stat().st_size}

    return write
