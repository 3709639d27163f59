"""Several files of one shot are one hit: RAW and JPEG, HEIC and JPEG, an iPhone's picture and its edited version."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import age, draw, load_tiny, reload_tiny, use_encoders
from PIL import Image
from test_raws import dng

from clipsearch import Library
from clipsearch.catalog.filters import Filter
from clipsearch.images.open import open_image
from clipsearch.search.query import QueryOptions
from clipsearch.search.terms import Indexed
from clipsearch.types import Hit

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
TINY = Path(__file__).parent / "tinyclip"
SHOT = "2021:05:03 14:02:11"

Seen = tuple[str, tuple[str, ...]]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    use_encoders(monkeypatch.setattr, load_tiny, reload_tiny)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library.create(tmp_path / "index", model="tiny") as library:
        yield library


def save(path: Path, image: Image.Image, *, taken: str = "", fraction: str = "", camera: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if camera:
        exif[0x0110] = camera
    if taken:
        exif.get_ifd(0x8769)[0x9003] = taken
    if fraction:
        exif.get_ifd(0x8769)[0x9291] = fraction
    image.save(path, exif=exif.tobytes(), quality=95)
    return age(path)


def picture(seed: int) -> Image.Image:
    rng = random.Random(seed)
    return Image.frombytes("RGB", (4, 4), rng.randbytes(48)).resize((24, 24), Image.Resampling.NEAREST)


def raw(path: Path) -> Image.Image:
    """Write a raw file of SHOT; the image that it shows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dng(preview=None))
    age(path)
    return open_image(path.read_bytes()).upright()


def heic(path: Path) -> Image.Image:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(GOLDEN / "valley.heic", path)
    age(path)
    return open_image(path.read_bytes()).upright()


def names(hits: tuple[Hit, ...] | list[Hit]) -> list[Seen]:
    return [(Path(hit.path).name, tuple(Path(each.path).name for each in hit.also)) for hit in hits]


def ask(library: Library, like: str = "", *, k: int = 50, where: Filter | None = None, **options: object) -> list[Seen]:
    """What is found, all images if k is large enough, by the likeness with the file of the name `like`."""
    hits = found(library, like, k=k, where=where, **options)
    return names(hits) if like else sorted(names(hits))


def found(
    library: Library, like: str = "", *, k: int = 50, where: Filter | None = None, **options: object
) -> tuple[Hit, ...]:
    first = library.query(Indexed(1), k=1000, options=QueryOptions(explain=False, unfold=True))
    term = next((Indexed(hit.id) for hit in first if Path(hit.path).name == like), Indexed(1))
    return library.query(term, k=k, where=where, options=QueryOptions(explain=False, **options)).hits  # type: ignore[arg-type]


def test_a_raw_file_and_its_jpeg_are_one_hit(library: Library, photos: Path) -> None:
    save(photos / "DSC1.JPG", raw(photos / "DSC1.DNG"))
    draw(photos / "other.jpg", 7)
    assert library.index([photos]).indexed == 3
    assert ask(library) == [("DSC1.JPG", ("DSC1.DNG",)), ("other.jpg", ())]
    (also,) = next(hit for hit in found(library) if hit.also).also
    assert also.format == "RAW" and also.id != next(hit.id for hit in found(library) if hit.also)


def test_heic_comes_before_jpeg_and_an_edited_picture_before_both(library: Library, photos: Path) -> None:
    shown = heic(photos / "IMG_0001.HEIC")
    save(photos / "IMG_0001.jpg", shown)
    library.index([photos])
    assert ask(library) == [("IMG_0001.HEIC", ("IMG_0001.jpg",))]
    save(photos / "IMG_E0001.JPG", shown.point(lambda level: min(255, level + 12)))
    library.index()
    assert ask(library) == [("IMG_E0001.JPG", ("IMG_0001.HEIC", "IMG_0001.jpg"))]
    assert ask(library, k=1) == ask(library)


def test_an_edited_picture_that_shows_something_else_is_a_hit_of_its_own(library: Library, photos: Path) -> None:
    save(photos / "IMG_0001.jpg", picture(1))
    save(photos / "IMG_E0001.jpg", picture(2))
    library.index([photos])
    assert ask(library) == [("IMG_0001.jpg", ()), ("IMG_E0001.jpg", ())]


def test_what_only_looks_like_a_pair_is_none(library: Library, photos: Path) -> None:
    shown = heic(photos / "a" / "X1.HEIC")
    save(photos / "b" / "X1.JPG", shown)  # Another folder.
    save(photos / "a" / "X2.JPG", shown.point(lambda level: level // 2))  # Another stem.
    save(photos / "a" / "X1.edit.JPG", shown.point(lambda level: level // 3))  # The same beginning.
    save(photos / "a" / "X1" / "X1.jpg", shown.point(lambda level: level // 4))
    heic(photos / "c" / "IMG_1.HEIC")
    save(photos / "c" / "IMG_1.JPG", picture(3))  # Another image.
    shown.save(photos / "a" / "X1.png")  # Not what a camera writes beside it.
    library.index([photos])
    assert {also for _, also in ask(library)} == {()}


@pytest.mark.parametrize(
    ("first", "second", "one"),
    [
        ((SHOT, ""), (SHOT, ""), True),
        ((SHOT, ""), ("", ""), True),
        (("", ""), ("", ""), True),
        ((SHOT, "25"), (SHOT, ""), True),
        ((SHOT, "25"), (SHOT, "75"), False),
        (("2021:05:03", ""), (SHOT, ""), True),
        ((SHOT, ""), ("2021:05:03 14:02:12", ""), False),
    ],
)
def test_different_times_tell_shots_apart_and_missing_ones_do_not(
    library: Library, photos: Path, first: tuple[str, str], second: tuple[str, str], one: bool
) -> None:
    save(photos / "IMG_1.jpg", picture(1), taken=first[0], fraction=first[1])
    save(photos / "IMG_E1.jpg", picture(1), taken=second[0], fraction=second[1], camera="X")
    library.index([photos])
    assert len(ask(library)) == 2 - one


def test_when_a_raw_file_was_written_says_nothing_about_the_shot(library: Library, photos: Path) -> None:
    save(photos / "A.JPG", raw(photos / "A.DNG"), taken="1999:01:01 00:00:00")
    library.index([photos])
    assert ask(library) == [("A.JPG", ("A.DNG",))]


def test_if_only_a_partner_passes_a_filter_it_is_the_hit(library: Library, photos: Path) -> None:
    save(photos / "DSC1.JPG", raw(photos / "DSC1.DNG"))
    draw(photos / "other.jpg", 7)
    library.index([photos])
    raws = Filter(formats=("RAW",))
    assert ask(library, where=raws) == [("DSC1.DNG", ("DSC1.JPG",))]
    assert ask(library, where=Filter(formats=("JPEG",))) == [("DSC1.JPG", ("DSC1.DNG",)), ("other.jpg", ())]
    assert ask(library, where=raws, unfold=True) == [("DSC1.DNG", ())]


def many(photos: Path, count: int = 40) -> None:
    """Shots that differ, each as JPEG and as its edited version."""
    for number in range(count):
        save(photos / f"IMG_{number:04}.jpg", picture(number))
        save(photos / f"IMG_E{number:04}.jpg", picture(number).point(lambda level: min(255, level + 9)))


def test_k_counts_shots_and_pages_are_slices(library: Library, photos: Path) -> None:
    many(photos)
    library.index([photos])
    whole = ask(library, "IMG_0005.jpg", k=100)
    assert len(whole) == 40 and all(name.startswith("IMG_E") and len(also) == 1 for name, also in whole)
    assert whole[0][0] == "IMG_E0005.jpg"
    for k in (1, 3, 17):
        pages = [ask(library, "IMG_0005.jpg", k=k, page=page) for page in range(1, 42 // k + 2)]
        assert [seen for page in pages for seen in page] == whole


def test_the_score_is_that_of_the_best_file(library: Library, photos: Path) -> None:
    many(photos, 5)
    library.index([photos])
    best = found(library, "IMG_0003.jpg")[0]
    assert (Path(best.path).name, best.score) == ("IMG_E0003.jpg", pytest.approx(1.0, abs=1e-5))
    single = {Path(hit.path).name: hit.score for hit in found(library, "IMG_0003.jpg", unfold=True)}
    assert single["IMG_0003.jpg"] == pytest.approx(1.0, abs=1e-5) and single["IMG_E0003.jpg"] < 0.9999


def test_unfold_lists_every_file_that_passes_and_exists(library: Library, photos: Path) -> None:
    many(photos, 3)
    for place in ("copies", "gone"):
        (photos / place).mkdir()
        shutil.copy(photos / "IMG_0001.jpg", photos / place / "again.jpg")
    library.index([photos])
    lines = [name for name, _ in ask(library, "IMG_0001.jpg", k=1, unfold=True)]
    assert lines == ["IMG_E0001.jpg", "IMG_0001.jpg", "again.jpg", "again.jpg"]
    (photos / "gone" / "again.jpg").unlink()
    assert [name for name, _ in ask(library, "IMG_0001.jpg", k=1, unfold=True)] == lines[:-1]
    inside = Filter(within=(bytes(photos / "copies"),))
    assert [hit.path for hit in found(library, "IMG_0001.jpg", where=inside, unfold=True)] == [
        str(photos / "copies" / "again.jpg")
    ]
    # In its folder it is alone; it is the hit, although its content has an edited version elsewhere.
    assert ask(library, "IMG_0001.jpg", where=inside) == [("again.jpg", ("IMG_E0001.jpg",))]


def test_a_missing_partner_is_none(library: Library, photos: Path) -> None:
    many(photos, 2)
    library.index([photos])
    (photos / "IMG_E0001.jpg").unlink()
    library.index()
    assert ask(library) == [("IMG_0001.jpg", ()), ("IMG_E0000.jpg", ("IMG_0000.jpg",))]


def test_a_file_that_cannot_be_seen_hides_none_that_can(library: Library, photos: Path) -> None:
    many(photos / "usb", 1)
    (photos / "here").mkdir()
    shutil.copy(photos / "usb" / "IMG_0000.jpg", photos / "here" / "IMG_0000.jpg")
    save(photos / "DSC1.JPG", raw(photos / "DSC1.DNG"))
    library.index([photos])
    shutil.move(photos / "usb", photos.parent / "usb")  # No run has noticed it.
    (photos / "DSC1.JPG").unlink()
    shown = {Path(hit.path).name: hit for hit in found(library)}
    assert set(shown) == {"IMG_0000.jpg", "DSC1.DNG"}
    assert shown["IMG_0000.jpg"].path == str(photos / "here" / "IMG_0000.jpg")
    assert not any(hit.offline for hit in shown.values())


def test_an_emptied_file_hides_none_that_can_be_seen(library: Library, photos: Path) -> None:
    save(photos / "DSC1.JPG", raw(photos / "DSC1.DNG"))
    library.index([photos])
    (photos / "DSC1.JPG").write_bytes(b"")  # A cloud client has taken its content.
    assert ask(library) == [("DSC1.DNG", ("DSC1.JPG",))]


def test_info_counts_single_images(library: Library, photos: Path) -> None:
    many(photos, 2)
    library.index([photos])
    assert library.info().contents["ok"] == 4
    shown = library.show(photos / "IMG_0001.jpg")
    assert [Path(hit.path).name for hit in shown.neighbours] == ["IMG_E0000.jpg"], "not the edited one of itself"


def test_all_files_of_a_shot_go_with_one_another(library: Library, photos: Path) -> None:
    shown = heic(photos / "X.HEIC")
    save(photos / "X.JPG", shown, taken=SHOT)
    save(photos / "X.jpeg", shown, taken="2021:05:03 20:00:00")
    library.index([photos])
    assert ask(library) == [("X.HEIC", ("X.JPG",)), ("X.jpeg", ())]


def test_files_are_shown_as_they_are_now(library: Library, photos: Path) -> None:
    for number, name in enumerate(("emptied", "folder", "back")):
        draw(photos / f"{name}.jpg", number)
    library.index([photos])
    (photos / "back.jpg").rename(photos / "away")
    library.index()
    (photos / "away").rename(photos / "back.jpg")
    (photos / "emptied.jpg").write_bytes(b"")
    (photos / "folder.jpg").unlink()
    (photos / "folder.jpg").mkdir()
    assert {Path(hit.path).name for hit in found(library) if hit.offline} == {"emptied.jpg", "folder.jpg"}


def test_relevant_shots_are_counted_and_many_queries_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    sys.path.insert(0, str(TINY))
    from scenes import caption, scenes
    from scenes import draw as paint

    folder = tmp_path / "photos"
    folder.mkdir()
    for number, scene in enumerate(scenes(150, seed=3)):
        shown = paint(scene, side=64)
        shown.save(folder / f"IMG_{number:04}.jpg", quality=95)
        shown.point(lambda level: min(255, level + 3)).save(folder / f"IMG_E{number:04}.jpg", quality=95)
    text = caption(next(iter(scenes(1, seed=3))))
    with Library.create(tmp_path / "index", model=str(TINY / "tiny_clip.pt")) as library:
        assert library.index([folder]).indexed == 300
        best = library.query(text, k=5)
        assert all(hit.also for hit in best)
        (many,) = library.query_many([text], k=5)
        assert names(many.hits) == names(best.hits)
        relevant = library.query(text, k=100, options=QueryOptions(relevant=True))
        assert relevant.relevant is not None and relevant.relevant.count == len(relevant) > 0
        assert all(hit.also for hit in relevant)
        opposite = library.query([text, "a red square"], k=7, options=QueryOptions(negative=["blue"], match_all=True))
        assert len(opposite) == 7 and all(hit.also for hit in opposite)
