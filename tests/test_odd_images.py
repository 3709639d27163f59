"""Files whose pixels are sound, but which decoders refuse, or make a blank of; and images that really are blank.

The golden set (`test_images`) has one of most kinds; here are the variants.
"""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_jxl  # noqa: F401 - registers JPEG XL with Pillow
import pytest
from helpers import age
from numpy.typing import NDArray
from PIL import Image

from clipsearch import Library
from clipsearch.catalog.filters import Filter
from clipsearch.errors import ImageError, TruncatedImageError, UnsupportedImageError
from clipsearch.images.open import open_image
from clipsearch.indexing.run import RunOptions
from clipsearch.search.terms import Indexed
from clipsearch.types import Preprocess

SMALL = Preprocess(size=64)
GOLDEN = Path(__file__).parents[1] / "data" / "golden"
RUIN = Image.open(GOLDEN / "ruin.png")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def difference(data: bytes, expected: Image.Image = RUIN) -> float:
    """The mean difference of the upright pixels, of 255."""
    found = np.asarray(open_image(data).upright()).astype(int)
    return float(np.abs(found - np.asarray(expected.convert("RGB"))).mean())


def with_alpha(image: Image.Image, alpha: NDArray[np.uint8] | int) -> Image.Image:
    result = image.copy()
    result.putalpha(alpha if isinstance(alpha, int) else Image.fromarray(alpha))
    return result


# Transparency


@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})])
def test_colours_that_alpha_hides_are_the_image(kind: str, options: dict[str, object], alpha: int) -> None:
    assert difference(encoded(with_alpha(RUIN, alpha), kind, **options)) < 0.01
    assert difference(encoded(with_alpha(RUIN.convert("L"), alpha), "PNG"), RUIN.convert("L")) < 0.01


def test_a_palette_of_transparent_colours_is_the_image() -> None:
    few = RUIN.quantize(64)
    assert difference(encoded(few, "PNG", transparency=bytes(64)), few) < 0.01
    assert difference(encoded(few, "GIF"), few) < 0.01


@pytest.mark.parametrize("ink", [255, 0])
def test_a_drawing_in_one_colour_is_seen_by_its_alpha(ink: int) -> None:
    shape = np.asarray(RUIN.convert("L"))
    picture = open_image(encoded(with_alpha(Image.new("RGB", RUIN.size, (ink,) * 3), shape), "PNG"))
    grey = np.asarray(picture.upright())[..., 0].astype(int)
    assert np.abs(grey - (shape if ink else 255 - shape)).max() <= 1 and not picture.is_blank()


def test_partly_transparent_images_are_still_put_on_white() -> None:
    alpha = np.zeros(RUIN.size[::-1], np.uint8)
    alpha[:40] = 255
    flat = Image.new("RGB", RUIN.size, "white")
    flat.paste(RUIN, mask=Image.fromarray(alpha))
    assert difference(encoded(with_alpha(RUIN, alpha), "PNG"), flat) == 0


# Animations


def moving(kind: str, frames: list[Image.Image], **options: object) -> bytes:
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)


@pytest.mark.parametrize(
    ("kind", "options", "most"),
    [("GIF", {}, 3), ("WEBP", {"lossless": True}, 0.01), ("PNG", {}, 0.01), ("AVIF", {"quality": 95}, 4)],
)
@pytest.mark.parametrize("blanks", [["white"], ["black", "navy", "black"]])
def test_an_animation_is_its_first_frame_that_is_not_blank(
    kind: str, options: dict[str, object], most: float, blanks: list[str]
) -> None:
    frames = [*(Image.new("RGB", RUIN.size, colour) for colour in blanks), RUIN, RUIN.rotate(180)]
    assert difference(moving(kind, frames, **options)) < most


def test_an_animation_that_begins_with_an_image_stays_at_it() -> None:
    assert difference(moving("WEBP", [RUIN, RUIN.rotate(180)], lossless=True)) == 0


def test_frames_are_not_looked_for_without_end() -> None:
    frames = [Image.new("RGB", RUIN.size, (i, 0, 255 - i)) for i in range(40)]
    assert open_image(moving("PNG", [*frames, RUIN])).is_blank()


def test_a_damaged_later_frame_costs_only_itself() -> None:
    data = moving("GIF", [Image.new("RGB", RUIN.size, "white"), RUIN])
    assert open_image(data[: len(data) // 3]).pixels(SMALL).min() == 255


# Ancillary chunks of a PNG


def chunk(name: bytes, data: bytes, *, checksum: int | None = None) -> bytes:
    right = zlib.crc32(name + data)
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", right if checksum is None else checksum)


MEGABYTES = zlib.compress(b"A" * 3 * 2**20)
CHUNKS = {
    "text": chunk(b"tEXt", b"Comment\0hello", checksum=0),
    "compressed text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"hello"), checksum=1),
    "no compressed text": chunk(b"zTXt", b"Comment\0\0" + b"\xff" * 20),
    "long text": chunk(b"zTXt", b"Comment\0\0" + MEGABYTES),
    "long international text": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + MEGABYTES),
    "many texts": b"".join(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"A" * 999_999)) for _ in range(80)),
    "resolution": chunk(b"pHYs", struct.pack(">LLB", 2835, 2835, 1), checksum=7),
    "short resolution": chunk(b"pHYs", b"\0\0\x0b"),
    "no resolution": chunk(b"pHYs", b""),
    "profile": chunk(b"iCCP", b"name\0\0" + zlib.compress(b"x" * 200), checksum=3),
    "no profile": chunk(b"iCCP", b""),
    "long profile": chunk(b"iCCP", b"name\0\0" + MEGABYTES),
    "gamma": chunk(b"gAMA", b"\0"),
    "white point": chunk(b"cHRM", b"\0\1\2"),
    "rendering": chunk(b"sRGB", b"", checksum=9),
    "background": chunk(b"bKGD", b"", checksum=9),
    "time": chunk(b"tIME", b"", checksum=9),
    "of a program": chunk(b"vpAg", b"?" * 40, checksum=9),
}


@pytest.mark.parametrize("name", CHUNKS)
@pytest.mark.parametrize("late", [False, True])
def test_a_bad_chunk_beside_the_pixels_does_not_cost_them(name: str, late: bool) -> None:
    plain = encoded(RUIN, "PNG")
    at = len(plain) - 12 if late else 33
    data = plain[:at] + CHUNKS[name] + plain[at:]
    assert difference(data) == 0
    assert open_image(data).facts == open_image(plain).facts


def test_what_is_good_beside_a_bad_chunk_is_kept() -> None:
    exif = Image.Exif()
    exif[0x0110] = "Camera"
    exif[0x0112] = 6
    plain = encoded(RUIN, "PNG", exif=exif)
    picture = open_image(plain[:33] + CHUNKS["text"] + plain[33:])
    assert picture.facts == open_image(plain).facts
    assert (picture.facts.camera, picture.facts.height) == ("Camera", RUIN.width)


def test_a_long_profile_is_applied() -> None:
    """Twice the same: within a megabyte, and beyond it, by bytes that the profile's tags do not refer to."""
    plain = (GOLDEN / "harbour-display-p3.png").read_bytes()
    start = plain.index(b"iCCP")
    (length,) = struct.unpack_from(">L", plain, start - 4)
    profile = zlib.decompress(plain[start + 4 : start + 4 + length].partition(b"\0")[2][1:])
    longer = struct.pack(">L", len(profile) + 2**21) + profile[4:] + bytes(2**21)
    data = plain[: start - 4] + chunk(b"iCCP", b"P3\0\0" + zlib.compress(longer)) + plain[start + length + 8 :]
    with Image.open(GOLDEN / "harbour.png") as twin:
        assert difference(data, twin) < 1


def test_a_png_that_ends_early_is_still_truncated() -> None:
    plain = encoded(RUIN, "PNG")
    with pytest.raises(TruncatedImageError):
        open_image((plain[:33] + CHUNKS["text"] + plain[33:])[: len(plain) // 2]).pixels(SMALL)


# JPEG 2000 and JPEG XL


def test_white_stays_white_in_a_deep_jpeg_2000() -> None:
    values = np.full((40, 60, 3), 65535, np.uint16)
    values[10:30, 10:30] = (9000, 0, 30000)
    for data in (values, np.concatenate([values, np.full((40, 60, 1), 65535, np.uint16)], axis=-1)):
        found = np.asarray(open_image(imagecodecs.jpeg2k_encode(data, level=0, reversible=True)).upright())
        np.testing.assert_array_equal(found, np.rint(values / 257))


def without(package: str, data: bytes) -> str:
    """What a process that does not have a package says of a file."""
    script = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from clipsearch.errors import ImageError\n"
        "from clipsearch.images.open import open_image\n"
        "try: print(open_image(sys.stdin.buffer.read()).upright().size)\n"
        "except ImageError as error: print(type(error).__name__, error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True)
    assert not ran.stderr
    return ran.stdout.decode()


def test_a_deep_jpeg_2000_without_the_extra_is_right_or_unsupported() -> None:
    assert without("imagecodecs", (GOLDEN / "ruin-rgba-16.jp2").read_bytes()) == f"{RUIN.size}\n"
    values = np.full((40, 60, 3), 65535, np.uint16)
    values[10:30, 10:30] = 9000
    said = without("imagecodecs", imagecodecs.jpeg2k_encode(values, level=0, reversible=True))
    assert said.startswith("UnsupportedImageError") and "pip install 'clipsearch[tiff]'" in said


@pytest.mark.parametrize("size", [(192, 128), (64, 64), (8, 16), (500, 3), (1, 1), (320, 180)])
def test_a_jpeg_xl_is_decoded_within_the_limit_only(size: tuple[int, int]) -> None:
    image = RUIN.resize(size)
    for data in (encoded(image, "JXL", lossless=True), encoded(image, "JXL", lossless=True, use_container=True)):
        assert difference(data, image) == 0
        with pytest.raises(ImageError, match="limit"):
            open_image(data, max_pixels=size[0] * size[1] - 1)


# Orientation


@pytest.mark.parametrize("form", [b"\1\0\1\0\0\0\x08\0\0\0", b"\4\0\1\0\0\0\x08\0\0\0", b"\x09\0\1\0\0\0\x08\0\0\0"])
def test_an_orientation_may_be_any_integer(form: bytes) -> None:
    """A byte, a long and a signed long; the camera was held as for 8."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1" + form + b"\0\0\0\0"
    stored = RUIN.transpose(Image.Transpose.ROTATE_270)
    for data in (encoded(stored, "PNG", exif=exif), encoded(stored, "WEBP", lossless=True, exif=exif)):
        assert difference(data) == 0


# Raw files


def test_a_raw_file_that_libraw_refuses_is_its_preview() -> None:
    preview = encoded(RUIN, "JPEG", quality=95, subsampling=0)
    small = encoded(RUIN.resize((60, 40)), "JPEG")
    data = b"FUJIFILMCCD-RAW 0201" + bytes(400) + small + bytes(50) + preview + bytes(range(256)) * 8
    picture = open_image(data)
    assert (picture.facts.format, picture.facts.width, picture.facts.height) == ("RAW", *RUIN.size)
    assert difference(data) < 3
    with pytest.raises(ImageError, match="LibRaw"):
        open_image(data.replace(b"\xff\xd8", b"\0\0"))


# Images of one colour


@pytest.fixture
def blanks(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i, colour in enumerate([(250, 250, 250), (255, 255, 255), (0, 0, 0), (37, 120, 201)]):
        image = Image.new("RGB", (320, 240), colour)
        image.save(photos / f"blank-{i}.png")
        image.save(photos / f"blank-{i}.jpg")
        image.save(photos / f"blank-{i}.webp")
        image.save(photos / f"blank-{i}.avif")
        image.save(photos / f"blank-{i}.tif")
    for i in range(4):
        RUIN.rotate(90 * i, expand=True).save(photos / f"ruin-{i}.png")
    dotted = Image.new("RGB", (320, 240), "white")
    dotted.putpixel((160, 120), (0, 0, 0))
    dotted.save(photos / "dotted.png")
    for path in photos.iterdir():
        age(path)
    return photos


@pytest.mark.parametrize("tiles", ["none", "all"])
def test_blank_images_are_kept_and_are_no_hits(blanks: Path, tmp_path: Path, tiles: str) -> None:
    with Library.create(tmp_path / "library", model="builtin") as library:
        report = library.index([blanks], run=RunOptions(tiles=tiles))  # type: ignore[arg-type]
        assert (report.indexed, report.failed) == (25, ())
        blank = [path for path in blanks.iterdir() if "blank" in path.name]
        for path in blank:
            shown = library.show(path)
            assert (shown.state, shown.reason) == ("ok", "blank"), path.name
        assert library.show(blanks / "dotted.png").reason is None
        for where in (None, Filter(within=(os.fsencode(blanks),))):
            for hits in (library.query("a white wall", k=30, where=where), library.query_many(["white"], k=30)[0]):
                assert {Path(hit.path).stem.split("-")[0] for hit in hits} == {"ruin", "dotted"}
            assert len(library.query("a wall", k=3, where=where)) == 3
        assert len(library.query("a white wall", k=30, where=Filter(state="ok"))) == 25
        number = library.show(blank[0]).id
        assert len(library.query(Indexed(number), k=30)) >= 24
        assert len(library.classify(None, ["a wall", "a ruin"]).results) == 5
        assert len(library.classify([blank[0]], ["a wall", "a ruin"]).results) == 1


# What else is beside the pixels, and legal forms that Pillow reads otherwise


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


@pytest.mark.parametrize(
    "bad",
    [
        segment(0xE0, b"JFIF"),
        segment(0xE0, b"JFIF\0"),
        segment(0xE2, b"ICC_PROFILE\0"),
        segment(0xE2, b"ICC_PROFILE\0\1"),
        segment(0xED, b"Photoshop 3.0\0008BIM"),
        segment(0xEE, b"Adobe"),
        segment(0xE0, b"") + segment(0xE2, b"ICC_PROFILE\0") + segment(0xEE, b"Adobe\0"),
    ],
)
def test_a_bad_segment_of_a_jpeg_does_not_cost_its_pixels(bad: bytes) -> None:
    exif = Image.Exif()
    exif[0x0110] = "Camera"
    plain = encoded(RUIN, "JPEG", quality=95, exif=exif)
    with_it = plain[:2] + plain[2:20] + bad + plain[20:]
    found, expected = open_image(with_it), open_image(plain)
    np.testing.assert_array_equal(found.pixels(SMALL), expected.pixels(SMALL))
    assert found.facts == expected.facts


def test_jpegs_of_more_than_8_bits_are_unsupported_by_name() -> None:
    import imagecodecs

    grey = np.asarray(RUIN.convert("L"))
    for data, name in (
        (imagecodecs.jpeg_encode(grey.astype(np.uint16) * 16, bitspersample=12), "12 bits"),
        (imagecodecs.ljpeg_encode(grey.astype(np.uint16) * 257), "lossless"),
        (imagecodecs.jpegls_encode(grey), "JPEG-LS"),
    ):
        with pytest.raises(UnsupportedImageError, match=name):
            open_image(data).pixels(SMALL)


@pytest.mark.parametrize("bad", [chunk(b"tRNS", b"\0\1"), chunk(b"tRNS", b""), chunk(b"acTL", b"")])
def test_bad_transparency_or_animation_does_not_make_a_png_partial(bad: bytes) -> None:
    plain = encoded(RUIN, "PNG")
    for at in (33, len(plain) - 12):
        assert difference(plain[:at] + bad + plain[at:]) == 0


def png_of(depth: int, kind: int, rows: list[bytes], width: int, key: bytes) -> bytes:
    head = struct.pack(">LLBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = chunk(b"IHDR", head) + chunk(b"tRNS", key) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(
    ("depth", "kind", "pair", "key"),
    [
        (2, 0, (b"\x50\x50", b"\x00\x00"), b"\0\1"),  # 1 1 0 0, of which 1 is transparent
        (4, 0, (b"\x77\x22", b"\x22\x22"), b"\0\7"),
        (16, 0, (b"\x12\x34\x20\x00", b"\x20\x00\x20\x00"), b"\x12\x34"),
        (16, 2, (b"\x0a\7\xc8\7\x1e\7" + b"\1" * 6, b"\1" * 12), b"\x0a\7\xc8\7\x1e\7"),
    ],
)
def test_the_transparent_colour_of_a_png_is_found_at_any_depth(
    depth: int, kind: int, pair: tuple[bytes, bytes], key: bytes
) -> None:
    width = {2: 8, 4: 4, 16: 2}[depth]
    found = np.asarray(open_image(png_of(depth, kind, [pair[0], pair[1]], width, key)).upright())
    assert found[0, 0].tolist() == [255, 255, 255], "transparent, on white"
    assert found[0, -1].max() < 160 and found[1].max() < 160


def test_signed_and_shallow_jpeg_2000_have_their_full_range() -> None:
    import imagecodecs

    values = np.asarray(RUIN).astype(np.int32)
    signed = (values * 257 - 32768).astype(np.int16)
    assert difference(imagecodecs.jpeg2k_encode(signed, level=0, reversible=True)) < 0.01
    shallow = np.asarray(RUIN.convert("L")) >> 4
    data = imagecodecs.jpeg2k_encode(shallow, level=0, reversible=True, bitspersample=4)
    found = np.asarray(open_image(data).upright())
    np.testing.assert_array_equal(found[..., 0], shallow * 17)


def test_an_animated_jpeg_xl_is_its_first_frame_that_is_not_blank() -> None:
    import imagecodecs

    image = np.asarray(RUIN)
    blank = np.zeros_like(image)
    for frames in ([image, image[::-1], blank], [blank, image, image[::-1]]):
        data = imagecodecs.jpegxl_encode(np.stack(frames), level=100)
        assert difference(data) < 1
        said = without("imagecodecs", data)
        assert said.startswith("UnsupportedImageError animated JPEG XL needs")


def test_a_broken_text_does_not_cost_a_tiff_its_pixels() -> None:
    for options in ({}, {"compression": "tiff_lzw"}):
        data = bytearray(encoded(RUIN, "TIFF", **options))
        (start,) = struct.unpack_from("<L", data, 4)
        (number,) = struct.unpack_from("<H", data, start)
        tags = [bytes(data[start + 2 + 12 * i : start + 14 + 12 * i]) for i in range(number)]
        beyond = struct.pack("<HHLL", 271, 2, 900, 2**31)
        table = b"".join(sorted([*tags, beyond], key=lambda tag: struct.unpack_from("<H", tag)))
        at = len(data)
        data += struct.pack("<H", number + 1) + table + bytes(4)
        struct.pack_into("<L", data, 4, at)
        assert difference(bytes(data)) == 0


def test_a_big_endian_bigtiff_is_read(tmp_path: Path) -> None:
    import tifffile

    for compression in (None, "zlib"):
        options = {"photometric": "rgb", "bigtiff": True, "byteorder": ">", "compression": compression}
        tifffile.imwrite(tmp_path / "a.tif", np.asarray(RUIN), **options)
        assert difference((tmp_path / "a.tif").read_bytes()) == 0


def test_a_decoder_that_cannot_be_imported_costs_only_its_files(tmp_path: Path) -> None:
    for name in ("pi_heif", "pillow_jxl"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise OSError('libfoo.so: no such file')")
    script = (
        "import sys\n"
        "from clipsearch.errors import UnsupportedImageError\n"
        "from clipsearch.images.open import open_image\n"
        "try: open_image(open(sys.argv[1], 'rb').read())\n"
        "except UnsupportedImageError as error: print(error)\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    for name in ("valley.heic", "ruin.jxl"):
        command = [sys.executable, "-c", script, str(GOLDEN / name)]
        ran = subprocess.run(command, capture_output=True, check=True, env=os.environ | {"PYTHONPATH": path})
        assert b"cannot be imported: libfoo.so: no such file" in ran.stdout


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.new("RGB", (400, 300), "teal"), "PNG", compress_level=0),
        encoded(Image.new("RGB", (400, 300), "teal"), "JPEG", comment=b"a" * 60_000),
        encoded(Image.new("RGB", (400, 300), "teal"), "JPEG") + bytes(range(256)) * 400,
    ],
    ids=["stored", "comment", "motion photo"],
)
def test_a_blank_image_is_seen_whatever_its_file_holds(data: bytes) -> None:
    picture = open_image(data)
    assert picture.is_blank(picture.square(SMALL))
