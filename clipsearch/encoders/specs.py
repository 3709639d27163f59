"""What a model's spec means: the parser, and OpenAI's models. Imports nothing heavy."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from clipsearch.errors import UsageError
from clipsearch.files import expanded
from clipsearch.types import is_text

DEFAULT_SPEC = "ViT-B-32-256/datacomp_s34b_b86k"
BUILTIN_SPEC = "builtin"
DEFAULT_ALIAS = "default"
HUB_PREFIX = "hf-hub:"
INT8_SUFFIX = "+int8"
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
PATH_STARTS = ("./", "../", "/", "~")
SAFE_WEIGHTS, PICKLED_WEIGHTS = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
"""What open_clip calls the weights of a model in a repository of the hub."""


@dataclass(frozen=True, slots=True)
class OpenAIModel:
    """One of OpenAI's releases: open_clip's name for the architecture (with QuickGELU, which it was trained with) and
    the SHA-256 of the TorchScript archive, which is part of its published URL."""

    arch: str
    sha256: str


OPENAI_MODELS = {
    "RN50": OpenAIModel("RN50-quickgelu", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"),
    "RN101": OpenAIModel("RN101-quickgelu", "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599"),
    "RN50x4": OpenAIModel("RN50x4-quickgelu", "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd"),
    "RN50x16": OpenAIModel("RN50x16-quickgelu", "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa"),
    "RN50x64": OpenAIModel("RN50x64-quickgelu", "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c"),
    "ViT-B/32": OpenAIModel("ViT-B-32-quickgelu", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
    "ViT-B/16": OpenAIModel("ViT-B-16-quickgelu", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"),
    "ViT-L/14": OpenAIModel("ViT-L-14-quickgelu", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
    "ViT-L/14@336px": OpenAIModel(
        "ViT-L-14-336-quickgelu", "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"
    ),
}
PUBLISHED_ARCHIVES = frozenset(model.sha256 for model in OPENAI_MODELS.values())


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A parsed spec. `name` is its canonical form: the one that a library records, independent of the folder.

    kind "file" has `path` (absolute), "hub" has `repo`, "pair" has `arch` and `tag`.
    int8: the model in 8 bits; `base` is the model in full precision.
    """

    kind: Literal["builtin", "file", "hub", "pair"]
    name: str
    path: Path | None = None
    repo: str | None = None
    arch: str | None = None
    tag: str | None = None
    int8: bool = False

    @property
    def base(self) -> ModelSpec:
        return replace(self, name=self.name.removesuffix(INT8_SUFFIX), int8=False) if self.int8 else self


def parse_spec(spec: str, *, as_text: bool = False) -> ModelSpec:
    """Read a model's spec; the rules are tried in the order that docs/models.md lists.

    Opens no file. With `as_text`, nothing at all depends on the file system: a path stays as it was written.
    Raises UsageError for an invalid spec.
    """
    if not is_text(spec):
        raise UsageError("`model`: not valid UTF-8, so no library can record it", path=spec, advice="rename it")
    if spec.endswith(INT8_SUFFIX):
        base = parse_spec(spec.removesuffix(INT8_SUFFIX), as_text=as_text)
        return replace(base, name=base.base.name + INT8_SUFFIX, int8=True)
    if spec == DEFAULT_ALIAS:
        spec = DEFAULT_SPEC
    if spec == BUILTIN_SPEC:
        return ModelSpec("builtin", spec)
    if known := OPENAI_MODELS.get(spec):
        return ModelSpec("pair", spec, arch=known.arch, tag="openai")
    if spec.startswith(PATH_STARTS) or spec.lower().endswith(CHECKPOINT_SUFFIXES):
        path = Path(spec) if as_text else expanded(spec).absolute()
        return ModelSpec("file", str(path), path=path)
    if spec.startswith(HUB_PREFIX):
        repo = spec.removeprefix(HUB_PREFIX)
        if repo.count("/") != 1 or not all(repo.split("/")):
            raise UsageError(f'`model="{spec}"`: after {HUB_PREFIX} comes ORG/NAME')
        return ModelSpec("hub", spec, repo=repo)
    arch, slash, tag = spec.partition("/")
    if slash and arch and tag and "/" not in tag:
        tag = tag.lower().replace("-", "_")
        return ModelSpec("pair", f"{arch}/{tag}", arch=arch, tag=tag)
    raise UsageError(f'`model="{spec}"`: no such model', advice=_advice(spec, may_be_file=not as_text))


def check_device(name: str) -> None:
    """Raise UsageError for what is not "auto", "cpu", "cuda", "cuda:N" or "mps", without importing torch."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise UsageError(f'`device="{name}"`: must be auto, cpu, cuda, cuda:N or mps')


def _advice(spec: str, *, may_be_file: bool) -> str:
    if may_be_file and spec and os.path.exists(spec):
        return f"for the file of that name write ./{spec}"
    names = {name.lower(): name for name in (*OPENAI_MODELS, BUILTIN_SPEC, DEFAULT_SPEC)}
    if close := difflib.get_close_matches(spec.lower(), names, n=1):
        return f"did you mean {names[close[0]]}? (`clipsearch models` lists them)"
    return "expected ARCH/TAG, hf-hub:ORG/NAME, a checkpoint's path, or a name that `clipsearch models` lists"
