"""Checkpoints with random weights: speed and memory are those of the published ones, answers mean nothing."""

from __future__ import annotations

import gzip
import json
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


def make_transformers(folder: str, small: bool) -> Callable[[], dict[str, Any]]:
    """Write a CLIP in transformers' format: its default configuration is ViT-B/32's; `small` has two narrow layers.

    The tokenizer is OpenAI's, from the merges that open_clip carries.
    """

    def write() -> dict[str, Any]:
        import open_clip
        import torch
        from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

        torch.manual_seed(0)
        narrow = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = CLIPConfig(text_config=narrow, vision_config=narrow) if small else CLIPConfig()
        out = Path(folder)
        CLIPModel(config).save_pretrained(out)
        CLIPImageProcessor().save_pretrained(out)
        with gzip.open(
            Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8"
        ) as file:
            merges = file.read().split("\n")[1 : 49152 - 256 - 2 + 1]
        letters = _byte_letters()
        words = [*letters, *(f"{c}</w>" for c in letters), *("".join(merge.split()) for merge in merges)]
        words += ["<|startoftext|>", "<|endoftext|>"]
        (out / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
        (out / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
        special = {"bos_token": "<|startoftext|>"} | dict.fromkeys(("unk_token", "eos_token", "pad_token"), words[-1])
        about = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}
        (out / "tokenizer_config.json").write_text(json.dumps(about))
        return {}

    return write


def _byte_letters() -> list[str]:
    """The letters that stand for bytes in byte-level BPE, in its vocabulary's order: printable ones for themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [*map(chr, printable), *(chr(256 + i) for i in range(len(others)))]
