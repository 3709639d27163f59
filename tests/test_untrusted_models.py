"""Models that somebody else made: their Python code never runs, and what is wrong in their files is one error."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from hubserver import serving
from safetensors.torch import save
from test_hub import CONFIG, TINY, WORDS, sigmoid_config, word_tokenizer

from clipsearch import Library
from clipsearch.encoders.base import EncoderOptions
from clipsearch.encoders.clip.tokenizer import KEYWORDS
from clipsearch.encoders.load import load_encoder, reload_encoder
from clipsearch.errors import DamagedError, EncoderError

CPU = EncoderOptions(device="cpu")
SETTINGS = "open_clip_config.json"


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def weights(state: Mapping[str, torch.Tensor]) -> bytes:
    return save({name: tensor.contiguous() for name, tensor in state.items()})


@pytest.fixture(scope="session")
def tiny() -> bytes:
    return weights(torch.load(TINY, weights_only=True))


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a Hugging Face tokenizer, and of a text tower of the same vocabulary."""
    from transformers import RobertaConfig

    folder = tmp_path_factory.mktemp("words")
    files = word_tokenizer(folder)
    RobertaConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=24, pad_token_id=0, bos_token_id=2, eos_token_id=2,
    ).save_pretrained(folder)  # fmt: skip
    return files | {"config.json": (folder / "config.json").read_bytes()}


@pytest.fixture(scope="session")
def sigmoid() -> bytes:
    settings = sigmoid_config("someone/words")["model_cfg"]
    torch.manual_seed(1)
    model = open_clip.CustomTextCLIP(**{name: value for name, value in settings.items() if name != "custom_text"})
    return weights(model.state_dict())


def write(folder: Path, settings: bytes | dict[str, Any], state: bytes, others: Mapping[str, bytes] = {}) -> str:
    """A checkpoint with its configuration and other files beside it. Returns the spec."""
    folder.mkdir()
    raw = settings if isinstance(settings, bytes) else json.dumps(settings).encode()
    for name, content in {SETTINGS: raw, "model.safetensors": state, **others}.items():
        (folder / name).write_bytes(content)
    return str(folder / "model.safetensors")


def changed(settings: dict[str, Any], *path: str, to: object) -> dict[str, Any]:
    """A copy of a configuration with another value in one place."""
    copy = json.loads(json.dumps(settings))
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = to
    return copy


# Code that comes with a model


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a model's code would write. Whoever is asked on the terminal agrees."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    return tmp_path / "the code ran"


def code(marker: Path) -> dict[str, bytes]:
    return {"code.py": f"open({str(marker)!r}, 'w').close()\nclass Tokenizer: pass\nclass Config: pass\n".encode()}


def with_code(words: Mapping[str, bytes], marker: Path) -> dict[str, bytes]:
    """A tokenizer that names Python code beside it."""
    settings = json.loads(words["tokenizer_config.json"])
    settings["auto_map"] = {"AutoTokenizer": ["code.Tokenizer", "code.Tokenizer"]}
    return {**words, "tokenizer_config.json": json.dumps(settings).encode(), **code(marker)}


def test_a_configuration_cannot_make_a_tokenizer_run_code(
    tmp_path: Path, words: dict[str, bytes], sigmoid: bytes, marker: Path
) -> None:
    options = {"clean": "canonicalize", "trust_remote_code": True}
    settings = changed(sigmoid_config("someone/words"), "model_cfg", "text_cfg", "tokenizer_kwargs", to=options)
    encoder = load_encoder(write(tmp_path / "model", settings, sigmoid, with_code(words, marker)), CPU)
    assert encoder.encode_texts(WORDS).shape == (2, 32)
    assert not marker.exists()


def test_a_catalog_cannot_make_a_tokenizer_run_code(
    tmp_path: Path, words: dict[str, bytes], sigmoid: bytes, marker: Path
) -> None:
    files = with_code(words, marker)
    info = load_encoder(write(tmp_path / "model", sigmoid_config("someone/words"), sigmoid, files), CPU).info
    about = {**info.details["tokenizer"], "options": {"clean": "canonicalize", "trust_remote_code": True}}
    foreign = replace(info, details={**info.details, "tokenizer": about})
    assert reload_encoder(foreign, CPU).encode_texts(WORDS).shape == (2, 32)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["no kind of transformers", "roberta"])
def test_a_text_tower_runs_no_code(
    tmp_path: Path, words: dict[str, bytes], tiny: bytes, marker: Path, kind: str
) -> None:
    tower = json.loads(words["config.json"])
    tower |= {"model_type": kind, "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Config"}}
    files = {**words, "config.json": json.dumps(tower).encode(), **code(marker)}
    text = {"hf_model_name": "someone/words", "hf_tokenizer_name": "someone/words", "hf_pooler_type": "mean_pooler"}
    spec = write(tmp_path / "model", changed(CONFIG, "model_cfg", "text_cfg", to=text), tiny, files)
    with pytest.raises(EncoderError, match=r"open_clip_config\.json|its tensors are not those"):
        load_encoder(spec, CPU)
    assert not marker.exists()


def test_keywords_of_tokenizers_are_those_of_open_clips_own_configurations() -> None:
    texts = [open_clip.get_model_config(name)["text_cfg"] for name in open_clip.list_models()]
    assert {word for text in texts for word in text.get("tokenizer_kwargs", {})} == KEYWORDS


# Files in which something is wrong

MODEL, VISION, TEXT = ("model_cfg",), ("model_cfg", "vision_cfg"), ("model_cfg", "text_cfg")

DESCRIPTIONS: dict[str, bytes | dict[str, Any]] = {
    "empty": b"",
    "not UTF-8": b'{"model_cfg": "\xff"}',
    "zeros": b"\0" * 10,
    "a number": b"NaN",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "deep inside": json.dumps(CONFIG).replace("true", "[" * 900 + "]" * 900).encode(),
    "no text side": {"model_cfg": {"embed_dim": 64, "vision_cfg": {}}},
    "sides are lists": {"model_cfg": {"embed_dim": 64, "vision_cfg": [], "text_cfg": []}},
    "pixels are a list": changed(CONFIG, "preprocess_cfg", to=[1]),
    "two means": changed(CONFIG, "preprocess_cfg", "mean", to=[0.5, 0.5]),
    "a mean that is no number": changed(CONFIG, "preprocess_cfg", "mean", to=float("nan")),
    "unknown setting": changed(CONFIG, *MODEL, "surprise", to=1),
    "unknown setting of a side": changed(CONFIG, *VISION, "surprise", to=1),
    "unknown architecture": changed(CONFIG, *VISION, "timm_model_name", to="no such model"),
    "architecture from elsewhere": changed(CONFIG, *VISION, "timm_model_name", to="hf-hub:someone/else"),
    "width is text": changed(CONFIG, *VISION, "width", to="64"),
    "width is 0": changed(CONFIG, *VISION, "width", to=0),
    "width is not whole": changed(CONFIG, *TEXT, "width", to=64.5),
    "patches of nothing": changed(CONFIG, *VISION, "patch_size", to=0),
    "layers without end": changed(CONFIG, *VISION, "layers", to=10**9),
    "huge pixels": changed(CONFIG, *VISION, "image_size", to=10**6),
    "huge context": changed(CONFIG, *TEXT, "context_length", to=10**9),
    "infinite context": changed(CONFIG, *TEXT, "context_length", to=float("inf")),
    "huge dimension": changed(CONFIG, *MODEL, "embed_dim", to=10**30),
    "no dimension": changed(CONFIG, *MODEL, "embed_dim", to=None),
    "keywords are a number": changed(CONFIG, *TEXT, "tokenizer_kwargs", to=5),
    "text tower without a pooler": changed(
        CONFIG, *TEXT, to={"hf_model_name": "x", "hf_tokenizer_name": "x", "hf_pooler_type": []}
    ),
}


@pytest.mark.parametrize("description", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_a_wrong_configuration_is_an_error_that_names_it(
    tmp_path: Path, tiny: bytes, words: dict[str, bytes], description: bytes | dict[str, Any]
) -> None:
    spec = write(tmp_path / "model", description, tiny, words)
    with pytest.raises(EncoderError, match=SETTINGS):
        load_encoder(spec, CPU)
    (tmp_path / "model" / SETTINGS).rename(tmp_path / "model" / "given.json")
    with pytest.raises(EncoderError, match=r"given\.json"):
        load_encoder(spec, replace(CPU, arch=str(tmp_path / "model" / "given.json")))


HUB = {name: DESCRIPTIONS[name] for name in ("deep", "a list", "unknown setting")} | {
    f"tokenizer {name!r}": changed(CONFIG, *TEXT, "hf_tokenizer_name", to=name)
    for name in (5, ["x"], "a\0b", "../..", "\ud800")
}


@pytest.mark.parametrize("description", HUB.values(), ids=map(ascii, HUB))
def test_a_wrong_configuration_of_the_hub_is_an_error(
    tiny: bytes, monkeypatch: pytest.MonkeyPatch, description: bytes | dict[str, Any]
) -> None:
    raw = description if isinstance(description, bytes) else json.dumps(description).encode()
    with serving({f"o/m/{SETTINGS}": raw, "o/m/open_clip_model.safetensors": tiny}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        with pytest.raises(EncoderError, match=f"{SETTINGS}|hf-hub:o/m"):
            load_encoder("hf-hub:o/m", CPU)


def test_a_mismatch_that_would_fill_the_memory_is_found_first(tmp_path: Path, tiny: bytes) -> None:
    spec = write(tmp_path / "model", changed(CONFIG, *VISION, "width", to=64 * 1600), tiny)
    with pytest.raises(EncoderError, match=r"its tensors are not those of this architecture \(they are too few"):
        load_encoder(spec, CPU)


TOKENIZERS = {
    "empty": ("tokenizer.json", b""),
    "not UTF-8": ("tokenizer.json", b"\xff\xfe{}"),
    "a list": ("tokenizer.json", b"[]"),
    "deep": ("tokenizer.json", b"[" * 100_000),
    "no model": ("tokenizer.json", b"{}"),
    "settings are empty": ("tokenizer_config.json", b""),
    "settings are a list": ("tokenizer_config.json", b"[]"),
    "settings are deep": ("tokenizer_config.json", b"[" * 100_000),
    "no padding": ("tokenizer_config.json", b'{"tokenizer_class": "PreTrainedTokenizerFast"}'),
    "a class that is a number": ("tokenizer_config.json", b'{"tokenizer_class": 5}'),
    "ids beyond the vocabulary": ("tokenizer.json", b""),
}


@pytest.mark.parametrize(("name", "content"), TOKENIZERS.values(), ids=TOKENIZERS)
def test_a_wrong_tokenizer_is_an_error_that_names_the_file(
    tmp_path: Path, words: dict[str, bytes], sigmoid: bytes, name: str, content: bytes, request: pytest.FixtureRequest
) -> None:
    if "ids beyond" in request.node.name:
        content = words["tokenizer.json"].replace(b'"red": 4', b'"red": 400000')
        assert content != words["tokenizer.json"]
    spec = write(tmp_path / "model", sigmoid_config("someone/words"), sigmoid, {**words, name: content})
    with pytest.raises(EncoderError, match=rf"{tmp_path}/model/(tokenizer\.json|model\.safetensors): its tokenizer"):
        load_encoder(spec, CPU).encode_texts(["a red circle"])


ROWS: dict[str, dict[str, Any]] = {
    "no tokenizer": {"tokenizer": None},
    "no kind": {"tokenizer": {"context_length": 77}},
    "options are text": {"tokenizer": {"kind": "bpe", "context_length": 77, "options": "x"}},
    "unknown cleaning": {"tokenizer": {"kind": "bpe", "context_length": 77, "options": {"clean": ["lower"]}}},
    "huge context": {"tokenizer": {"kind": "bpe", "context_length": 10**9}},
    "another context": {"tokenizer": {"kind": "bpe", "context_length": 12000}},
}


@pytest.mark.parametrize("details", ROWS.values(), ids=ROWS)
def test_a_wrong_row_of_a_catalog_is_an_error_that_names_the_model(
    tmp_path: Path, tiny: bytes, details: dict[str, Any]
) -> None:
    info = load_encoder(write(tmp_path / "model", CONFIG, tiny), CPU).info
    foreign = replace(info, details={**info.details, **details})
    with pytest.raises(EncoderError, match=r"model\.safetensors: its (tokenizer|text side)"):
        reload_encoder(foreign, CPU).encode_texts(WORDS)


@pytest.mark.parametrize("details", ["", "[]", "{}", "null", '{"preprocess": 3, "is_clip": true, "template": ""}'])
def test_details_in_a_catalog_that_make_no_sense_are_damage(tmp_path: Path, details: str) -> None:
    with Library.create(tmp_path / "library", model="builtin"):
        pass
    conn = sqlite3.connect(tmp_path / "library" / "catalog.db")
    conn.execute("UPDATE encoders SET details = ?", (details,))
    conn.commit()
    conn.close()
    with pytest.raises(DamagedError, match="builtin"), Library.open(tmp_path / "library") as library:
        library.query("a dog")
