"""Thumbnails of the server: what they show, and a cache on disk that may fail in every way but giving a wrong one."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage
import tifffile
from helpers import without_privileges
from PIL import Image, ImageCms

from clipsearch.display.thumbnails import jpeg, thumbnails
from clipsearch.encoders.cache import CACHE_VARIABLE, NOWHERE
from clipsearch.errors import ImageError
from clipsearch.images.workers import Workers
from clipsearch.serve.thumbnails import REVISION, SIDES, Thumbnails, etag
from clipsearch.types import Hit

PHOTOS = Path(skimage.__file__).parent / "data"
GOLDEN = Path(__file__).parents[1] / "data" / "golden"


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers() as workers:
        yield workers


def digest_of(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def drawn(path: Path, colour: str = "red", size: tuple[int, int] = (400, 300)) -> Path:
    Image.new("RGB", size, colour).save(path)
    return path


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


class Store:
    """Thumbnails of files, made by a new server each time `again` is called."""

    def __init__(self, folder: Path, workers: Workers, **limits: int) -> None:
        self.folder, self._workers, self._limits = folder, workers, limits
        self.again()

    def again(self) -> None:
        self.thumbnails = Thumbnails(self.folder, workers=self._workers, **self._limits)

    def make(self, path: Path, side: int = 160, digest: bytes | None = None) -> bytes:
        return self.thumbnails.make(digest or digest_of(path), side, (str(path),))

    def get(self, digest: bytes, side: int = 160) -> bytes | None:
        return self.thumbnails.get(digest, side)

    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir()) if self.folder.exists() else []


@pytest.fixture
def store(tmp_path: Path, workers: Workers) -> Store:
    return Store(tmp_path / "cache" / "thumbnails", workers)


# What they show


def odd_images(folder: Path) -> list[Path]:
    rocket = Image.open(PHOTOS / "rocket.jpg")
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "secret"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rocket.save(folder / "turned.jpg", exif=exif, icc_profile=profile, comment=b"secret")
    clear = Image.new("RGBA", (300, 200), (255, 0, 0, 0))
    clear.paste((0, 0, 255, 128), (100, 0, 200, 200))
    clear.save(folder / "clear.png")
    (folder / "cut.jpg").write_bytes((PHOTOS / "rocket.jpg").read_bytes()[:60_000])
    ramp = np.linspace(0, 65535, 200 * 300).reshape(200, 300).astype(np.uint16)
    tifffile.imwrite(folder / "deep.tif", ramp)
    rocket.convert("CMYK").save(folder / "press.jpg")
    rocket.convert("P").save(folder / "palette.gif")
    drawn(folder / "strip.png", size=(3000, 2))
    drawn(folder / "dot.png", size=(1, 1))
    return [*sorted(folder.iterdir()), *sorted(GOLDEN.iterdir())]


def test_they_show_what_galleries_show(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    for path in odd_images(folder):
        hit = Hit(1, str(path), (str(path),), 0.0, 1, None, None, None, None, "ok", False)
        for side in (160, 640):
            (shown,) = thumbnails([hit], side=side)
            assert shown.picture is not None, path
            data = store.make(path, side)
            assert data == jpeg(shown.picture), path.name
            image = opened(data)
            assert image.format == "JPEG" and image.mode == "RGB" and max(image.size) <= side
            assert not image.getexif() and not {"icc_profile", "exif", "xmp", "comment"} & set(image.info), path.name
    turned, dot = opened(store.make(folder / "turned.jpg")), opened(store.make(folder / "dot.png", max(SIDES)))
    assert turned.height == 160 > turned.width
    assert dot.size == (1, 1), "a thumbnail is never enlarged"


def test_a_file_that_changed_is_not_shown(tmp_path: Path, store: Store) -> None:
    path = drawn(tmp_path / "a.png")
    digest = digest_of(path)
    drawn(path, "blue")
    with pytest.raises(ImageError, match="has changed"):
        store.make(path, digest=digest)
    path.unlink()
    with pytest.raises(ImageError, match="no such file"):
        store.make(path, digest=digest)
    os.mkfifo(path)
    with pytest.raises(ImageError, match="not a regular file"):
        store.make(path, digest=digest)
    with pytest.raises(ImageError):
        store.thumbnails.make(digest, 160, ())
    copy = drawn(tmp_path / "copy.png")
    made = store.thumbnails.make(digest, 160, (str(path), str(tmp_path), str(copy)))
    assert opened(made).getpixel((5, 5)) == (254, 0, 0)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture at all")
    with pytest.raises(ImageError, match="not a picture"):
        store.make(broken)
    assert len(store.files()) == 1, "a failure is not remembered"


# The cache


def test_one_that_was_made_needs_no_file(tmp_path: Path, store: Store) -> None:
    path = drawn(tmp_path / "a.png")
    digest = digest_of(path)
    assert store.get(digest) is None and store.thumbnails.from_memory(digest, 160) is None
    made = store.make(path)
    path.unlink()
    assert store.thumbnails.from_memory(digest, 160) == store.get(digest) == made
    store.again()
    assert store.thumbnails.from_memory(digest, 160) is None, "nothing is read at the start"
    assert store.get(digest) == made and store.thumbnails.from_memory(digest, 160) == made
    assert store.get(digest, 320) is None


def test_the_cache_is_private(store: Store, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = drawn(tmp_path / "a.png")
        store.make(path)
        store.folder.chmod(0o777)
        store.again()
        assert store.get(digest_of(path)) is None, "anybody may have put it there"
        store.make(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in store.files()] == [0o600]


def test_the_default_folder_is_below_the_cache_directory(
    tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    path = drawn(tmp_path / "a.png")
    Thumbnails(workers=workers).make(digest_of(path), 160, (str(path),))
    assert [file.name for file in (tmp_path / "cache" / "thumbnails").iterdir()] == [etag(digest_of(path), 160)[1:-1]]


@pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "longer", "one bit", "another's"])
def test_a_damaged_one_is_made_again(tmp_path: Path, store: Store, damage: str) -> None:
    path, other = drawn(tmp_path / "a.png"), drawn(tmp_path / "b.png", "blue")
    made = store.make(path)
    (file,) = store.files()
    store.make(other)
    data = file.read_bytes()
    flipped = data[:200] + bytes([data[200] ^ 1]) + data[201:]
    damaged = {
        "cut": data[:-1],
        "empty": b"",
        "zeros": bytes(4),
        "longer": data + b"\0",
        "one bit": flipped,
        "another's": made,
    }
    file.write_bytes(damaged[damage])
    store.again()
    assert store.get(digest_of(path)) is None
    assert store.make(path) == made
    store.again()
    assert store.get(digest_of(path)) == made


@pytest.mark.parametrize("trouble", ["nowhere", "read-only", "no room", "folder in the way", "deleted meanwhile"])
def test_a_cache_that_cannot_be_written_costs_no_thumbnail(tmp_path: Path, workers: Workers, trouble: str) -> None:
    path = drawn(tmp_path / "a.png", size=(4000, 3000))
    path.chmod(0o644)
    folder = (NOWHERE if trouble == "nowhere" else tmp_path / "cache") / "thumbnails"
    store = Store(folder, workers)
    if trouble == "nowhere":
        made = store.make(path)
    elif trouble == "read-only":
        folder.parent.mkdir(mode=0o555)
        with without_privileges():
            made = store.make(path)
            assert store.get(digest_of(path)) == made
    elif trouble == "no room":
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            made = store.make(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert store.files() == [], "nothing is left behind"
    elif trouble == "folder in the way":
        (folder / etag(digest_of(path), 160)[1:-1]).mkdir(parents=True)
        made = store.make(path)
        assert len(store.files()) == 1
    else:
        store.make(path)
        shutil.rmtree(folder)
        made = store.make(path)
        assert len(store.files()) == 1
    assert opened(made).size == (160, 120)
    assert store.get(digest_of(path)) == made


def test_those_used_longest_ago_make_room(tmp_path: Path, workers: Workers) -> None:
    store = Store(tmp_path / "thumbnails", workers, disk=32 * 4096, memory=4096)
    paths = [drawn(tmp_path / f"{number}.png", f"#{number:02x}0000") for number in range(60)]
    digests = [digest_of(path) for path in paths]
    for path in paths:
        store.make(path)
        assert store.get(digests[0]) is not None, "used all the time"
        assert len(store.files()) <= 32
    store.again()
    there = [number for number, digest in enumerate(digests) if store.get(digest) is not None]
    assert there[0] == 0 and there[1:] == list(range(60 - len(there) + 1, 60)) and len(there) >= 24


def test_what_killed_servers_left_behind_makes_room_first(tmp_path: Path, workers: Workers) -> None:
    store = Store(tmp_path / "thumbnails", workers, disk=32 * 4096)
    store.folder.mkdir(mode=0o700)
    for number in range(100):
        (store.folder / f"tmp{number}.tmp").write_bytes(bytes(5000))
    path = drawn(tmp_path / "a.png")
    made = store.make(path)
    assert sum(file.stat().st_size for file in store.files()) <= 32 * 4096
    store.again()
    assert store.get(digest_of(path)) == made


def test_memory_is_bounded(tmp_path: Path, workers: Workers) -> None:
    store = Store(NOWHERE / "thumbnails", workers, memory=10_000)
    paths = [drawn(tmp_path / f"{number}.png", f"#{number:02x}0000") for number in range(40)]
    made = [store.make(path) for path in paths]
    held = [store.thumbnails.from_memory(digest_of(path), 160) for path in paths]
    assert held[0] is None and held[-1] == made[-1]
    kept = [data for data in held if data is not None]
    assert kept == made[-len(kept) :] and sum(map(len, kept)) <= 10_000 < sum(map(len, kept)) + len(made[0])
    noise = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (1600, 1600, 3), np.uint8)).save(noise)
    store.make(noise, 1600)
    assert store.thumbnails.from_memory(digest_of(noise), 1600) is None
    assert store.thumbnails.from_memory(digest_of(paths[-1]), 160)


def test_threads_and_servers_share_a_cache(tmp_path: Path, workers: Workers) -> None:
    stores = [Store(tmp_path / "thumbnails", workers, disk=16 * 4096, memory=8192) for _ in range(2)]
    paths = [drawn(tmp_path / f"{number}.png", f"#{number:02x}0000") for number in range(12)]
    first = {path: stores[0].make(path) for path in paths}
    wrong: list[Path] = []

    def visit(seed: int) -> None:
        for number in np.random.default_rng(seed).integers(0, len(paths), 40):
            path, store = paths[number], stores[seed % 2]
            if (store.get(digest_of(path)) or store.make(path)) != first[path]:
                wrong.append(path)

    threads = [threading.Thread(target=visit, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(stores[0].files()) <= 18
    assert not [file for file in stores[0].files() if file.suffix == ".tmp"]


def test_etags_change_with_content_size_and_revision() -> None:
    tags = {etag(bytes([number]) * 32, side) for number in range(3) for side in SIDES}
    assert len(tags) == 3 * len(SIDES)
    assert all(tag[0] == tag[-1] == '"' and REVISION in tag and tag.isascii() for tag in tags)


def test_nothing_is_decoded_in_the_server_itself(tmp_path: Path) -> None:
    path = drawn(tmp_path / "a.jpg")
    script = f"""
import sys
from pathlib import Path
from clipsearch.serve.thumbnails import Thumbnails
Thumbnails(Path({str(tmp_path / "cache")!r})).make(bytes.fromhex({digest_of(path).hex()!r}), 160, ({str(path)!r},))
assert not {{"clipsearch.images.picture", "clipsearch.images.pillow"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
