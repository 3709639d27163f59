"""How messages of the library, which name parameters, name the options of the command line."""

from __future__ import annotations

import re

_PARAMETER = re.compile(r"`(\w+)(?:=(?:\"([^`\"]*)\"|([\w.+-]+)))?`")
_OPTIONS = {
    "k": "-k",
    "match_all": "--all",
    "negative": "--without",
    "tags": "--tag",
    "templates": "--template",
    "within": "--in",
} | {
    name: f"--{name.replace('_', '-')}"
    for name in (
        *("allow_host", "host", "port", "root_path"),
        *("arch", "batch_size", "blend", "cache", "camera", "copy_to", "csv", "decode_memory", "decode_timeout"),
        *("default_excludes", "device", "engine", "examples", "caption", "name", "rating"),
        *("exclude", "follow_symlinks", "format", "ignore_files", "index", "indexed_since", "labels", "landscape"),
        *("like", "link_to", "margin", "max_pixels", "min_size", "portrait", "tag"),
        *("model", "multi", "near", "open", "page", "plot", "precision", "relevant", "replace", "reset"),
        *("state", "taken", "template", "threshold", "tiles", "trust_checkpoint", "unknown", "wait", "workers"),
    )
}
"""The parameters that messages of the library name, with their options."""


def as_options(text: str) -> str:
    """A message of the library for the command line: parameters in backquotes become options.

    `batch_size` becomes --batch-size, `device="cpu"` becomes --device cpu, `relevant=True` becomes --relevant,
    `ignore_files=False` becomes --no-ignore-files.
    """
    return _PARAMETER.sub(_option, text)


def _option(found: re.Match[str]) -> str:
    name, quoted, plain = found.groups()
    if name not in _OPTIONS:
        return found[0]
    if plain == "False":
        return _OPTIONS[name].replace("--", "--no-", 1)
    value = quoted or (plain if plain != "True" else None)
    return f"{_OPTIONS[name]} {value}" if value else _OPTIONS[name]
