"""What the hub's answers, silence and failures lead to: the fallback rule, explicit models, and loading offline."""

from __future__ import annotations

import io
import json
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hubserver import Hub, serving
from safetensors.torch import save

from clipsearch.encoders.base import EncoderOptions
from clipsearch.encoders.clip import hub
from clipsearch.encoders.load import default_spec, load_encoder
from clipsearch.encoders.specs import DEFAULT_SPEC
from clipsearch.errors import DownloadError, EncoderError

TINY = Path(__file__).parent / "tinyclip" / "tiny_clip.pt"
CPU = EncoderOptions(device="cpu")
MODEL = "someone/tiny"
SPEC = f"hf-hub:{MODEL}"
CONFIG = {
    "model_cfg": {
        "embed_dim": 64,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 64, "layers": 4, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]},
}
WORDS = ["a red circle on a blue background", "a large green ring"]


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def weights() -> bytes:
    return save({name: tensor.contiguous() for name, tensor in torch.load(TINY, weights_only=True).items()})


@pytest.fixture
def server(weights: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    files = {
        f"{MODEL}/open_clip_config.json": json.dumps(CONFIG).encode(),
        f"{MODEL}/open_clip_model.safetensors": weights,
        f"{hub.hub_model(hub.parse_spec(DEFAULT_SPEC)).repo}/open_clip_model.safetensors": b"not looked at here",
    }
    with serving(files) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{probe.getsockname()[1]}")


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield


def test_a_model_of_the_hub_is_the_model_that_its_file_is(server: Hub) -> None:
    ours, file = load_encoder(SPEC, CPU), load_encoder(str(TINY), CPU)
    assert ours.info.fingerprint == file.info.fingerprint
    assert ours.info.spec == SPEC
    assert ours.info.details["repo"] == MODEL
    assert np.array_equal(ours.encode_texts(WORDS), file.encode_texts(WORDS))


def test_a_cached_model_loads_without_a_request(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not hub.is_cached(SPEC)
    first = load_encoder(SPEC, CPU)
    assert hub.is_cached(SPEC)
    server.seen.clear()
    again = load_encoder(SPEC, CPU)
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(Path(hub.hub_cache()) / "another"))  # nothing remembered: built anew
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    anew = load_encoder(SPEC, CPU)
    assert again.info == anew.info == first.info
    assert np.array_equal(anew.encode_texts(WORDS), first.encode_texts(WORDS))
    assert server.seen == []


def test_pulling_fetches_ahead_and_says_nothing(server: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    hub.pull(SPEC)
    assert hub.is_cached(SPEC)
    assert capfd.readouterr() == ("", "")


def test_weights_that_come_only_as_a_pickle_are_taken(server: Hub) -> None:
    del server.files[f"{MODEL}/open_clip_model.safetensors"]
    server.files[f"{MODEL}/open_clip_pytorch_model.bin"] = TINY.read_bytes()
    assert load_encoder(SPEC, CPU).info.fingerprint == load_encoder(str(TINY), CPU).info.fingerprint


def test_the_default_is_taken_where_the_hub_answers(server: Hub) -> None:
    assert default_spec() == (DEFAULT_SPEC, None)
    assert [request.split()[0] for request in server.seen] == ["HEAD"]


def test_the_default_is_taken_where_it_is_cached_and_nobody_answers(
    server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.pull(DEFAULT_SPEC)
    server.seen.clear()
    assert default_spec() == (DEFAULT_SPEC, None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert default_spec() == (DEFAULT_SPEC, None)
    assert server.seen == []


def test_builtin_is_the_fallback_on_a_refused_port(refused: None) -> None:
    started = time.monotonic()
    spec, reason = default_spec()
    assert spec == "builtin"
    assert reason is not None and "127.0.0.1" in reason and "refused" in reason
    assert time.monotonic() - started < 3


def test_an_explicit_model_never_falls_back(refused: None) -> None:
    with pytest.raises(DownloadError, match=r"not cached, and 127.0.0.1.* cannot be reached.*`model=\"builtin\"`"):
        load_encoder(SPEC, CPU)
    with pytest.raises(DownloadError, match='`model="builtin"`'):
        load_encoder("ViT-B/32", CPU)
    with pytest.raises(DownloadError, match='`model="builtin"`'):
        hub.pull("default")


def test_a_silent_port_costs_five_seconds(silent: None) -> None:
    started = time.monotonic()
    with ThreadPoolExecutor() as pool:
        fallback, explicit = pool.submit(default_spec), pool.submit(load_encoder, SPEC, CPU)
        assert fallback.result() == ("builtin", f"{hub.endpoint()[7:]} cannot be reached: no answer within 5 s")
        with pytest.raises(DownloadError, match="no answer within 5 s"):
            explicit.result()
    assert 4 < time.monotonic() - started < 7


def test_an_unknown_host_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    spec, reason = default_spec()
    assert spec == "builtin"
    assert reason is not None and reason.startswith("hub.invalid cannot be reached: ")


def test_offline_by_the_user_asks_nobody(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    spec, reason = default_spec()
    assert spec == "builtin"
    assert reason is not None and "HF_HUB_OFFLINE" in reason
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE"):
        load_encoder(SPEC, CPU)
    assert server.seen == []


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_failing_hub_is_an_error_and_no_fallback(server: Hub, status: int) -> None:
    server.status = status
    for load in (default_spec, lambda: load_encoder(SPEC, CPU)):
        with pytest.raises(DownloadError, match=rf"HTTP {status}.*`model=\"builtin\"`"):
            load()
    assert len(server.seen) == 2, "asked again after a failure"


def test_a_model_that_is_not_there_is_an_error(server: Hub) -> None:
    with pytest.raises(DownloadError, match=r"hf-hub:someone/else.*`model=\"builtin\"`"):
        load_encoder("hf-hub:someone/else", CPU)
    del server.files[f"{MODEL}/open_clip_model.safetensors"]
    with pytest.raises(DownloadError, match=r"no open_clip_model.safetensors and no open_clip_pytorch_model.bin"):
        load_encoder(SPEC, CPU)
    server.status = 403
    with pytest.raises(DownloadError, match='`model="builtin"`'):
        load_encoder(SPEC, CPU)


def test_a_broken_download_is_an_error_and_leaves_nothing_that_counts_as_cached(
    server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cut = 1000
    with pytest.raises(DownloadError, match=rf"{SPEC}: the download failed.*`model=\"builtin\"`"):
        load_encoder(SPEC, CPU)
    assert not hub.is_cached(SPEC)
    server.cut = None
    assert load_encoder(SPEC, CPU).info.dim == 64


def test_damaged_weights_of_the_hub_are_an_error_that_names_them(server: Hub) -> None:
    server.files[f"{MODEL}/open_clip_model.safetensors"] = b"\x08\0\0\0\0\0\0\0{}      but no tensors"
    with pytest.raises(EncoderError, match=r"open_clip_model\.safetensors: (contains no tensors|damaged)"):
        load_encoder(SPEC, CPU)


@pytest.mark.parametrize("content", [b"[]", b"no JSON", b'{"model_cfg": {"embed_dim": 64}}'])
def test_a_broken_configuration_of_the_hub_is_an_error_that_names_it(server: Hub, content: bytes) -> None:
    server.files[f"{MODEL}/open_clip_config.json"] = content
    with pytest.raises(EncoderError, match=r"open_clip_config\.json: not an open_clip model configuration"):
        load_encoder(SPEC, CPU)


def sigmoid_config(tokenizer: str) -> dict[str, Any]:
    """SigLIP's traits on a small model: bias, full padding, squashed pixels, a tokenizer of Hugging Face's."""
    return {
        "model_cfg": {
            "embed_dim": 32,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
            "text_cfg": {
                "context_length": 16,
                "vocab_size": 40,
                "hf_tokenizer_name": tokenizer,
                "tokenizer_kwargs": {"clean": "canonicalize"},
                "width": 64,
                "heads": 1,
                "layers": 1,
                "no_causal_mask": True,
                "proj_bias": True,
                "pool_type": "last",
            },
        },
        "preprocess_cfg": {
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "resize_mode": "squash",
            "interpolation": "bilinear",
        },
    }


def word_tokenizer(folder: Path) -> dict[str, bytes]:
    """The files of a real fast tokenizer that knows a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", "</s>", "a", "red", "circle", "on", "blue", "background", "large", "green", "ring"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>")
    fast.save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def sigmoid(server: Hub, tmp_path: Path) -> Any:
    """A model of SigLIP's kind, served as someone/sigmoid with its tokenizer in another repository."""
    import open_clip

    config = sigmoid_config("someone/words")
    torch.manual_seed(1)
    settings = {name: value for name, value in config["model_cfg"].items() if name != "custom_text"}
    model = open_clip.CustomTextCLIP(**settings).eval()
    server.files |= {f"someone/words/{name}": data for name, data in word_tokenizer(tmp_path / "words").items()}
    server.files["someone/sigmoid/open_clip_config.json"] = json.dumps(config).encode()
    server.files["someone/sigmoid/open_clip_model.safetensors"] = save(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    )
    return model


def test_a_model_that_needs_transformers_names_the_extra_before_it_fetches(
    server: Hub, sigmoid: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)  # Python's own mark of a module that is not there
    with pytest.raises(EncoderError, match=r"needs transformers.*clipsearch\[hf\]"):
        load_encoder("hf-hub:someone/sigmoid", CPU)
    with pytest.raises(EncoderError, match=r"ViT-B-16-SigLIP2/webli.*clipsearch\[hf\]"):
        load_encoder("ViT-B-16-SigLIP2/webli", CPU)
    assert not [request for request in server.seen if "safetensors" in request or "bin" in request]


def test_a_sigmoid_model_comes_with_its_bias_pixels_and_tokenizer(
    server: Hub, sigmoid: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from open_clip.tokenizer import HFTokenizer

    encoder = load_encoder("hf-hub:someone/sigmoid", CPU)
    assert encoder.info.logit_bias == pytest.approx(-10)
    pixels = encoder.info.preprocess
    assert (pixels.size, pixels.resize, pixels.interpolation, pixels.mean) == (
        32,
        "squash",
        "bilinear",
        (0.5, 0.5, 0.5),
    )

    tokenizer = HFTokenizer(str(tmp_path / "words"), context_length=16, clean="canonicalize")
    with torch.inference_mode():
        theirs = sigmoid.encode_text(tokenizer(WORDS), normalize=True).numpy()
    assert np.abs(encoder.encode_texts(WORDS) - theirs).max() < 1e-5
    assert encoder.overflow("a red circle " * 5) == ""
    assert encoder.overflow("a red circle " * 6) == "red circle "

    server.seen.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.is_cached("hf-hub:someone/sigmoid")
    again = load_encoder("hf-hub:someone/sigmoid", CPU)
    assert np.array_equal(again.encode_texts(WORDS), encoder.encode_texts(WORDS))
    assert server.seen == []


def test_a_text_tower_of_hugging_face_comes_with_its_configuration(server: Hub, tmp_path: Path) -> None:
    """The kind of xlm-roberta-base-ViT-B-32: the text tower is built from a configuration in another repository."""
    import open_clip
    from open_clip.tokenizer import HFTokenizer
    from transformers import RobertaConfig

    folder = tmp_path / "words"
    files = word_tokenizer(folder)
    RobertaConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=24, pad_token_id=0, bos_token_id=2, eos_token_id=2,
    ).save_pretrained(folder)  # fmt: skip
    files["config.json"] = (folder / "config.json").read_bytes()
    text = {"hf_model_name": "someone/words", "hf_tokenizer_name": "someone/words", "context_length": 16}
    config = {**sigmoid_config("")["model_cfg"], "text_cfg": {**text, "hf_pooler_type": "mean_pooler"}}
    del config["init_logit_bias"], config["custom_text"]
    local = {**config, "text_cfg": {**config["text_cfg"], "hf_model_name": str(folder), "hf_model_pretrained": False}}
    torch.manual_seed(2)
    model = open_clip.CustomTextCLIP(**local).eval()
    server.files |= {f"someone/words/{name}": data for name, data in files.items()}
    server.files["someone/roberta/open_clip_config.json"] = json.dumps({"model_cfg": config}).encode()
    server.files["someone/roberta/open_clip_pytorch_model.bin"] = pickled(model.state_dict())
    encoder = load_encoder("hf-hub:someone/roberta", CPU)
    with torch.inference_mode():
        theirs = model.encode_text(HFTokenizer(str(folder), context_length=16)(WORDS), normalize=True).numpy()
    assert np.abs(encoder.encode_texts(WORDS) - theirs).max() < 1e-5
    assert np.abs(theirs[0] - theirs[1]).max() > 1e-3


def pickled(state: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
