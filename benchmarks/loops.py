"""The loop that one writes without a tool: embed every picture of a folder, and a text or labels. Nothing is kept.

    loops.py open_clip FOLDER CHECKPOINT ARCH      with open_clip, one picture at a time (no ARCH: OpenAI's format)
    loops.py transformers FOLDER MODEL_FOLDER      with transformers' CLIPModel, in batches of 16
    loops.py pipeline FOLDER MODEL_FOLDER LABELS   the best of a file's labels, with transformers' zero-shot pipeline

Runs by itself in any environment that holds the library, so it imports nothing of this package.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image

TEXT = "a photo of a dog"


def open_clip_loop(files: list[Path], checkpoint: str, arch: str) -> list[Path]:
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(arch, pretrained=checkpoint)
    model.eval()
    with torch.no_grad():
        rows = [model.encode_image(preprocess(Image.open(file)).unsqueeze(0), normalize=True) for file in files]
        text = model.encode_text(open_clip.get_tokenizer(arch)([TEXT]), normalize=True)
    return best(files, torch.cat(rows), text)


def transformers_loop(files: list[Path], folder: str) -> list[Path]:
    from transformers import CLIPModel, CLIPProcessor

    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    rows = []
    with torch.no_grad():
        for start in range(0, len(files), 16):
            images = [Image.open(file).convert("RGB") for file in files[start : start + 16]]
            rows.append(embedding(model.get_image_features(**processor(images=images, return_tensors="pt"))))
        text = embedding(model.get_text_features(**processor(text=[TEXT], return_tensors="pt", padding=True)))
    return best(files, torch.cat(rows), text)


def pipeline_loop(files: list[Path], folder: str, labels: str) -> list[str]:
    from transformers import pipeline

    choose = pipeline("zero-shot-image-classification", model=folder)
    names = Path(labels).read_text(encoding="utf-8").splitlines()
    found = choose([str(file) for file in files], candidate_labels=names)
    return [max(one, key=lambda answer: answer["score"])["label"] for one in found]


def embedding(found: object) -> torch.Tensor:
    """Newer versions wrap it."""
    rows = found if isinstance(found, torch.Tensor) else found.pooler_output  # type: ignore[attr-defined]
    return torch.nn.functional.normalize(rows, dim=-1)


def best(files: list[Path], rows: torch.Tensor, text: torch.Tensor) -> list[Path]:
    return [files[i] for i in (rows @ text.T).squeeze(1).argsort(descending=True)[:10].tolist()]


def main() -> None:
    kind, folder, *rest = sys.argv[1:]
    files = sorted(Path(folder).rglob("*.jpg"))
    loops = {"open_clip": open_clip_loop, "transformers": transformers_loop, "pipeline": pipeline_loop}
    found = loops[kind](files, *rest)
    sys.stdout.writelines(f"{path}\n" for path in found)


if __name__ == "__main__":
    main()
