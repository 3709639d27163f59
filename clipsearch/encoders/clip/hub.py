"""The Hugging Face hub: which of a model's files are cached, whether the hub answers, and downloading the rest.

Decided here before open_clip or huggingface_hub is called: their own retries take minutes where nothing answers.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from clipsearch.encoders.cache import remembered
from clipsearch.encoders.known import ROWS, KnownModel, companions, row_of
from clipsearch.encoders.specs import BUILTIN_SPEC, DEFAULT_SPEC, PICKLED_WEIGHTS, SAFE_WEIGHTS, ModelSpec, parse_spec
from clipsearch.errors import DownloadError, EncoderError, UsageError
from clipsearch.files import expanded

PROBE_SECONDS = 5.0
CONFIG = "open_clip_config.json"
_NO_DOWNLOAD = f'`model="{BUILTIN_SPEC}"` works without a download'
VOCABULARIES = (
    "tokenizer.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "vocab.txt", "vocab.json",
)  # fmt: skip
_TOKENIZER_EXTRAS = (
    "tokenizer_config.json", "config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class HubModel:
    """Where a model is on the hub. `weights`: file names in order of preference. `config`: needed beside them.
    `companions`: repositories with the files of a Hugging Face tokenizer or text tower."""

    repo: str
    weights: tuple[str, ...]
    config: str | None = None
    companions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one HEAD request: the hub's status, or why there was none."""

    status: int | None
    reason: str = ""


def endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def offline() -> bool:
    """Whether the environment tells every hub client not to use the network."""
    flags = (os.environ.get("HF_HUB_OFFLINE", ""), os.environ.get("TRANSFORMERS_OFFLINE", ""))
    return any(flag.upper() in {"1", "ON", "YES", "TRUE"} for flag in flags)


def hub_cache() -> Path:
    """The folder that huggingface_hub downloads to; its variables are honoured."""
    if named := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return expanded(named)
    if home := os.environ.get("HF_HOME"):
        return expanded(home) / "hub"
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface" / "hub"


def cached_file(repo: str, name: str) -> Path | None:
    """A file of the revision that `main` last pointed to; None if it is not in the hub's cache."""
    folder = hub_cache() / f"models--{repo.replace('/', '--')}"
    try:
        revision = (folder / "refs" / "main").read_text().strip()
    except (OSError, ValueError):  # a name from a model's configuration may not be one of a file at all
        return None
    path = folder / "snapshots" / revision / name
    return path if revision and path.is_file() else None


def cached_tokenizer(repo: str) -> Path | None:
    """The folder of a repository's tokenizer and text configuration in the cache."""
    found = next(filter(None, (cached_file(repo, file) for file in VOCABULARIES)), None)
    return found.parent if found else None


def cached_weights(model: HubModel) -> Path | None:
    """The weights in the cache, with the configuration that they need; None where one is missing."""
    if model.config and cached_file(model.repo, model.config) is None:
        return None
    return next((path for name in model.weights if (path := cached_file(model.repo, name))), None)


def hub_model(spec: ModelSpec) -> HubModel:
    """Where the hub keeps a "pair" or a "hub" spec. Raises UsageError for a pair that open_clip does not know."""
    if spec.kind == "hub" and spec.repo:
        config = cached_file(spec.repo, CONFIG)
        return HubModel(spec.repo, (SAFE_WEIGHTS, PICKLED_WEIGHTS), CONFIG, _companions(config) if config else ())
    if spec.arch is None or spec.tag is None:
        raise UsageError(f"{spec.name}: not a model of the hub")
    if row := row_of(spec.arch, spec.tag):
        return HubModel(row.repo, (SAFE_WEIGHTS, PICKLED_WEIGHTS), companions=(row.companion,) if row.companion else ())
    repo, name, *others = _published(spec.arch, spec.tag)
    safe = SAFE_WEIGHTS if name == PICKLED_WEIGHTS else str(Path(name).with_suffix(".safetensors"))
    return HubModel(repo, (safe, name), companions=tuple(others))


def _companions(config: Path) -> tuple[str, ...]:
    with contextlib.suppress(OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return companions(json.loads(config.read_bytes())["model_cfg"]["text_cfg"])
    return ()  # the loader reports what is wrong with the file


def _published(arch: str, tag: str) -> list[str]:
    """Repository, file and companions of a pair in open_clip's table; asked once, as importing it takes seconds."""

    def ask(_: Path) -> list[str]:
        from clipsearch.encoders.clip.pairs import published_pair

        pair = published_pair(arch, tag)
        return [pair.repo, pair.file, *pair.companions]

    return list(map(str, remembered(open_clip_file("pretrained.py"), f"pair-1 {arch}/{tag}", ask)))


def open_clip_file(name: str) -> Path:
    """A file of the open_clip package, which importing would take seconds. Raises EncoderError if not installed."""
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        raise EncoderError("open_clip is not installed", advice="install clipsearch again")
    return Path(found.origin).with_name(name)


def is_cached(spec: str) -> bool:
    """Whether a model can be loaded without a network. Raises UsageError for an invalid spec."""
    parsed = parse_spec(spec)
    if parsed.kind == "builtin":
        return True
    if parsed.kind == "file":
        return parsed.path is not None and parsed.path.is_file()
    model = hub_model(parsed)
    return cached_weights(model) is not None and all(map(cached_tokenizer, model.companions))


def known_models() -> tuple[KnownModel, ...]:
    """The models that `clipsearch models` lists, the built-in one first. Reads the cache, not the network."""
    return tuple(
        KnownModel(
            row.spec, row.dim, row.pixels, row.megabytes, row.accuracy, row.licence, is_cached(row.spec), row.note
        )
        for row in ROWS
    )


def probe(repo: str, name: str, *, seconds: float = PROBE_SECONDS) -> Answer:
    """One HEAD request, no retry, no redirect; it waits `seconds` in all, name resolution included."""
    if offline():
        return Answer(None, "HF_HUB_OFFLINE is set")
    answers: list[Answer] = []
    # getaddrinfo has no time limit; a daemon thread can be abandoned
    asker = threading.Thread(
        target=lambda: answers.append(_head(f"{endpoint()}/{repo}/resolve/main/{name}", seconds)), daemon=True
    )
    asker.start()
    asker.join(seconds)
    return answers[0] if answers else Answer(None, f"no answer within {seconds:g} s")


def _head(url: str, seconds: float) -> Answer:
    import http.client
    import urllib.error
    import urllib.request

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args: object, **kwargs: object) -> None:
            return None

    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=seconds) as reply:
            return Answer(reply.status)
    except urllib.error.HTTPError as error:
        error.close()
        return Answer(error.code)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(None, _why(getattr(error, "reason", error)))  # urllib wraps what the system raised


def _why(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return f"no answer within {PROBE_SECONDS:g} s"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror.lower() if reason.strerror.isascii() else reason.strerror
    return str(reason) or type(reason).__name__


def default_spec() -> tuple[str, str | None]:
    """The spec for a new library, and where it is the fallback `builtin`, why.

    The default, if it is cached or the hub answers one request; `builtin`, if nothing answers (no name resolution,
    refused, time-out, HF_HUB_OFFLINE). Raises DownloadError where the hub answers with a failure of its own: that is
    no reason to use another encoder than the one asked for.
    """
    model = hub_model(parse_spec(DEFAULT_SPEC))
    if cached_weights(model):
        return DEFAULT_SPEC, None
    answer = probe(model.repo, model.weights[0])
    if answer.status is None:
        return BUILTIN_SPEC, f"{_host()} cannot be reached: {answer.reason}"
    _refuse_failure(DEFAULT_SPEC, answer.status)
    return DEFAULT_SPEC, None


def fetch(spec: ModelSpec) -> Path:
    """The weights of a hub's model, from the cache or downloaded; its configuration lies beside them.

    Raises DownloadError: at once where the hub does not answer or refuses, or when a download breaks.
    """
    model = hub_model(spec)
    if model.companions:
        require_transformers(spec.name)  # before a gigabyte is downloaded for nothing
    if weights := cached_weights(model):
        return weights
    _require_answer(spec.name, model.repo, model.config or model.weights[0])
    if model.config and _companions(_download(spec.name, model.repo, (model.config,))):
        require_transformers(spec.name)
    return _download(spec.name, model.repo, model.weights)


def require_transformers(name: str) -> None:
    """Raise EncoderError, naming the extra, where a model needs `transformers` and it is not installed."""
    if importlib.util.find_spec("transformers") is None:
        raise EncoderError(
            f"{name}: its tokenizer needs transformers", advice="install the extra: pip install 'clipsearch[hf]'"
        )


def fetch_tokenizer(name: str, repo: str) -> Path:
    """The folder of a repository's tokenizer and text configuration, cached or downloaded, for the model `name`."""
    if folder := cached_tokenizer(repo):
        return folder
    _require_answer(f"{name}: its tokenizer ({repo})", repo, "config.json")
    found = [path for file in (*_TOKENIZER_EXTRAS, *VOCABULARIES) if (path := _try_download(name, repo, file))]
    if not any(path.name in VOCABULARIES for path in found):
        raise DownloadError(f"{name}: {repo} contains no tokenizer", advice=_NO_DOWNLOAD)
    return found[0].parent


def pull(spec: str) -> None:
    """Download a model and its tokenizer in advance. Does nothing for `builtin` and for files. Raises as `fetch`."""
    parsed = parse_spec(spec)
    if parsed.kind in ("pair", "hub"):
        fetch(parsed)
        for repo in hub_model(parsed).companions:
            fetch_tokenizer(parsed.name, repo)


def _host() -> str:
    return endpoint().split("://")[-1]


def _require_answer(what: str, repo: str, file: str) -> None:
    answer = probe(repo, file)
    if answer.status is None:
        reason = f"{what} is not cached, and {_host()} cannot be reached: {answer.reason}"
        raise DownloadError(reason, advice=_NO_DOWNLOAD)
    _refuse_failure(what, answer.status)


def _refuse_failure(what: str, status: int) -> None:
    # 401, 403 and 404 are left to the download: it tries the other file name, and sends the user's token
    if status >= 400 and status not in (401, 403, 404):
        raise DownloadError(f"{what}: {_host()} answers with HTTP {status}", advice=f"try again later; {_NO_DOWNLOAD}")


def _download(name: str, repo: str, files: tuple[str, ...]) -> Path:
    for file in files:
        if path := _try_download(name, repo, file):
            return path
    raise DownloadError(f"{name}: {repo} contains no {' and no '.join(files)}", advice=_NO_DOWNLOAD)


def _try_download(name: str, repo: str, file: str) -> Path | None:
    """A file of a repository, downloaded; None where the repository has no such file."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        return Path(hf_hub_download(repo, file, cache_dir=hub_cache(), endpoint=endpoint()))
    except EntryNotFoundError:
        return None
    except Exception as error:  # hub clients raise their HTTP library's errors, which differ between versions
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise DownloadError(
            f"{name}: the download failed ({reason})", advice=f"try again, or {_NO_DOWNLOAD}"
        ) from error
