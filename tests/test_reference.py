"""Our vectors are open_clip's: the same pixels, the same towers, the same unit rows, for images and for words.

So are the predictions of `eval classify`, one by one.

Run with -s to see the largest differences. Full-size models have random weights: equality needs no skill.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import venv
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from conftest import Cli
from PIL import Image
from safetensors.torch import save_file
from skimage import data
from tinyclip.scenes import COLOURS, caption, draw, scenes

from clipsearch.encoders.base import EncoderOptions
from clipsearch.encoders.load import load_encoder
from clipsearch.images.open import open_image

TINY = Path(__file__).parent / "tinyclip" / "tiny_clip.pt"
WORDS = [
    "a photo of a cat",
    "A LARGE red circle above a small blue square on a white background!",
    "  ein Hund läuft \n am Strand 🏖️ — naïve café's “quotes” &amp; 3.50 €  ",
    "犬と猫 собака كلب",
    "",
    "rust " * 200,
]


@dataclass(frozen=True)
class Reference:
    """A checkpoint file, the options that load it, and open_clip's own model and preprocessing for it."""

    name: str
    path: Path
    options: EncoderOptions
    model: Any
    preprocess: Callable[[Image.Image], torch.Tensor]
    size: int
    tokenizer: Any

    def images(self, files: list[bytes]) -> np.ndarray:
        pixels = torch.stack([self.preprocess(Image.open(io.BytesIO(file))) for file in files])
        with torch.inference_mode():
            return self.model.encode_image(pixels, normalize=True).numpy()

    def texts(self, texts: list[str]) -> np.ndarray:
        with torch.inference_mode():
            return self.model.encode_text(self.tokenizer(texts), normalize=True).numpy()


def tiny_reference(folder: Path) -> Reference:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # open_clip tries the file as TorchScript first
        model = open_clip.load_openai_model(str(TINY), precision="fp32", device="cpu").eval()
    preprocess = open_clip.image_transform(64, is_train=False)
    return Reference(
        "tiny_clip", TINY, EncoderOptions(device="cpu"), model, preprocess, 64, open_clip.SimpleTokenizer()
    )


def full_size_reference(arch: str, folder: Path) -> Reference:
    torch.manual_seed(7)
    model, _, preprocess = open_clip.create_model_and_transforms(arch)
    model.eval()
    with torch.no_grad():
        model.logit_scale.fill_(3.3)
    options = EncoderOptions(device="cpu", arch=arch)
    if arch == "ViT-B-32-256":  # as open_clip's training saves it, which names the architecture
        path = folder / "epoch_1.pt"
        state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
        torch.save({"epoch": 1, "name": f"2024_05_01-model_{arch}-lr_0.001-b_64", "state_dict": state}, path)
        options = EncoderOptions(device="cpu")
    elif arch == "RN50":
        path = folder / "weights.pt"
        torch.save(model.state_dict(), path)
    else:
        path = folder / "weights.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    size = model.visual.image_size
    size = size[0] if isinstance(size, tuple) else size
    return Reference(arch, path, options, model, preprocess, size, open_clip.get_tokenizer(arch))


@pytest.fixture(scope="module", params=["tiny_clip", "ViT-B-32-quickgelu", "ViT-B-32-256", "RN50"])
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEARCH_CACHE", str(folder / "cache"))
        yield tiny_reference(folder) if request.param == "tiny_clip" else full_size_reference(request.param, folder)
    for file in folder.rglob("*.*t*"):  # half a gigabyte each
        if file.is_file():
            file.unlink()


@pytest.fixture(scope="module")
def encoder(reference: Reference) -> Any:
    return load_encoder(str(reference.path), reference.options)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photographs() -> list[Image.Image]:
    names = ("astronaut", "chelsea", "coffee", "rocket")
    return [Image.fromarray(getattr(data, name)()) for name in names]


def undrafted() -> list[bytes]:
    """Photographs and drawings of many shapes, as PNG, and as JPEG too small to be drafted at any size here."""
    images = [*photographs(), *(draw(scene) for scene in scenes(3, seed=5))]
    shapes = [(37, 640), (500, 33), (64, 64), (1, 1)]
    odd = [images[1].resize(shape) for shape in shapes]
    small = [image.resize((250, 187)) for image in images[:2]]
    return [*map(encoded, images + odd), *(encoded(image, "JPEG", quality=90) for image in small)]


def prepared(encoder: Any, files: list[bytes]) -> np.ndarray:
    return np.stack([open_image(file).pixels(encoder.info.preprocess) for file in files])


def test_pictures_give_the_vectors_of_the_reference(reference: Reference, encoder: Any) -> None:
    files = undrafted()
    ours = encoder.encode_images(prepared(encoder, files))
    theirs = reference.images(files)
    difference = float(np.abs(ours - theirs).max())
    print(f"{reference.name}: pictures differ by at most {difference:.1e}")
    assert ours.dtype == np.float32 and ours.shape == (len(files), encoder.info.dim)
    assert difference < 1e-5
    assert np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)
    assert np.abs(theirs[0] - theirs[3]).max() > 1e-3, "the model tells no two pictures apart"


def test_words_give_the_vectors_of_the_reference(reference: Reference, encoder: Any) -> None:
    ours = encoder.encode_texts(WORDS)
    theirs = reference.texts(WORDS)
    difference = float(np.abs(ours - theirs).max())
    print(f"{reference.name}: words differ by at most {difference:.1e}")
    assert ours.dtype == np.float32 and ours.shape == (len(WORDS), encoder.info.dim)
    assert difference < 1e-5
    assert np.abs(theirs[0] - theirs[1]).max() > 1e-3, "the model tells no two texts apart"


def test_drafted_photographs_stay_close_to_the_reference(reference: Reference, encoder: Any) -> None:
    side = 4 * reference.size + 8
    large = []
    for image in photographs():
        scale = side / min(image.size)
        large.append(image.resize((round(image.width * scale), round(image.height * scale))))
    files = [encoded(image, "JPEG", quality=92) for image in large]
    ours = encoder.encode_images(prepared(encoder, files))
    cosine = float((ours * reference.images(files)).sum(axis=1).min())
    print(f"{reference.name}: drafted photographs of {side} px have a cosine of at least {cosine:.6f}")
    assert cosine >= (0.9999 if reference.size >= 224 else 0.999)


def test_the_scale_and_the_pixels_come_from_the_checkpoint(reference: Reference, encoder: Any) -> None:
    assert encoder.info.logit_scale == pytest.approx(float(reference.model.logit_scale.exp().item()), rel=1e-6)
    assert encoder.info.logit_bias is None
    assert encoder.info.preprocess.size == reference.size
    assert encoder.info.dim == reference.texts(["x"]).shape[1]


TEMPLATES = ("a red circle on a {} background", "a large blue square on a {} background")


@pytest.fixture(scope="module")
def backgrounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn images, a folder for each colour of the background."""
    root = tmp_path_factory.mktemp("backgrounds")
    for number, scene in enumerate(scenes(40, seed=11)):
        (root / scene.background).mkdir(exist_ok=True)
        draw(scene).save(root / scene.background / f"{number:02}.png")
    return root


def test_every_evaluated_prediction_is_that_of_the_reference(
    cli: Cli, reference: Reference, backgrounds: Path, tmp_path: Path
) -> None:
    arch = ["--arch", reference.options.arch] if reference.options.arch else []
    templates = [word for text in TEMPLATES for word in ("--template", text.replace("{}", "{label}"))]
    command = ["eval", "classify", backgrounds, "--model", reference.path, *arch, *templates, "--device", "cpu"]
    ran = cli(*command, "--json", cwd=tmp_path, env={"CLIPSEARCH_CACHE": os.environ["CLIPSEARCH_CACHE"]})
    assert ran.code == 0, ran.err
    [ours] = ran.json["results"]

    names = sorted(COLOURS)
    paths = [path for name in names for path in sorted((backgrounds / name).iterdir())]
    truth = torch.tensor([names.index(path.parent.name) for path in paths])
    with torch.inference_mode():
        classifier = open_clip.build_zero_shot_classifier(reference.model, reference.tokenizer, names, TEMPLATES)
        features = torch.from_numpy(reference.images([path.read_bytes() for path in paths]))
        logits = reference.model.logit_scale.exp() * features @ classifier
    best = logits.topk(5, dim=1).indices
    # As `accuracy` in open_clip_train.zero_shot, which newer versions of numpy stop.
    top1, top5 = ((best[:, :k] == truth[:, None]).sum().item() / len(paths) for k in (1, 5))
    assert (ours["top1"]["value"], ours["top5"]["value"]) == pytest.approx((top1, top5), abs=1e-12)
    sure = logits.softmax(dim=1).max(dim=1).values
    for row, said in enumerate(ours["predictions"]):
        assert said["path"] == str(paths[row]) and said["label"] == names[truth[row]]
        assert said["guesses"] == [names[i] for i in best[row]]
        assert said["probability"] == pytest.approx(sure[row].item(), abs=1e-5)
    guessed = torch.bincount(best[:, 0], minlength=len(names)).tolist()
    print(f"{reference.name}: {len(paths)} predictions are the same; top-1 {top1:.3f}, top-5 {top5:.3f}: {guessed}")
    assert top1 > 0.9 or reference.path != TINY
    assert (logits - logits[0]).abs().max() > 1e-3, "the model tells no two pictures apart"


@pytest.fixture(scope="session")
def original_clip(request: pytest.FixtureRequest) -> Path:
    """A Python that has OpenAI's own `clip` package, layered over this environment's torch; built once."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    home = Path(request.config.cache.mkdir(f"original-clip-{version}"))
    python = home / "bin" / "python"
    ready = home / "ready"
    if ready.is_file() and ready.read_text() == sys.prefix:
        return python
    venv.create(home, clear=True, with_pip=True, symlinks=True)
    # clip imports pkg_resources, which newer setuptools no longer have; torch and the rest come from this environment
    install = [python, "-m", "pip", "install", "-q", "--no-deps", "setuptools<70", "clip-anytorch"]
    subprocess.run(install, check=True, timeout=300)
    own = next((home / "lib").glob("python*/site-packages"))
    (own / "beneath.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")) + "\n")
    ready.write_text(sys.prefix)
    return python


ORIGINAL = """
import json, sys
import clip, torch
from PIL import Image
job = json.load(sys.stdin)
model, preprocess = clip.load(job["checkpoint"], device="cpu")
model.float()
pixels = torch.stack([preprocess(Image.open(path)) for path in job["pictures"]])
tokens = clip.tokenize(job["texts"])
with torch.no_grad():
    images, texts = model.encode_image(pixels), model.encode_text(tokens)
    logits, _ = model(pixels, tokens)
unit = lambda rows: (rows / rows.norm(dim=-1, keepdim=True)).tolist()
print(json.dumps({"images": unit(images), "texts": unit(texts), "probabilities": logits.softmax(dim=-1).tolist()}))
"""


@pytest.mark.oracle
def test_the_original_clip_package_gives_the_same_vectors_and_probabilities(
    original_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    drawn = list(scenes(12, seed=3))
    paths = [tmp_path / f"{number}.png" for number in range(len(drawn))]
    for path, scene in zip(paths, drawn, strict=True):
        draw(scene).save(path)
    texts = [caption(scene) for scene in drawn]
    job = {"checkpoint": str(TINY), "pictures": [str(path) for path in paths], "texts": texts}
    done = subprocess.run(
        [original_clip, "-W", "ignore", "-c", ORIGINAL],
        input=json.dumps(job),
        text=True,
        capture_output=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = {name: np.array(rows, dtype=np.float32) for name, rows in json.loads(done.stdout.splitlines()[-1]).items()}

    encoder = load_encoder(str(TINY), EncoderOptions(device="cpu"))
    images = encoder.encode_images(prepared(encoder, [path.read_bytes() for path in paths]))
    words = encoder.encode_texts(texts)
    logits = encoder.info.logit_scale * images @ words.T
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    differences = {
        "pictures": float(np.abs(images - theirs["images"]).max()),
        "words": float(np.abs(words - theirs["texts"]).max()),
        "probabilities": float(np.abs(probabilities - theirs["probabilities"]).max()),
    }
    print("original clip:", ", ".join(f"{name} differ by at most {value:.1e}" for name, value in differences.items()))
    assert differences["pictures"] < 1e-5 and differences["words"] < 1e-5
    assert differences["probabilities"] < 1e-4
    assert (theirs["probabilities"].argmax(axis=1) == np.arange(len(drawn))).mean() > 0.8
