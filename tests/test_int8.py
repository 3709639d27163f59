"""Images in 8 bits: as good, an encoder of its own, made again from its record, and asked for by --precision."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from PIL import Image
from tinyclip.scenes import caption, draw, scenes

from clipsearch import Library
from clipsearch.catalog.catalog import Catalog
from clipsearch.encoders import cache
from clipsearch.encoders.base import Encoder, EncoderOptions
from clipsearch.encoders.clip.openclip import OpenClipEncoder
from clipsearch.encoders.load import load_encoder, refuse_int8, reload_encoder
from clipsearch.encoders.onnx.quantisation import Grid, Quantisation, product, quantised_info, taken_apart
from clipsearch.encoders.onnx.tower import Tower, open_session
from clipsearch.errors import ModelMismatchError, UsageError
from clipsearch.images.open import open_image
from clipsearch.indexing.results import IndexReport, Progress
from clipsearch.library import int8
from clipsearch.search.query import QueryOptions
from clipsearch.types import EncoderInfo

TINY = Path(__file__).parent / "tinyclip" / "tiny_clip.pt"
SPEC, SPEC8 = str(TINY), f"{TINY}+int8"
SCENES = list(scenes(400, seed=3))


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawings")
    for i, scene in enumerate(SCENES):
        draw(scene).save(folder / f"{i:03}.png", compress_level=1)
    return folder


@pytest.fixture(scope="module", autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv(cache.CACHE_VARIABLE, str(folder))
        yield folder


@pytest.fixture(scope="module")
def full() -> Encoder:
    return load_encoder(SPEC, EncoderOptions(device="cpu"))


@pytest.fixture(scope="module")
def pixels(drawings: Path, full: Encoder) -> np.ndarray:
    files = sorted(drawings.iterdir())
    return np.stack([open_image(file.read_bytes()).pixels(full.info.preprocess) for file in files])


@pytest.fixture(scope="module")
def info(full: Encoder, pixels: np.ndarray) -> EncoderInfo:
    """In 8 bits, fixed by the last hundred drawings."""
    return full.quantised(pixels[300:])


@pytest.fixture(scope="module")
def small(info: EncoderInfo) -> Encoder:
    return reload_encoder(info, EncoderOptions(device="cpu"))


def rank_one(texts: np.ndarray, images: np.ndarray) -> float:
    return float(np.mean((texts @ images.T).argmax(axis=1) == np.arange(len(images))))


def test_it_finds_what_full_precision_finds(full: Encoder, small: Encoder, pixels: np.ndarray) -> None:
    texts = full.encode_texts([caption(scene) for scene in SCENES[:300]])
    exact, near = full.encode_images(pixels[:300]), small.encode_images(pixels[:300])
    assert rank_one(texts, exact) > 0.85
    assert abs(rank_one(texts, near) - rank_one(texts, exact)) <= 0.02
    assert np.einsum("nd,nd->n", exact, near).min() > 0.998
    assert not np.array_equal(exact, near)
    np.testing.assert_allclose(np.linalg.norm(near, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(small.encode_texts(["a red circle"]), full.encode_texts(["a red circle"]))


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_a_vector_depends_on_its_own_picture_alone(small: Encoder, pixels: np.ndarray, size: int) -> None:
    some = pixels[:24]
    apart = np.concatenate([small.encode_images(some[i : i + size]) for i in range(0, len(some), size)])
    np.testing.assert_array_equal(apart, small.encode_images(some))
    np.testing.assert_array_equal(apart[::-1], small.encode_images(some[::-1]))
    alone = reload_encoder(small.info, EncoderOptions(device="cpu", threads=1))
    np.testing.assert_array_equal(alone.encode_images(some), apart)


def test_the_fingerprint_tells_how_it_is_rounded(full: Encoder, info: EncoderInfo, pixels: np.ndarray) -> None:
    assert info.spec == SPEC8
    assert full.quantised(pixels[300:]).fingerprint == info.fingerprint
    base, rounding = taken_apart(info)
    assert (base, rounding is not None) == (full.info, True)
    assert rounding is not None
    others = {
        full.info.fingerprint,
        full.quantised(pixels[200:300]).fingerprint,
        replace(rounding, reduce_range=not rounding.reduce_range).fingerprint(base.fingerprint),
        rounding.fingerprint("another model"),
    }
    assert info.fingerprint not in others and len(others) == 4


def test_it_is_made_again_from_its_record(
    small: Encoder, info: EncoderInfo, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "another"))
    catalog = Catalog.create(tmp_path / "library")
    with catalog.transaction():
        recorded = catalog.add_encoder(info).info
    catalog.close()
    again = reload_encoder(recorded, EncoderOptions(device="cpu"))
    np.testing.assert_array_equal(again.encode_images(pixels[:24]), small.encode_images(pixels[:24]))
    assert again.info == info


@pytest.mark.parametrize("reduce_range", [True, False])
def test_every_processors_way_gives_the_same(
    info: EncoderInfo, pixels: np.ndarray, reduce_range: bool, tmp_path: Path
) -> None:
    rounding = replace(taken_apart(info)[1], reduce_range=reduce_range)
    towers = {way: tower(info, rounding, way, tmp_path) for way in (product(rounding), "unsigned", "float")}
    vectors = {way: tower(pixels=pixels[:16]) for way, tower in towers.items()}
    np.testing.assert_array_equal(vectors["unsigned"], vectors[product(rounding)])
    assert np.einsum("nd,nd->n", vectors["unsigned"], vectors["float"]).min() > 0.9995


def tower(info: EncoderInfo, rounding: Quantisation, way: Any, folder: Path) -> Tower:
    import warnings

    import open_clip

    from clipsearch.encoders.clip.torch_towers import ImageSide
    from clipsearch.encoders.onnx.int8 import int8_build

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # open_clip tries the file as TorchScript first
        model = open_clip.load_openai_model(str(TINY), precision="fp32", device="cpu").eval()
    write, _ = int8_build(ImageSide(model, info.preprocess), info.preprocess, rounding, way)
    write(folder / f"{way}.onnx")
    return Tower(open_session(folder / f"{way}.onnx"))


def test_what_has_no_such_form_is_refused(full: Encoder, pixels: np.ndarray) -> None:
    with pytest.raises(UsageError, match="builtin has no 8-bit form"):
        load_encoder("builtin").quantised(pixels)
    resnet = replace(full.info, details={**full.info.details, "config": {"vision": {"layers": [1, 1, 1, 1]}}})
    with pytest.raises(UsageError, match="only vision transformers"):
        refuse_int8(OpenClipEncoder(resnet, loader=None))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"`device=\"cuda\"`: int8 runs on the CPU"):
        reload_encoder(full.quantised(pixels[:8]), EncoderOptions(device="cuda")).encode_images(pixels[:1])
    with pytest.raises(UsageError, match="calibrated with your images"):
        load_encoder(SPEC8)


def test_an_architecture_that_is_not_written_here_is_refused() -> None:
    from test_onnx_towers import open_runtime, pictures

    with pytest.raises(UsageError, match="only plain vision transformers"):
        open_runtime("resnet").calibrated(pictures())


# The agreement


def test_the_agreement_tells_good_from_bad(full: Encoder, small: Encoder, pixels: np.ndarray) -> None:
    good = int8.agreement(full, small, pixels[:100], calibrated_on=64)
    assert good is not None and good.words is not None and good.likeness is not None
    assert good.cosine > 0.999 and good.words > 0.95 and good.likeness > 0.9
    assert good.advice is None
    base, rounding = taken_apart(small.info)
    assert rounding is not None
    coarse = replace(rounding, grids=tuple(Grid(grid.step * 24, grid.zero) for grid in rounding.grids))
    bad = int8.agreement(full, reload_encoder(quantised_info(base, coarse)), pixels[:100], calibrated_on=64)
    assert bad is not None and bad.words is not None
    assert bad.words < 0.8 and bad.cosine < good.cosine
    assert bad.advice is not None and '`precision="fp32"`' in bad.advice
    same = int8.agreement(full, full, pixels[:100], calibrated_on=64)
    assert same is not None and (same.words, same.likeness) == (1, 1)
    few = int8.agreement(full, small, pixels[:63], calibrated_on=63)
    assert few is not None and (few.words, few.likeness) == (None, None) and "63 images only" in (few.advice or "")


def test_a_sample_is_of_different_pictures_that_can_be_read(tmp_path: Path, full: Encoder) -> None:
    for i in range(6):
        Image.new("RGB", (80, 80), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
    shutil.copy(tmp_path / "0.png", tmp_path / "copy.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "folder.png").mkdir()
    paths = [*(bytes(path) for path in tmp_path.iterdir()), bytes(tmp_path / "gone.png")]
    found = int8.sample(paths, full, lambda: False)
    assert found.shape == (6, 3, 64, 64)
    np.testing.assert_array_equal(int8.sample(paths[::-1], full, lambda: False), found)
    assert int8.sample([], full, lambda: False).shape == (0, 3, 64, 64)


# A library


class Heard:
    """What a run said, and the stages of its progress, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def say(self, text: str) -> None:
        self.events.append(text)

    def progress(self, at: Progress) -> None:
        if self.events[-1:] != [at.stage]:
            self.events.append(at.stage)

    def agreement(self) -> list[int]:
        """Where among the events a measured agreement was said."""
        return [i for i, text in enumerate(self.events) if "cosine" in text]


@pytest.fixture
def index(drawings: Path, tmp_path: Path) -> Iterator[Callable[..., tuple[IndexReport, Heard, Library]]]:
    libraries = []

    def run(*, count: int = 70, new: bool = False, **options: Any) -> tuple[IndexReport, Heard, Library]:
        photos = tmp_path / "photos"
        photos.mkdir(exist_ok=True)
        for file in sorted(drawings.iterdir())[:count]:
            shutil.copy2(file, photos)
        if new:
            libraries.append(Library.create(tmp_path / f"library-{len(libraries)}", model=SPEC))
        heard = Heard()
        report = libraries[-1].index([photos], notify=heard.say, progress=heard.progress, **options)
        return report, heard, libraries[-1]

    yield run
    for library in libraries:
        library.close()


def specs(library: Library) -> dict[str, str]:
    return {status.info.spec: status.role for status in library.info().encoders}


def test_a_new_library_in_8_bits(index: Any) -> None:
    report, heard, library = index(new=True, precision="int8")
    assert report.encoded == 70 and report.model is not None and report.model.spec == SPEC8
    [said] = heard.agreement()
    assert said < heard.events.index("encoding")  # before it goes on
    assert "the top 10 agree in" in heard.events[said]
    assert specs(library) == {SPEC8: "answering"}
    found = library.query(Path(report.library).parent / "photos" / "007.png", k=1)
    assert found.hits[0].path.endswith("007.png") and found.model.spec == SPEC8
    right = [library.query(caption(SCENES[i]), k=5).hits for i in range(20)]
    assert sum(any(hit.path.endswith(f"{i:03}.png") for hit in hits) for i, hits in enumerate(right)) >= 18


def test_a_plain_run_goes_on_with_it_and_calibrates_nothing(index: Any) -> None:
    first, _, library = index(new=True, precision="int8")
    later, heard, _ = index(count=80)
    assert later.encoded == 10 and later.model == first.model
    again, asked, _ = index(count=90, precision="int8")
    assert again.encoded == 10 and again.model == first.model
    assert heard.agreement() == asked.agreement() == []
    assert specs(library) == {SPEC8: "answering"}


def test_a_calibration_on_few_images_is_made_again_on_enough(index: Any) -> None:
    first, heard, library = index(count=1, new=True, precision="int8")
    assert any("1 image only; the first run with 64 calibrates it again" in text for text in heard.events)
    few, heard, _ = index(count=63)
    assert (few.encoded, few.model, heard.agreement()) == (62, first.model, [])
    enough, heard, _ = index(count=140)
    assert enough.switched and enough.encoded == 140
    assert enough.model.spec == SPEC8 and enough.model.fingerprint != first.model.fingerprint
    [said] = heard.agreement()
    assert "every image encoded again" in heard.events[said - 1] and "the top 10 agree" in heard.events[said]
    assert enough.model.details["agreement"]["calibrated_on"] == 64
    agreement = enough.model.details["agreement"]  # Which images are compared depends on the path of this test.
    assert agreement["cosine"] > 0.999 and agreement["lowest"] > 0.98
    for options in ({}, {"precision": "int8"}, {"model": SPEC8}):
        later, heard, _ = index(count=140, **options)
        assert (later.encoded, later.model, heard.agreement()) == (0, enough.model, [])
    assert library.prune(encoder=SPEC8).vectors == 63


def test_there_and_back(index: Any) -> None:
    _, _, library = index(new=True)
    report, heard, _ = index(precision="int8")
    assert report.switched and report.encoded == 70 and len(heard.agreement()) == 1
    assert specs(library) == {SPEC: "kept", SPEC8: "answering"}
    assert library.query("a red circle", options=QueryOptions(model=SPEC)).model.spec == SPEC
    back, _, _ = index(precision="fp32")
    assert back.switched and back.encoded == 0
    assert specs(library) == {SPEC: "answering", SPEC8: "kept"}
    once_more, heard, _ = index(model=SPEC8)
    assert once_more.switched and once_more.encoded == 0 and not heard.agreement()
    by_name, _, _ = index(model=SPEC)  # a plain name is full precision
    assert by_name.switched
    assert library.prune(encoder=SPEC8).vectors == 70
    with pytest.raises(ModelMismatchError, match="has no embeddings"):
        library.query("a red circle", options=QueryOptions(model=SPEC8))


def test_a_checkpoint_that_moved_is_still_the_same_model(index: Any, tmp_path: Path) -> None:
    _, _, library = index(new=True, precision="int8")
    moved = shutil.copy(TINY, tmp_path / "moved.pt")
    assert library.query("a red circle", options=QueryOptions(model=f"{moved}+int8")).model.spec == SPEC8
    with pytest.raises(ModelMismatchError):
        library.query("a red circle", options=QueryOptions(model=str(moved)))
    report, heard, _ = index(count=80, model=str(moved), precision="int8")
    assert report.encoded == 10 and not heard.agreement()


def test_a_stop_while_it_looks_at_pictures_changes_nothing(index: Any) -> None:
    _, _, library = index(new=True)
    report, heard, _ = index(precision="int8", stop=lambda: True)
    assert report.interrupted and not heard.agreement()
    assert specs(library) == {SPEC: "answering"}


def test_refusals_leave_the_library_as_it_was(index: Any, tmp_path: Path) -> None:
    _, _, library = index(new=True)
    with pytest.raises(UsageError, match="contradict"):
        index(model=SPEC8, precision="fp32")
    assert specs(library) == {SPEC: "answering"}
    (tmp_path / "nothing").mkdir()
    with Library.create(tmp_path / "bare", model=SPEC) as bare, pytest.raises(UsageError, match="your own images"):
        bare.index([tmp_path / "nothing"], precision="int8")


@pytest.mark.parametrize("fast", [True, False])
def test_it_is_mentioned_once_where_it_wins(index: Any, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "has_vnni", lambda: fast)
    monkeypatch.setattr(int8, "MENTIONED_FROM", 50)
    mentioned = []
    for count, options in ((30, {"new": True}), (90, {}), (150, {})):
        _, heard, _ = index(count=count, **options)
        mentioned.append(any('`precision="int8"`' in text for text in heard.events))
    assert mentioned == [False, fast, False]


# The program


def test_on_the_command_line(cli: Cli, drawings: Path, tmp_path: Path) -> None:
    for file in sorted(drawings.iterdir())[:40]:
        (tmp_path / "photos").mkdir(exist_ok=True)
        shutil.copy2(file, tmp_path / "photos")
    ran = cli("index", "photos", "--model", SPEC, "--precision", "int8", "--json", cwd=tmp_path)
    assert ran.code == 0 and ran.json["model"] == SPEC8 and ran.json["indexed"] == 40
    assert "the cosine to full precision is" in ran.err
    info = cli("info", cwd=tmp_path)
    assert f"{SPEC8}: active" in info.text and "images in 8 bits; on 40 images of yours" in info.text
    [encoder] = cli("info", "--json", cwd=tmp_path).json["encoders"]
    assert encoder["info"]["details"]["agreement"]["words"] is None
    assert len(json.dumps(encoder)) < 3000
    found = cli("query", "photos/011.png", "-k", "1", cwd=tmp_path)
    assert found.lines == [str(tmp_path / "photos" / "011.png")]
    shutil.copy2(drawings / "050.png", tmp_path / "photos")
    code = (
        "import sys; from clipsearch import Library; "
        "print(Library.open('index').index().encoded, 'torch' in sys.modules)"
    )
    later = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=cli.env, capture_output=True, text=True)
    assert later.stdout == "1 False\n", later.stderr
    wrong = cli("index", "--precision", "int4", cwd=tmp_path)
    assert wrong.code == 2 and "'fp32', 'int8'" in wrong.err
    absent = cli("query", "a dog", "--model", "ViT-B/32+int8", cwd=tmp_path)
    assert absent.code == 4
