"""Local checkpoints in every form, one fingerprint over all of them, what is remembered, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from clipsearch.encoders.base import EncoderOptions, preprocess_from_json, preprocess_json
from clipsearch.encoders.load import load_encoder, reload_encoder
from clipsearch.errors import ClipsearchError, EncoderError, ModelMismatchError, OutOfMemoryError, UsageError
from clipsearch.types import Preprocess

TINY = Path(__file__).parent / "tinyclip" / "tiny_clip.pt"
CPU = EncoderOptions(device="cpu")
AS_OPENAI = EncoderOptions(device="cpu", arch="openai")
WORDS = ["a large red circle on a blue background", "a small green ring"]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))


def tiny_state() -> dict[str, torch.Tensor]:
    return torch.load(TINY, weights_only=True)


def float_state() -> dict[str, torch.Tensor]:
    return {name: tensor.float() for name, tensor in tiny_state().items()}


def tiny_model() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_clip.load_openai_model(str(TINY), precision="fp32", device="cpu").eval()


def torchscript(path: Path) -> None:
    model = tiny_model()
    model.visual.image_size = 64  # what the tracer wants to find there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; OpenAI's archives stay
        torch.jit.save(open_clip.trace_model(model, batch_size=1), path)


CONFIG = {
    "embed_dim": 64,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}


def write_config(folder: Path, **preprocess: Any) -> Path:
    path = folder / "open_clip_config.json"
    path.write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": preprocess}))
    return path


FORMS: dict[str, tuple[str, Callable[[Path], object], EncoderOptions]] = {
    "OpenAI state dict": ("a.pt", lambda path: torch.save(tiny_state(), path), CPU),
    "with the archive's facts": (
        "b.pt",
        lambda path: torch.save({**float_state(), "input_resolution": torch.tensor(64)}, path),
        CPU,
    ),
    "TorchScript archive": ("c.pt", torchscript, EncoderOptions(device="cpu", trust_checkpoint=True)),
    "safetensors, half": ("d.safetensors", lambda path: save_file(tiny_state(), path), AS_OPENAI),
    "safetensors, float": ("e.safetensors", lambda path: save_file(float_state(), path), AS_OPENAI),
    "open_clip training run": (
        "f.pt",
        lambda path: torch.save(
            {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in float_state().items()}}, path
        ),
        AS_OPENAI,
    ),
    "open_clip weights": ("g.bin", lambda path: torch.save(float_state(), path), AS_OPENAI),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_checkpoint_is_the_same_encoder(form: str, tmp_path: Path) -> None:
    name, write, options = FORMS[form]
    path = tmp_path / name
    write(path)
    reference, ours = load_encoder(str(TINY), CPU), load_encoder(str(path), options)
    assert ours.info.fingerprint == reference.info.fingerprint
    assert ours.info.spec == str(path)
    assert ours.info.logit_scale == reference.info.logit_scale
    assert np.abs(ours.encode_texts(WORDS) - reference.encode_texts(WORDS)).max() < 1e-6
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64), dtype=np.uint8)
    assert np.abs(ours.encode_images(pixels) - reference.encode_images(pixels)).max() < 1e-6


def test_a_configuration_beside_the_checkpoint_says_what_it_is(tmp_path: Path) -> None:
    save_file(float_state(), tmp_path / "model.safetensors")
    write_config(tmp_path)
    plain = load_encoder(str(tmp_path / "model.safetensors"), CPU)
    assert plain.info.fingerprint == load_encoder(str(TINY), CPU).info.fingerprint

    write_config(tmp_path, mean=[0.5, 0.5, 0.5], resize_mode="squash")
    other = load_encoder(str(tmp_path / "model.safetensors"), CPU)
    assert (other.info.preprocess.mean, other.info.preprocess.resize) == ((0.5, 0.5, 0.5), "squash")
    assert other.info.fingerprint != plain.info.fingerprint, "pixels belong to what a vector means"


def test_a_configuration_can_be_given_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    save_file(float_state(), tmp_path / "model.safetensors")
    write_config(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    options = EncoderOptions(device="cpu", arch="./open_clip_config.json")
    encoder = load_encoder(str(tmp_path / "model.safetensors"), options)
    assert encoder.info.fingerprint == load_encoder(str(TINY), CPU).info.fingerprint
    monkeypatch.chdir(tmp_path)
    again = reload_encoder(encoder.info, EncoderOptions(device="cpu", arch="RN50"))  # --arch of another model
    assert np.array_equal(again.encode_texts(WORDS), encoder.encode_texts(WORDS))


def test_what_changes_vectors_changes_the_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(float_state(), path)
    quick = load_encoder(str(path), AS_OPENAI).info.fingerprint
    config = {"model_cfg": {**CONFIG, "quick_gelu": False}}
    (tmp_path / "plain.json").write_text(json.dumps(config))
    plain = load_encoder(str(path), EncoderOptions(device="cpu", arch=str(tmp_path / "plain.json"))).info.fingerprint
    state = float_state()
    state["visual.proj"][0, 0] += 1e-3
    save_file(state, path)
    moved = load_encoder(str(path), AS_OPENAI).info.fingerprint
    assert len({quick, plain, moved}) == 3


def test_what_is_stored_of_preprocessing_is_the_same_in_every_version() -> None:
    """Catalogs and the cache hold this text, and fingerprints are taken over it: a renamed field must not change it."""
    pixels = Preprocess(size=224, resize="squash", interpolation="bilinear", mean=(0.5, 0.25, 0.0), crop=0.875, fill=9)
    text = json.dumps(preprocess_json(pixels))
    assert text == (
        '{"size": 224, "resize": "squash", "interpolation": "bilinear", "mean": [0.5, 0.25, 0.0], '
        '"std": [0.26862954, 0.26130258, 0.27577711], "crop": 0.875, "fill": 9}'
    )
    assert preprocess_from_json(json.loads(text)) == pixels


def in_a_new_process(script: str, *args: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", script, *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_file_that_is_known_costs_neither_torch_nor_a_look_at_its_weights() -> None:
    known = load_encoder(str(TINY), CPU)
    script = """
import sys
from clipsearch.encoders.load import load_encoder, reload_encoder
encoder = load_encoder(sys.argv[1])
again = reload_encoder(encoder.info)
heavy = {"torch", "open_clip", "numpy", "huggingface_hub", "transformers", "safetensors", "PIL"} & set(sys.modules)
print(encoder.info.fingerprint, again.info == encoder.info, sorted(heavy))
"""
    assert in_a_new_process(script, str(TINY)) == f"{known.info.fingerprint} True []"


def test_a_query_holds_no_part_of_the_model_and_once_it_is_converted_not_even_torch() -> None:
    script = """
import gc, sys
from clipsearch.encoders.base import EncoderOptions; from clipsearch.encoders.load import load_encoder
encoder = load_encoder(sys.argv[1], EncoderOptions(device="cpu"))
rows = encoder.encode_texts(["a red circle"])
loaded = "torch" in sys.modules
from open_clip.transformer import Transformer
gc.collect()
print(rows.shape, loaded, sum(type(thing) is Transformer for thing in gc.get_objects()))
"""
    assert in_a_new_process(script, str(TINY)) == "(1, 64) True 0"
    assert in_a_new_process(script, str(TINY)) == "(1, 64) False 0"


def test_a_changed_file_is_looked_at_again(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(TINY.read_bytes())
    first = load_encoder(str(path), CPU).info
    os.utime(path, ns=(1, 1))
    assert load_encoder(str(path), CPU).info == first
    state = tiny_state()
    state["text_projection"] += 0.01
    torch.save(state, path)
    assert load_encoder(str(path), CPU).info.fingerprint != first.fingerprint


def test_a_recorded_encoder_works_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    save_file(float_state(), tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    recorded = load_encoder("model.safetensors", AS_OPENAI)
    rows = recorded.encode_texts(WORDS)
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    assert np.array_equal(reload_encoder(recorded.info, CPU).encode_texts(WORDS), rows)


@pytest.mark.parametrize("known", [False, True], ids=["looked at now", "known to be another"])
def test_a_recorded_encoder_refuses_other_weights(known: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(TINY.read_bytes())
    recorded = load_encoder(str(path), CPU).info
    state = tiny_state()
    state["visual.proj"] += 0.01
    torch.save(state, path)
    if known:
        load_encoder(str(path), CPU)
    encoder = reload_encoder(recorded, CPU)
    with pytest.raises(ModelMismatchError, match="now has other weights"):
        encoder.encode_texts(WORDS)
    with pytest.raises(ModelMismatchError, match="now has other weights"):
        encoder.encode_images(np.zeros((1, 3, 64, 64), np.uint8))


def test_a_recorded_file_that_is_gone_says_how_to_name_its_new_place(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(TINY.read_bytes())
    recorded = load_encoder(str(path), CPU).info
    moved = path.rename(tmp_path / "moved.pt")
    encoder = reload_encoder(recorded, CPU)
    with pytest.raises(EncoderError, match=r"model\.pt: no such file; if it has moved, name its new path as `model`"):
        encoder.encode_texts(WORDS)
    assert load_encoder(str(moved), CPU).info.fingerprint == recorded.fingerprint


def test_an_archive_that_is_not_published_is_opened_only_when_trusted(tmp_path: Path) -> None:
    path = tmp_path / "archive.pt"
    torchscript(path)
    with pytest.raises(EncoderError, match="`trust_checkpoint=True`"):
        load_encoder(str(path), CPU)
    trusted = load_encoder(str(path), EncoderOptions(device="cpu", trust_checkpoint=True))
    # converted once: from now on it is plain tensors, which need no trust
    assert np.array_equal(reload_encoder(trusted.info, CPU).encode_texts(WORDS), trusted.encode_texts(WORDS))


class Booby:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    torch.save({"state_dict": Booby(trap)}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Booby(trap), protocol=2))
    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(EncoderError, match="not a checkpoint of tensors"):
            load_encoder(str(tmp_path / name), EncoderOptions(device="cpu", trust_checkpoint=True))
    assert not trap.exists()


def broken(path: Path, content: object) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.pt", b"", "not a checkpoint of tensors"),
        ("text.pt", b"this is no model\n", "not a checkpoint of tensors"),
        ("cut.pt", TINY.read_bytes()[:300_000], "not a checkpoint of tensors"),
        ("cut.safetensors", b"\xff" * 64, "damaged, or not a safetensors"),
        ("list.pt", [torch.zeros(3)], "contains a list"),
        ("none.pt", {"epoch": 3}, "contains no tensors"),
        ("odd.pt", {"state_dict": 3}, "state_dict is a int"),
        ("other.pt", {"fc.weight": torch.zeros(3, 3)}, "name it with `arch`"),
        ("hf.pt", {"text_model.embeddings.weight": torch.zeros(3, 3)}, "transformers' format"),
    ],
)
def test_what_is_no_checkpoint_is_an_error_that_names_the_file(
    name: str, content: object, message: str, tmp_path: Path
) -> None:
    path = broken(tmp_path / name, content)
    with pytest.raises(EncoderError, match=message) as caught:
        load_encoder(str(path), CPU)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_and_an_unreadable_name_are_errors(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="is a folder; name the checkpoint in it"):
        load_encoder(str(tmp_path), CPU)
    with pytest.raises(EncoderError, match="no such file"):
        load_encoder(str(tmp_path / "none.pt"), CPU)


def test_a_checkpoint_that_cannot_say_its_activation_asks_for_it(tmp_path: Path) -> None:
    save_file(float_state(), tmp_path / "model.safetensors")
    with pytest.raises(EncoderError, match='`arch="openai"`'):
        load_encoder(str(tmp_path / "model.safetensors"), CPU)
    state = open_clip.create_model("RN50").state_dict()
    torch.save(state, tmp_path / "rn50.pt")
    with pytest.raises(
        EncoderError, match=r"`arch=\"RN50\"` or `arch=\"RN50-quickgelu\"` \(only whoever trained it knows which\)"
    ):
        load_encoder(str(tmp_path / "rn50.pt"), CPU)


def test_a_wrong_architecture_is_an_error_never_a_model_that_is_part_random(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"not those of this architecture.*`arch`"):
        load_encoder(str(TINY), EncoderOptions(device="cpu", arch="ViT-S-32"))
    with pytest.raises(UsageError, match="unknown open_clip architecture"):
        load_encoder(str(TINY), EncoderOptions(device="cpu", arch="ViT-B-31"))
    state = float_state()
    del state["visual.ln_post.bias"]
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(EncoderError, match=r"visual\.ln_post\.bias"):
        load_encoder(str(tmp_path / "less.safetensors"), AS_OPENAI)
    larger = {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "image_size": 96}}  # type: ignore[dict-item]
    (tmp_path / "larger.json").write_text(json.dumps({"model_cfg": larger}))
    with pytest.raises(EncoderError, match="positional_embedding"):
        load_encoder(str(TINY), EncoderOptions(device="cpu", arch=str(tmp_path / "larger.json")))


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:1", ""])
def test_a_device_that_means_nothing_is_refused_at_once(device: str) -> None:
    with pytest.raises(UsageError, match="must be auto, cpu, cuda"):
        load_encoder(str(TINY), EncoderOptions(device=device))


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    encoder = load_encoder(str(TINY), EncoderOptions(device="cuda:63"))
    with pytest.raises(UsageError, match=r"cuda:63.*torch sees"):
        encoder.encode_texts(WORDS)


def test_a_batch_that_does_not_fit_is_told_apart_from_other_failures() -> None:
    encoder = load_encoder(str(TINY), CPU)
    huge = np.broadcast_to(np.zeros((1, 3, 64, 64), np.uint8), (10**10, 3, 64, 64))  # 123 TB, once it is copied
    with pytest.raises(OutOfMemoryError, match="`batch_size`"):
        encoder.encode_images(huge)
    with pytest.raises(ClipsearchError) as caught:
        encoder.encode_images(np.zeros((1, 3, 32, 32), np.uint8))
    assert not isinstance(caught.value, OutOfMemoryError)
    assert encoder.encode_images(np.zeros((2, 3, 64, 64), np.uint8)).shape == (2, 64)


def test_nothing_gives_no_rows() -> None:
    encoder = load_encoder(str(TINY), CPU)
    assert encoder.encode_texts([]).shape == (0, 64)
    assert encoder.encode_images(np.zeros((0, 3, 64, 64), np.uint8)).shape == (0, 64)
    assert encoder.explain(encoder.encode_texts(["x"])[0]) == ()


def test_a_vector_does_not_depend_on_its_neighbours() -> None:
    encoder = load_encoder(str(TINY), CPU)
    words = [f"a {size} red circle, number {number}" for number in range(75) for size in ("small", "large")]
    together = encoder.encode_texts(words)
    assert np.abs(together - np.concatenate([encoder.encode_texts([text]) for text in words])).max() < 1e-6


def test_what_is_cut_off_is_named() -> None:
    encoder = load_encoder(str(TINY), CPU)
    assert encoder.overflow("a red circle") == ""
    text = "red  " * 74 + "blue"  # 75 tokens, with the two marks 77
    assert encoder.overflow(text) == ""
    longer = f"{text} green\tlarge ring"
    assert encoder.overflow(longer) == "green\tlarge ring"
    assert np.array_equal(encoder.encode_texts([longer]), encoder.encode_texts([text]))
    assert encoder.overflow("x" * 500), "one endless word is cut inside"
    assert 10 < len(encoder.overflow("犬と猫" * 60)) < 180


@pytest.fixture(scope="module")
def shared_encoder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_encoder(str(TINY), CPU)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["red", "photographic", "犬", "naïve", "🏖️", "x" * 90, "\n", "don't", "3.50"]), max_size=90)
)
def test_what_is_cut_off_is_the_end_of_the_text(shared_encoder: Any, words: list[str]) -> None:
    text = " ".join(words)
    rest = shared_encoder.overflow(text)
    assert text.endswith(rest)
    assert shared_encoder.overflow(text[: len(text) - len(rest)]) == ""


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(blocked / "cache"))
    path = tmp_path / "archive.pt"
    torchscript(path)
    encoder = load_encoder(str(path), EncoderOptions(device="cpu", trust_checkpoint=True))
    assert encoder.encode_texts(WORDS).shape == (2, 64)


@pytest.mark.gpu
def test_a_gpu_gives_the_vectors_of_the_cpu() -> None:
    cpu, gpu = load_encoder(str(TINY), CPU), load_encoder(str(TINY), EncoderOptions(device="cuda"))
    pixels = np.random.default_rng(0).integers(0, 256, (9, 3, 64, 64), dtype=np.uint8)
    assert ((cpu.encode_images(pixels) * gpu.encode_images(pixels)).sum(axis=1) > 0.999).all()
    assert np.abs(cpu.encode_texts(WORDS) - gpu.encode_texts(WORDS)).max() < 1e-3
    with pytest.raises(OutOfMemoryError):
        gpu.encode_images(np.zeros((8_000_000, 3, 64, 64), np.uint8))
    assert gpu.encode_images(pixels).shape == (9, 64)
