"""Where a spec's files are on this machine. Reads no weights and imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipsearch.encoders.clip.hub import CONFIG, cached_file, fetch, fetch_tokenizer, hub_model
from clipsearch.encoders.specs import ModelSpec
from clipsearch.errors import EncoderError
from clipsearch.files import expanded, stamp


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A spec with its files: the weights, and open_clip_config.json where there is one. `arch` as the user gave it.
    `tokenizers`: folders of Hugging Face tokenizers, their revision in the name."""

    spec: ModelSpec
    weights: Path
    config: Path | None = None
    arch: str | None = None
    tokenizers: tuple[Path, ...] = ()

    def facts(self) -> dict[str, Any]:
        """JSON-able: what a library records to find the model again."""
        if self.spec.kind == "file":
            return {"file": str(self.weights), "given_arch": self.arch}
        model = hub_model(self.spec)
        return {"repo": model.repo, "file": self.weights.name, "given_arch": None}

    def kind(self, scheme: str) -> str:
        """What a remembered fact about this source depends on, apart from the weights' own stamp."""
        parts = [scheme, self.spec.kind, self.spec.arch or "", self.spec.tag or "", self.arch or ""]
        settings = self.config
        if self.arch is not None and self.arch.endswith(".json"):
            settings = Path(self.arch)
        if settings is not None and settings.is_file():
            parts += [str(settings), *map(str, stamp(settings))]
        parts += map(str, self.tokenizers)
        return "|".join(parts)


def locate(spec: ModelSpec, *, arch: str | None = None) -> ModelFiles:
    """Find a spec's files; a hub's model that is not cached is downloaded.

    Raises EncoderError for a missing file, DownloadError where downloading fails.
    """
    if spec.path is not None:
        if not spec.path.is_file():
            if spec.path.is_dir():
                raise EncoderError("is a folder", path=str(spec.path), advice="name the checkpoint in it")
            advice = "if it has moved, name its new path as `model`"
            raise EncoderError("no such file", path=str(spec.path), advice=advice)
        beside = spec.path.with_name(CONFIG)
        if arch is not None and arch.endswith(".json"):
            arch = str(expanded(arch).absolute())  # it is recorded, and must be valid in any folder
        return ModelFiles(spec, spec.path, beside if beside.is_file() else None, arch)
    weights = fetch(spec)
    model = hub_model(spec)  # asked again: a hub's configuration may have come with the weights
    tokenizers = tuple(fetch_tokenizer(spec.name, repo) for repo in model.companions)
    config = cached_file(model.repo, model.config) if model.config else None
    return ModelFiles(spec, weights, config, tokenizers=tokenizers)
