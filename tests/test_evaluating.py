"""Evaluations from Python: data sets as they are distributed, and vectors that are computed once."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from helpers import Shelf, TinyEncoder, draw, use_encoders
from numpy.typing import NDArray
from PIL import Image
from toy_engine import ToyEngine, ToyIndex

from clipsearch.catalog.catalog import Catalog
from clipsearch.classify.labels import Label
from clipsearch.errors import DamagedError, NoLibraryError, StoppedError, UsageError
from clipsearch.evaluate import (
    ALTERATIONS,
    Captioned,
    Workplace,
    alterations,
    find_again,
    folder_per_class,
    library_images,
    measure_engines,
    read_captions,
    retrieve,
)
from clipsearch.evaluate.store import STORE_NAME, Kept, VectorStore
from clipsearch.images.open import open_image
from clipsearch.indexing.results import Progress
from clipsearch.vectors import engines
from clipsearch.vectors.index import Build
from clipsearch.vectors.ivf import Sample

if TYPE_CHECKING:
    from clipsearch.vectors.index import Write


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> dict[str, TinyEncoder]:
    """Every model is a TinyEncoder of its name; those that were loaded, by name."""
    loaded: dict[str, TinyEncoder] = {}

    def load(spec: str, options: object = None) -> TinyEncoder:
        return loaded.setdefault(spec, TinyEncoder(spec))

    use_encoders(monkeypatch.setattr, load, lambda info, options=None: load(info.spec))
    return loaded


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(cache=tmp_path / "cache")


def drawn(folder: Path, count: int) -> list[bytes]:
    return [os.fsencode(draw(folder / f"{i:03}.png", seed=i, side=48)) for i in range(count)]


# Captions


FLICKR8K = "b.jpg#0\tA dog , running .\nb.jpg#1\tA dog runs .\na.jpg#0\tTwo cats\n"
FLICKR30K = (
    "image_name| comment_number| comment\nb.jpg| 0| A dog , running .\nb.jpg| 1   A dog runs .\na.jpg| 0| Two cats\n"
)
CSV = 'path,caption\nb.jpg,"A dog , running ."\nb.jpg,A dog runs .\na.jpg,Two cats\n'
KAGGLE = CSV.replace("path", "image")
OPEN_CLIP = "filepath\ttitle\nb.jpg\tA dog , running .\nb.jpg\tA dog runs .\na.jpg\tTwo cats\n"
BARE = "\n".join(CSV.splitlines()[1:]).replace("\n", "\r\n")
MORE = 'id\tcaption\tsize\tpath\n1\t"A dog , running ."\t3\tb.jpg\n2\tA dog runs .\t3\tb.jpg\n3\tTwo cats\t4\ta.jpg\n'
JSONL = (
    '{"path": "b.jpg", "caption": ["A dog , running .", "A dog runs ."]}\n\n{"image": "a.jpg", "caption": "Two cats"}\n'
)
COCO = json.dumps(
    {
        "info": {},
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 3, "file_name": "b.jpg"}, {"id": 9, "file_name": "c.jpg"}],
        "annotations": [
            {"image_id": 3, "id": 1, "caption": "A dog , running ."},
            {"image_id": 3, "id": 2, "caption": "A dog runs .\n"},
            {"image_id": 7, "id": 3, "caption": "Two cats"},
        ],
    }
)


def coco(image: int, caption: str | None) -> str:
    images = [{"id": 1, "file_name": "a.jpg"}]
    return json.dumps({"images": images, "annotations": [{"image_id": image, "caption": caption}]})


OBJECTS = json.dumps([json.loads(line) for line in JSONL.splitlines() if line])


@pytest.mark.parametrize("text", [FLICKR8K, FLICKR30K, CSV, KAGGLE, OPEN_CLIP, BARE, MORE, JSONL, COCO, OBJECTS])
def test_captions_are_read_as_they_are_distributed(text: str, tmp_path: Path) -> None:
    file = tmp_path / "captions.txt"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    found = read_captions(file)
    assert found.paths == tuple(os.fsencode(tmp_path / name) for name in ("b.jpg", "a.jpg"))
    assert found.captions == ("A dog , running .", "A dog runs .", "Two cats")
    assert found.pictures == (0, 0, 1)
    elsewhere = read_captions(file, images=tmp_path / "pictures")
    assert elsewhere.paths[0] == os.fsencode(tmp_path / "pictures" / "b.jpg")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no captions"),
        ("path,caption\n", "no captions"),
        ("path,caption\na.jpg,one, two\n", "line 2: 3 columns, and the first line has 2"),
        ("a.jpg,x,y\n", "line 1: 3 columns without a header"),
        ("path,caption\na.jpg,\n", "line 2: no caption for a.jpg"),
        ('path,caption\na.jpg,"never ends\n', "line 2: not CSV"),
        ("a.jpg#0\tA cat\nsomething else\n", "line 2: expected NAME#NUMBER"),
        ("image_name| comment_number| comment\na.jpg| A cat\n", "line 2: expected a name"),
        ('{"path": "a.jpg", "caption": "A cat"}\n{"path": \n', "line 2: not JSON"),
        ('{"path": "a.jpg"}\n', "line 1: expected an object with"),
        ('[{"path": "a.jpg", "caption": "A cat"}, 3]', "item 2: expected an object"),
        (r'{"path": "a\ud83d.jpg", "caption": "A cat"}', "line 1: the path .* contains a lone surrogate"),
        (
            r'{"path": "a.jpg", "caption": ["A cat", "A \ud83d"]}',
            r"line 1: the caption of a\.jpg contains a lone surrogate",
        ),
        ("[" * 200_000, "line 1: JSON nested too deeply"),
        ('{"path": "a.jpg", "caption": "A cat"}\n' + '{"a":' * 200_000, "line 2: JSON nested too deeply"),
        ('{"annotations": [{"image_id": 1, "caption": "A cat"}]}', 'without a list of "images"'),
        (coco(3, "A cat"), r"annotations\[0\]: no image has its image_id 3"),
        (coco(1, ""), r"annotations\[0\]: no caption for a\.jpg"),
        (coco(1, "A \ud83d"), r"annotations\[0\]: the caption of a\.jpg contains a lone surrogate"),
        (coco(1, None), r'annotations\[0\]: "caption" is missing'),
        ('{"images": [{"id": 1}], "annotations": []}', r'images\[0\]: "file_name" is missing'),
    ],
)
def test_what_is_no_file_of_captions_is_said_with_its_line(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "captions.csv"
    file.write_text(text)
    with pytest.raises(UsageError, match=says) as caught:
        read_captions(file)
    assert str(caught.value).startswith(f"{file}: ")


@pytest.mark.parametrize("text", [FLICKR8K, FLICKR30K, CSV, OPEN_CLIP, JSONL, COCO])
def test_blank_lines_are_no_rows(text: str, tmp_path: Path) -> None:
    file = tmp_path / "captions.txt"
    file.write_text("\n\r\n" + text.replace("\n", "\n\n") + "\n")
    assert read_captions(file).captions == ("A dog , running .", "A dog runs .", "Two cats")


def test_captions_that_are_no_text_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"a.jpg,caf\xe9\n")
    with pytest.raises(UsageError, match="UTF-8"):
        read_captions(tmp_path / "latin.csv")
    with pytest.raises(UsageError, match="no such file"):
        read_captions(tmp_path / "gone.csv")


def test_a_sample_of_captions_keeps_all_of_a_picture(tmp_path: Path) -> None:
    file = tmp_path / "captions.csv"
    file.write_text("".join(f"{i}.jpg,caption {j} of {i}\n" for j in range(3) for i in range(20)))
    whole = read_captions(file)
    some = whole.sample(7)
    assert len(some.paths) == 7 and len(some.captions) == 21 and some == whole.sample(7)
    for caption, image in zip(some.captions, some.pictures, strict=True):
        assert some.paths[image].endswith(f"/{caption.split()[-1]}.jpg".encode())
    assert whole.sample(20) is whole and whole.sample(None) is whole


# Labels


def test_folders_are_labels_and_links_to_pictures_count(tmp_path: Path) -> None:
    draw(tmp_path / "red_car" / "deep" / "a.png")
    draw(tmp_path / "cat" / "b.png")
    (tmp_path / "cat" / "c.png").symlink_to(tmp_path / "red_car" / "deep" / "a.png")
    (tmp_path / "dog").mkdir()
    draw(tmp_path / ".hidden" / "d.png")
    draw(tmp_path / "beside.png")
    found = folder_per_class(tmp_path)
    assert [label.name for label in found.labels] == ["cat", "dog", "red car"]
    assert [(os.path.basename(p), c) for p, c in zip(found.paths, found.classes, strict=True)] == [
        (b"b.png", 0),
        (b"c.png", 0),
        (b"a.png", 2),
    ]


def test_labels_from_elsewhere_are_matched_by_name_or_taken_in_order(tmp_path: Path) -> None:
    for name in ("Red_Car", "cat"):
        draw(tmp_path / name / "a.png")
    named = folder_per_class(tmp_path, [Label("dog"), Label("cat", ("kitten",)), Label("red car")])
    assert named.classes == (2, 1) and named.labels[1].synonyms == ("kitten",) and named.notice is None
    ordered = folder_per_class(tmp_path, [Label("automobile"), Label("feline")])
    assert ordered.classes == (0, 1) and "in order of folder names" in (ordered.notice or "")
    with pytest.raises(UsageError, match=r"Red_Car is not one of the labels \(1 of 2"):
        folder_per_class(tmp_path, [Label("cat"), Label("dog")])


def test_folders_that_cannot_be_classes_are_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folders in it"):
        folder_per_class(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(UsageError, match="no pictures"):
        folder_per_class(tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        folder_per_class(tmp_path / "gone")
    for name in ("a_b", "a b"):
        draw(tmp_path / name / "a.png")
    with pytest.raises(UsageError, match="a b and a_b both have the label"):
        folder_per_class(tmp_path)


def test_a_sample_of_labelled_pictures_has_every_class(tmp_path: Path) -> None:
    for name, count in (("many", 30), ("few", 3), ("one", 1)):
        for i in range(count):
            draw(tmp_path / name / f"{i}.png", side=8)
    some = folder_per_class(tmp_path).sample(9)
    assert np.bincount(some.classes).tolist() == [3, 5, 1]
    assert list(some.paths) == sorted(some.paths)


# Vectors that are computed once


def test_altered_copies_find_their_originals(tiny: dict[str, TinyEncoder], place: Workplace, tmp_path: Path) -> None:
    paths = drawn(tmp_path / "pictures", 20)
    shutil.copy(os.fsdecode(paths[3]), tmp_path / "pictures" / "same.png")
    again = [*paths, os.fsencode(tmp_path / "pictures" / "same.png")]
    [found] = find_again(again, models=["any/a"], place=place)
    assert found.pictures == 20, "an exact copy is no other picture"
    assert [each.alteration for each in found.alterations] == [each.name for each in ALTERATIONS]
    recall = {each.alteration: each.recall[1].value for each in found.alterations}
    # It sees the colours of 4 × 4 parts: compression leaves them, a flip exchanges them.
    assert recall["recompressed"] == 1.0 and recall["flipped"] < 0.5
    for each in found.alterations:
        lost = [one for one in found.lost if one.alteration == each.alteration]
        assert len(lost) == round((1 - each.recall[1].value) * 20)
        assert all(one.rank > 1 and one.nearest != one.path for one in lost)
        assert each.curve[0] == each.recall[1].value and each.curve[-1] == 1.0


def test_a_second_evaluation_encodes_nothing(tiny: dict[str, TinyEncoder], place: Workplace, tmp_path: Path) -> None:
    paths = drawn(tmp_path / "pictures", 12)
    first = find_again(paths, models=["any/a", "any/b"], place=place)
    assert tiny["any/a"].encoded == tiny["any/b"].encoded == 12 * (1 + len(ALTERATIONS)) == first[0].effort.encoded
    again = find_again(paths, models=["any/a", "any/b"], place=place)
    assert tiny["any/a"].encoded == first[0].effort.encoded and again[0].effort.encoded == 0
    assert [one.alterations[0].recall for one in again] == [one.alterations[0].recall for one in first]
    draw(tmp_path / "pictures" / "000.png", seed=99, side=48)
    assert find_again(paths, models=["any/a"], place=place)[0].effort.encoded == 1 + len(ALTERATIONS)


def test_what_was_embedded_before_a_stop_is_kept(
    tiny: dict[str, TinyEncoder], place: Workplace, tmp_path: Path
) -> None:
    paths = drawn(tmp_path / "pictures", 60)
    seen: list[Progress] = []
    stopping = Workplace(cache=place.cache, stop=lambda: tiny["any/a"].encoded >= 32, progress=seen.append)
    with pytest.raises(StoppedError, match="kept"):
        find_again(paths, models=["any/a"], place=stopping)
    done = tiny["any/a"].encoded
    assert 32 <= done <= 32 + 16, "the batch in hand is finished, and no other begun"
    assert seen[0].total == 60 * (1 + len(ALTERATIONS))
    [found] = find_again(paths, models=["any/a"], place=place)
    assert found.effort.taken == done and found.effort.encoded == seen[0].total - done


def test_vectors_of_a_library_are_taken_from_there(tiny: dict[str, TinyEncoder], tmp_path: Path) -> None:
    paths = drawn(tmp_path / "pictures", 10)
    shelf = Shelf(tmp_path / "index")
    shelf.index(tmp_path / "pictures")
    assert library_images(shelf.folder) == tuple(paths)
    place = Workplace(shelf.folder, cache=tmp_path / "cache")
    [found] = find_again(paths, place=place, alterations=ALTERATIONS[:1])
    assert found.model.spec == "tiny" and found.effort.taken == 10 and tiny["tiny"].encoded == 10
    copies = [
        os.fsencode(shutil.copy(os.fsdecode(path), tmp_path / os.path.basename(os.fsdecode(path)))) for path in paths
    ]
    elsewhere = Workplace(shelf.folder, cache=tmp_path / "other")
    assert find_again(copies, place=elsewhere, alterations=())[0].effort.encoded == 0, "the content is known"
    [other] = find_again(paths, models=["any/b"], place=place, alterations=())
    assert other.model.spec == "any/b" and other.effort.encoded == 10


def test_pictures_that_cannot_be_used_are_named_and_left_out(
    tiny: dict[str, TinyEncoder], place: Workplace, tmp_path: Path
) -> None:
    paths = drawn(tmp_path / "pictures", 5)
    (tmp_path / "text.jpg").write_text("no picture")
    gone, text = os.fsencode(tmp_path / "gone.jpg"), os.fsencode(tmp_path / "text.jpg")
    [found] = find_again([gone, *paths, text], models=["any/a"], place=place)
    assert [(os.path.basename(one.path), one.reason) for one in found.missed] == [
        ("gone.jpg", "no such file or directory"),
        ("text.jpg", "not a picture in any known format"),
    ]
    assert found.pictures == 5
    with pytest.raises(UsageError, match="none of the 2 pictures can be read"):
        find_again([gone, text], models=["any/a"], place=place)


def test_a_picture_that_ends_early_is_used_and_said(
    tiny: dict[str, TinyEncoder], place: Workplace, tmp_path: Path
) -> None:
    paths = drawn(tmp_path / "pictures", 3)
    Image.effect_noise((64, 64), 80).convert("RGB").save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) * 3 // 4])
    for _ in range(2):  # The second time from the store.
        [found] = find_again([*paths, os.fsencode(tmp_path / "cut.jpg")], models=["any/a"], place=place, alterations=())
        assert found.pictures == 4 and found.notices == (f"{tmp_path / 'cut.jpg'} ends early; what there is was used",)


def test_files_that_end_early_are_counted_once_whatever_is_made_of_them(
    tiny: dict[str, TinyEncoder], place: Workplace, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        Image.effect_noise((64, 64), 80).convert("RGB").save(tmp_path / f"{name}.jpg")
        data = (tmp_path / f"{name}.jpg").read_bytes()
        (tmp_path / f"{name}.jpg").write_bytes(data[: len(data) * 3 // 4])
    paths = [os.fsencode(tmp_path / f"{name}.jpg") for name in ("one", "other")]
    [found] = find_again([*drawn(tmp_path / "pictures", 2), *paths], models=["any/a"], place=place)
    assert found.notices == (f"{tmp_path / 'one.jpg'} and 1 more end early; what there is was used",)


def test_copies_that_were_made_otherwise_are_not_used_again(
    tiny: dict[str, TinyEncoder], place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = drawn(tmp_path / "pictures", 3)
    cropped = ALTERATIONS[0]
    for settings, encoded in (((0.7,), 6), ((0.7,), 0), ((0.6,), 3)):
        alteration = replace(cropped, settings=settings)
        [found] = find_again(paths, models=["any/a"], place=place, alterations=[alteration])
        assert found.effort.encoded == encoded
    monkeypatch.setattr(alterations, "COPY_SIDE", 512)
    assert find_again(paths, models=["any/a"], place=place, alterations=[cropped])[0].effort.encoded == 3
    assert len({each.key for each in ALTERATIONS}) == 4


def test_that_figures_of_one_thing_say_nothing_is_said(
    tiny: dict[str, TinyEncoder], place: Workplace, tmp_path: Path
) -> None:
    paths = drawn(tmp_path / "pictures", 2)
    [found] = find_again(paths[:1], models=["any/a"], place=place, alterations=ALTERATIONS[:1])
    assert found.notices == ("there is only one picture, which each copy of it finds: the figures say nothing",)
    assert find_again(paths, models=["any/a"], place=place)[0].notices == ()


def test_what_is_damaged_in_a_library_is_said_to_be_so(tiny: dict[str, TinyEncoder], tmp_path: Path) -> None:
    paths = drawn(tmp_path / "pictures", 10)
    shelf = Shelf(tmp_path / "index")
    shelf.index(tmp_path / "pictures")
    catalog = tmp_path / "index" / "catalog.db"
    size = catalog.stat().st_size
    with open(catalog, "r+b") as stream:  # The first page, which is looked at on opening, stays.
        stream.seek(4096)
        stream.write(b"\xff" * (size - 4096))
    for attempt in (
        lambda: library_images(shelf.folder),
        lambda: measure_engines(shelf.folder),
        lambda: find_again(paths, place=Workplace(shelf.folder, cache=tmp_path / "cache")),
    ):
        with pytest.raises(DamagedError, match="clipsearch doctor"):
            attempt()


def test_a_store_that_cannot_be_used_costs_no_answer(tiny: dict[str, TinyEncoder], tmp_path: Path) -> None:
    paths = drawn(tmp_path / "pictures", 4)
    (tmp_path / STORE_NAME).write_bytes(b"not a database" * 100)
    for cache in (tmp_path, tmp_path / "pictures" / "000.png"):
        [found] = find_again(paths, models=["any/a"], place=Workplace(cache=cache), alterations=())
        assert found.effort.encoded == 4
    assert (tmp_path / STORE_NAME).read_bytes().startswith(b"not a database")


def test_the_store_drops_the_oldest(tmp_path: Path) -> None:
    store = VectorStore(tmp_path)
    store.put("print", {bytes([i]): Kept(np.ones(2), truncated=i == 4) for i in range(5)})
    store.put("other", {b"x": Kept(np.ones(2))})
    store.trim("print", limit=3)
    assert len(store.get("print", [bytes([i]) for i in range(5)], dim=2)) == 3
    assert len(store.get("other", [b"x"], dim=2)) == 1
    store.close()
    assert store.get("print", [b"\0"], dim=2) == {}


def test_without_a_library_where_one_is_named(tiny: dict[str, TinyEncoder], tmp_path: Path) -> None:
    with pytest.raises(NoLibraryError):
        find_again(drawn(tmp_path, 2), models=["any/a"], place=Workplace(tmp_path / "gone"))
    with pytest.raises(NoLibraryError):
        library_images(tmp_path / "gone")
    with pytest.raises(NoLibraryError):
        measure_engines(tmp_path / "gone")


class WordEncoder(TinyEncoder):
    """A TinyEncoder that gives every text a direction of its own, or that of the image `shown` for it."""

    shown: ClassVar[dict[str, NDArray[np.float32]]] = {}

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [
            self.shown.get(text, np.random.default_rng(zlib.crc32(text.encode())).normal(size=48)) for text in texts
        ]
        return np.array([row / np.linalg.norm(row) for row in rows], np.float32)


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> WordEncoder:
    """The encoder that stands for every model."""
    encoder = WordEncoder()
    monkeypatch.setattr(WordEncoder, "shown", {})
    use_encoders(monkeypatch.setattr, lambda spec, options=None: encoder, lambda info, options=None: encoder)
    return encoder


def test_equal_images_and_equal_captions_are_folded(words: WordEncoder, place: Workplace, tmp_path: Path) -> None:
    paths = drawn(tmp_path, 6)
    for path in paths:  # Each caption is exactly what its image shows.
        pixels = open_image(Path(os.fsdecode(path)).read_bytes()).pixels(words.info.preprocess)
        words.shown[f"this is {Path(os.fsdecode(path)).stem}"] = words.encode_images(pixels[None])[0]
    captions = [f"this is {i:03}" for i in range(6)]
    shutil.copy(tmp_path / "000.png", tmp_path / "again.png")  # One image at two paths, with a caption of its own …
    again = Captioned((*paths, os.fsencode(tmp_path / "again.png")), (*captions, "this is 000"), (*range(6), 6))
    [found] = retrieve(again, models=["any/a"], place=place)
    for way in (found.text_to_image, found.image_to_text):
        assert way.recall[1].value == 1 and (way.queries, way.gallery) == (6, 6)
    assert (found.equal_pictures, found.equal_captions) == (1, 1)
    words.shown["a picture"] = words.shown["this is 002"]
    shared = Captioned(tuple(paths), (*captions, "a picture", "a picture"), (*range(6), 1, 2))  # … and one text of two.
    [found] = retrieve(shared, models=["any/a"], place=place)
    assert (found.equal_pictures, found.equal_captions) == (0, 1) and found.text_to_image.queries == 7
    assert found.text_to_image.recall[1].value == 1
    [apart] = retrieve(Captioned(tuple(paths), tuple(captions), tuple(range(6))), models=["any/a"], place=place)
    assert (apart.equal_pictures, apart.equal_captions) == (0, 0)


class Recording(ToyEngine):
    """The toy engine, which keeps what it is tuned with and asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.probes: list[NDArray[np.float32]] = []
        self.queries: list[NDArray[np.float32]] = []

    def write(self, write: Write, build: Build) -> Mapping[str, Any]:
        self.probes += list(build.probes())
        return super().write(write, build)

    def open(self, path: Path, *, dim: int, count: int, details: Mapping[str, Any]) -> ToyIndex:
        with np.load(path) as archive:
            index = RecordedIndex(archive["ids"], archive["vectors"])
        index.queries = self.queries
        return index


class RecordedIndex(ToyIndex):
    queries: list[NDArray[np.float32]]

    def search(self, queries: NDArray[np.float32], k: int, **more: Any) -> Any:
        if k > 1:  # Otherwise it is checked whether each of some vectors finds itself.
            self.queries += list(queries)
        return super().search(queries, k, **more)


RECORDING = Recording()


def test_engines_are_measured_with_other_queries_than_they_are_tuned_with(
    words: WordEncoder, place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(tmp_path / "pictures", 450)
    shelf = Shelf(tmp_path / "index")
    shelf.index(tmp_path / "pictures")
    monkeypatch.setattr(engines, "_ENGINES", {**engines._ENGINES})
    engines.register("recording", f"{__name__}:RECORDING")
    [found] = measure_engines(shelf.folder, engines=["recording"], queries=100, place=place)
    assert found.recall["texts"].value == found.recall["pictures"].value == 1
    asked = {row.tobytes() for row in RECORDING.queries}
    assert len(asked) == 200
    tuned = {row.tobytes() for row in RECORDING.probes}
    assert not asked & tuned and len(tuned) == 256
    with contextlib.closing(Catalog.open(shelf.folder)) as catalog:
        [(seqs, vectors)] = catalog.embeddings.chunks(1)
    sample = Sample(len(seqs), dim=vectors.shape[1], training=0)
    sample.add(vectors)
    assert len(sample.pictures) == 200 and not asked & {row.tobytes() for row in sample.pictures}
