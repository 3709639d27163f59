"""open_clip's towers in ONNX Runtime give torch's vectors: in every form that is written here, and in exported ones."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from torch import nn

from clipsearch.encoders import cache
from clipsearch.encoders.base import EncoderOptions
from clipsearch.encoders.clip import runtime, torch_towers
from clipsearch.encoders.clip.runtime import Runtime
from clipsearch.encoders.clip.torch_towers import ImageSide, TextSide, placed
from clipsearch.encoders.devices import is_cpu
from clipsearch.encoders.onnx.store import GRAPH
from clipsearch.encoders.onnx.tower import Tower, open_session
from clipsearch.errors import UsageError
from clipsearch.types import EncoderInfo, Preprocess

DIM, SIZE, CONTEXT, VOCABULARY = 24, 64, 16, 300
VIT = {"image_size": SIZE, "patch_size": 16, "width": 64, "head_width": 16, "layers": 3}
TEXT = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 48, "heads": 3, "layers": 3}
BOTH_WAYS = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
FORMS: dict[str, dict[str, Any]] = {
    "quickgelu": {"quick_gelu": True},
    "gelu": {},
    "layer scale, tanh": {
        "vision_cfg": VIT | {"ls_init_value": 0.3, "act_kwargs": {"approximate": "tanh"}},
        "text_cfg": TEXT | {"ls_init_value": 0.3, "act_kwargs": {"approximate": "tanh"}},
    },
    "mean of patches": {"vision_cfg": VIT | {"pool_type": "avg", "no_ln_pre": True}},
    "norm after mean": {"vision_cfg": VIT | {"pool_type": "avg", "final_ln_after_pool": True}},
    "end by its id": {"text_cfg": TEXT | {"pool_type": "eos", "eos_id": 7}},
    "both ways": {"custom_text": True, "text_cfg": TEXT | BOTH_WAYS},
    "first token": {"custom_text": True, "text_cfg": TEXT | BOTH_WAYS | {"pool_type": "first"}},
    "attention pool": {"vision_cfg": VIT | {"attentional_pool": True, "attn_pooler_heads": 4}},
    "own class token": {"custom_text": True, "text_cfg": TEXT | {"embed_cls": True}},
    "resnet": {"vision_cfg": {"image_size": SIZE, "layers": [1, 1, 1, 1], "width": 16, "head_width": 16}},
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    yield tmp_path / "cache"


def build(form: str) -> nn.Module:
    """A small model with every weight random, zeros and ones of fresh norms included."""
    settings = {"vision_cfg": VIT, "text_cfg": TEXT} | FORMS[form]
    kind = open_clip.CustomTextCLIP if settings.pop("custom_text", False) else open_clip.CLIP
    torch.manual_seed(0)
    model = kind(embed_dim=DIM, **settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return model


PREPROCESS = Preprocess(size=SIZE, mean=(0.3, 0.5, 0.6), std=(0.2, 0.3, 0.4))


def open_runtime(form: str, *, device: str = "cpu", load: Callable[[], nn.Module] | None = None) -> Runtime:
    fingerprint = hashlib.sha256(form.encode()).hexdigest()
    info = EncoderInfo(
        form, fingerprint, DIM, 100.0, None, PREPROCESS, details={"tokenizer": {"context_length": CONTEXT}}
    )
    return Runtime(load or (lambda: build(form)), info, EncoderOptions(device=device))


def torch_images(model: nn.Module) -> np.ndarray:
    return placed(ImageSide(model, PREPROCESS), "cpu").encode(pictures())


def pictures() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (5, 3, SIZE, SIZE), dtype=np.uint8)


def texts(form: str) -> np.ndarray:
    """Tokens of five texts, the longest neither first nor last; padded with zeros."""
    end = FORMS[form].get("text_cfg", TEXT).get("eos_id", VOCABULARY - 1)
    chance = np.random.default_rng(4)
    rows = np.zeros((5, CONTEXT), np.int64)
    for row, length in zip(rows, (4, 2, CONTEXT, 9, 5), strict=True):
        row[: length - 1] = chance.integers(10, VOCABULARY - 2, length - 1)
        row[length - 1] = end
    return rows


@pytest.mark.parametrize("form", FORMS)
def test_vectors_are_torchs(form: str, caplog: pytest.LogCaptureFixture) -> None:
    converted = open_runtime(form)
    with caplog.at_level(logging.WARNING):  # also what torch and onnxscript would tell a user
        images, words = converted.images(pictures()), converted.texts(texts(form))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert np.abs(images - torch_images(build(form))).max() < 1e-5
    assert np.abs(words - placed(TextSide(build(form)), "cpu").encode(texts(form))).max() < 1e-5
    # Alone or in company, an image and a text have one vector.
    assert np.abs(images[:1] - converted.images(pictures()[:1])).max() <= 1e-6
    assert np.abs(words[:1] - converted.texts(texts(form)[:1])).max() <= 1e-6


@pytest.mark.parametrize("form", ["quickgelu", "both ways"])
def test_a_causal_text_is_cut_after_its_end_and_no_other(form: str, folder: Path) -> None:
    open_runtime(form).texts(texts(form))
    (made,) = (folder / "towers").iterdir()
    assert Tower(open_session(made / GRAPH)).takes_any("tokens") == (form == "quickgelu")


def test_the_model_is_built_once_a_side_and_never_again() -> None:
    built = []
    converted = open_runtime("gelu", load=lambda: built.append(1) or build("gelu"))
    images, words = converted.images(pictures()), converted.texts(texts("gelu"))
    assert len(built) == 2
    again = open_runtime("gelu", load=lambda: pytest.fail("the model was built again"))
    np.testing.assert_array_equal(again.images(pictures()), images)
    np.testing.assert_array_equal(again.texts(texts("gelu")), words)


def test_torch_goes_on_where_a_graph_is_not_faithful(caplog: pytest.LogCaptureFixture) -> None:
    model = build("gelu")
    norm = model.visual.ln_post
    norm.forward = lambda x: nn.LayerNorm.forward(norm, x).flip(-1)
    converted = open_runtime("gelu", load=lambda: model)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(converted.images(pictures()), torch_images(model))
    assert "the image side runs in torch" in caplog.text


def test_pictures_stay_in_torch_on_a_gpu_and_texts_do_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "is_cpu", lambda device: device != "cuda")
    monkeypatch.setattr(torch_towers, "pick_device", lambda name: torch.device("cpu"))
    converted = open_runtime("gelu", device="cuda")
    np.testing.assert_array_equal(converted.images(pictures()), torch_images(build("gelu")))
    converted.texts(texts("gelu"))
    assert [path.name.split("-")[1] for path in (folder / "towers").iterdir()] == ["text"]


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="cuda:63"):
        open_runtime("gelu", device="cuda:63")


def test_torch_is_asked_for_a_gpu_only_where_there_may_be_one() -> None:
    assert is_cpu("cpu")
    assert is_cpu("auto") != (torch.cuda.is_available() or torch.backends.mps.is_available())
