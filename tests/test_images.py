"""Pixels: the reference's own where an image is plain, those of its plain twin where it isn't; else errors of ours."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from open_clip.transform import image_transform
from PIL import Image, ImageCms, ImageFile, PngImagePlugin

from clipsearch.errors import ImageError, TruncatedImageError, UnsupportedImageError
from clipsearch.images.open import HEAD_BYTES, decoder_version, open_image
from clipsearch.images.sniff import IMAGE_SUFFIXES, MAX_PIXELS, image_format, sniff
from clipsearch.types import Box, Preprocess

DATA = Path(__file__).parent.parent / "data"
GOLDEN = DATA / "golden"
PAIRS = json.loads((DATA / "golden.json").read_text(encoding="utf-8"))
SMALL = Preprocess(size=64)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def smooth(width: int, height: int, seed: int = 0) -> Image.Image:
    """What a camera gives: most of it blurred, with edges and some grain."""
    coarse = noise(max(2, width // 40), max(2, height // 40), seed).resize((width, height), Image.Resampling.BICUBIC)
    return Image.blend(coarse, noise(width, height, seed + 1), 0.06)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def reference(image: Image.Image, preprocess: Preprocess) -> np.ndarray:
    """open_clip's own transform, up to the point where it leaves bytes."""
    transform = image_transform(
        preprocess.size,
        is_train=False,
        resize_mode=preprocess.resize,
        interpolation=preprocess.interpolation,
        fill_color=preprocess.fill,
    )
    for step in transform.transforms[:-2]:
        image = step(image)
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Of the pixels as a tower takes them, normalised with OpenAI's mean and deviation."""
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (SMALL.mean, SMALL.std))
    a, b = (((pixels / 255 - mean) / std).ravel() for pixels in (one, other))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


SIZES = [(500, 375), (375, 500), (224, 224), (225, 224), (333, 517), (1, 1), (3, 2), (1000, 70), (70, 1000), (501, 333)]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("size", [64, 95, 224])
def test_plain_pictures_give_the_references_pixels(size: int, resize: str, interpolation: str) -> None:
    preprocess = Preprocess(size=size, resize=resize, interpolation=interpolation, fill=7)  # type: ignore[arg-type]
    for width, height in SIZES:
        image = noise(width, height)
        ours = open_image(encoded(image, compress_level=1)).pixels(preprocess)
        assert ours.shape == (3, size, size) and ours.dtype == np.uint8 and ours.flags.c_contiguous
        np.testing.assert_array_equal(ours, reference(image, preprocess), err_msg=f"{width} × {height}")


def test_a_jpeg_just_under_the_draft_limit_gives_the_references_pixels() -> None:
    data = encoded(smooth(1000, 895), "JPEG")
    preprocess = Preprocess(size=224)
    np.testing.assert_array_equal(
        open_image(data).pixels(preprocess), reference(Image.open(io.BytesIO(data)), preprocess)
    )


@pytest.mark.parametrize(("size", "least"), [(224, 0.9999), (256, 0.9999), (64, 0.999)])
@pytest.mark.parametrize("resize", ["shortest", "squash", "longest"])
def test_a_drafted_jpeg_stays_close_to_the_reference(size: int, least: float, resize: str) -> None:
    preprocess = Preprocess(size=size, resize=resize)  # type: ignore[arg-type]
    for width, height in ((2003, 1501), (1101, 2207)):
        data = encoded(smooth(width, height), "JPEG", quality=92)
        ours = open_image(data).pixels(preprocess)
        assert cosine(ours, reference(Image.open(io.BytesIO(data)), preprocess)) >= least


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_jpeg_is_drafted_like_its_twin(turn: int) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    image = smooth(1203, 901)
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = image.transpose(Image.Transpose(undo[turn])) if turn in undo else image
    picture = open_image(encoded(stored, "JPEG", quality=95, subsampling=0, exif=exif.tobytes()))
    twin = open_image(encoded(image, "JPEG", quality=95, subsampling=0))
    for box in (None, (100, 50, 900, 700)):
        assert cosine(picture.pixels(SMALL, box=box), twin.pixels(SMALL, box=box)) >= 0.9995


@pytest.mark.parametrize("pair", PAIRS, ids=[pair["file"] for pair in PAIRS])
def test_golden_pictures_give_their_twins_pixels(pair: dict[str, object]) -> None:
    picture, twin = (open_image((GOLDEN / str(pair[side])).read_bytes()) for side in ("file", "twin"))
    assert (picture.facts.width, picture.facts.height) == (twin.facts.width, twin.facts.height)
    for box in (None, (30, 20, 141, 110)):
        apart = np.abs(picture.pixels(SMALL, box=box).astype(int) - twin.pixels(SMALL, box=box))
        assert apart.mean() <= pair["mean"], "mean"
        assert apart.max() <= pair["max"], "max"
    whole = np.abs(np.asarray(picture.upright()).astype(int) - np.asarray(twin.upright()))
    assert whole.mean() <= 2 * float(str(pair["mean"]))


def test_the_golden_set_is_complete() -> None:
    named = {str(pair[side]) for pair in PAIRS for side in ("file", "twin")}
    assert named == {path.name for path in GOLDEN.iterdir()}
    assert {f"hills-exif-{turn}.jpg" for turn in range(1, 9)} <= named


@pytest.mark.parametrize("size", [(500, 375), (301, 402), (40, 30)])
def test_crop_takes_a_centred_square_first(size: tuple[int, int]) -> None:
    image = noise(*size)
    side = int(260 / 292 * min(size))
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    square = image.crop((left, top, left + side, top + side)).resize((260, 260), Image.Resampling.BICUBIC)
    ours = open_image(encoded(image)).pixels(Preprocess(size=260, resize="crop", crop=260 / 292))
    np.testing.assert_array_equal(ours, np.asarray(square).transpose(2, 0, 1))


@pytest.mark.parametrize("box", [(10, 20, 110, 90), (0, 0, 301, 203), (-5, -5, 60, 400)])
def test_a_box_is_a_picture_of_its_own(box: Box) -> None:
    image = noise(301, 203)
    clipped = image.crop((max(0, box[0]), max(0, box[1]), min(301, box[2]), min(203, box[3])))
    for resize in ("shortest", "longest", "squash", "crop"):
        preprocess = Preprocess(size=50, resize=resize, crop=0.9)  # type: ignore[arg-type]
        ours = open_image(encoded(image)).pixels(preprocess, box=box)
        np.testing.assert_array_equal(ours, open_image(encoded(clipped)).pixels(preprocess))


def test_a_box_outside_the_picture_is_refused() -> None:
    with pytest.raises(ImageError, match="301 × 203"):
        open_image(encoded(noise(301, 203))).pixels(SMALL, box=(400, 0, 500, 100))


def test_a_picture_answers_again_and_in_any_order() -> None:
    data = encoded(smooth(1600, 1200), "JPEG")
    large, corner, right = Preprocess(size=224), (0, 0, 300, 300), (800, 0, 1600, 800)
    requests = [(SMALL, None), (large, None), (SMALL, corner), (SMALL, None), (SMALL, right)]
    picture = open_image(data)
    for preprocess, box in requests:
        alone = open_image(data).pixels(preprocess, box=box)
        np.testing.assert_array_equal(picture.pixels(preprocess, box=box), alone)


def test_upright_is_the_whole_picture_in_srgb() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = open_image(encoded(smooth(1600, 1200), "JPEG", exif=exif.tobytes()))
    assert picture.upright(max_side=200).size == (150, 200)
    assert picture.upright().size == (1200, 1600) == (picture.facts.width, picture.facts.height)
    assert open_image(encoded(noise(30, 20))).upright(max_side=200).size == (30, 20)


def test_very_long_pictures_do_not_swell() -> None:
    """Scaled as a whole, this one would take 8 GB before its crop."""
    column = np.linspace(0, 255, 60_000).astype(np.uint8)
    image = Image.fromarray(np.repeat(column[:, None], 3, axis=1).reshape(-1, 1, 3))
    ours = open_image(encoded(image)).pixels(Preprocess(size=224))
    assert abs(int(ours.mean()) - 127) <= 1


# --- colours


def test_an_srgb_profile_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = noise(100, 80)
    np.testing.assert_array_equal(
        open_image(encoded(image, icc_profile=profile)).pixels(SMALL), reference(image, SMALL)
    )


def wide(image: Image.Image) -> tuple[Image.Image, bytes]:
    """`image` taken as Display-P3, converted by LittleCMS at full size, and the profile."""
    with Image.open(GOLDEN / "harbour-display-p3.png") as golden:
        profile = golden.info["icc_profile"]
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    converted = ImageCms.profileToProfile(image, opened, ImageCms.createProfile("sRGB"))
    assert converted is not None
    return converted, profile


@pytest.mark.parametrize(
    ("size", "kind", "least"),
    [((400, 300), "PNG", 1 - 1e-9), ((1900, 1400), "PNG", 0.999), ((4000, 3000), "JPEG", 0.9999)],
    ids=["small", "large", "drafted"],
)
def test_a_profile_is_used_as_if_on_all_pixels(size: tuple[int, int], kind: str, least: float) -> None:
    data = encoded(smooth(*size), kind, **({"quality": 92} if kind == "JPEG" else {"compress_level": 1}))
    with Image.open(io.BytesIO(data)) as image:
        converted, profile = wide(image.convert("RGB"))
        plain = reference(image.convert("RGB"), Preprocess(size=224))
        data = encoded(image, kind, icc_profile=profile, **({"quality": "keep"} if kind == "JPEG" else {}))
    wanted = reference(converted, Preprocess(size=224))
    assert cosine(open_image(data).pixels(Preprocess(size=224)), wanted) >= least
    assert cosine(plain, wanted) < 0.998


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256 * 64).reshape(64, 256).astype(np.uint16)
    for kind in ("PNG", "TIFF"):
        picture = open_image(encoded(Image.fromarray(ramp), kind)).upright()
        assert np.abs(np.asarray(picture)[..., 0].astype(int) - np.rint(ramp / 257)).max() <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[-4, 0, 4]], np.float32), [0, 128, 255]),
        (np.array([[100, 600, 1100]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, 2, np.inf, 4]], np.float32), [0, 0, 255, 255]),
        (np.array([[7, 7]], np.float32), [0, 0]),
        (np.array([[0, 128, 255]], np.int32), [0, 128, 255]),
        (np.array([[0, 32768, 65535]], np.int32), [0, 128, 255]),
        (np.array([[0, 500_000, 1_000_000]], np.int32), [0, 128, 255]),
    ],
)
def test_wide_grey_values_are_spread_sensibly(values: np.ndarray, expected: list[int]) -> None:
    seen = np.asarray(open_image(encoded(Image.fromarray(values), "TIFF")).upright())
    assert np.abs(seen[0, :, 0].astype(int) - expected).max() <= 1


def test_a_transparent_colour_key_shows_white() -> None:
    pixels = np.array([[[10, 20, 30], [200, 100, 0]]], np.uint8)
    seen = np.asarray(open_image(encoded(Image.fromarray(pixels), transparency=(10, 20, 30))).upright())
    assert seen[0].tolist() == [[255, 255, 255], [200, 100, 0]]
    grey = Image.fromarray(pixels[..., 0])
    assert np.asarray(open_image(encoded(grey, transparency=10)).upright())[0, :, 0].tolist() == [255, 200]


def test_one_bit_pictures_are_scaled_like_grey_ones() -> None:
    checks = Image.fromarray((np.indices((100, 100)).sum(0) % 2 * 255).astype(np.uint8))
    ours = open_image(encoded(checks.convert("1", dither=Image.Dither.NONE))).pixels(SMALL)
    np.testing.assert_array_equal(ours, open_image(encoded(checks)).pixels(SMALL))
    assert 60 < ours.mean() < 195


def test_a_profile_for_other_channels_is_ignored() -> None:
    with Image.open(GOLDEN / "coast-cmyk-profile.jpg") as printed:
        profile = printed.info["icc_profile"]
    image = noise(100, 80)
    np.testing.assert_array_equal(
        open_image(encoded(image, icc_profile=profile)).pixels(SMALL), reference(image, SMALL)
    )


# --- limits


def test_the_limit_counts_what_is_decoded() -> None:
    photo = smooth(1600, 1200)
    preprocess = Preprocess(size=128)
    assert open_image(encoded(photo, "JPEG"), max_pixels=500_000).pixels(preprocess).shape == (3, 128, 128)
    for data in (encoded(photo, compress_level=1), encoded(photo, "JPEG", progressive=True)):
        with pytest.raises(ImageError, match=r"megapixels.*`max_pixels`"):
            open_image(data, max_pixels=500_000).pixels(preprocess)


def test_a_small_file_of_enormous_size_is_refused() -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        import struct
        import zlib

        return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))

    head = chunk(b"IHDR", (100_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0]))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="megapixels"):
        open_image(data).pixels(SMALL)


# --- files that are none, or only in part


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b"", ImageError, "empty"),
        (b"just some text\n" * 40, ImageError, "not a picture"),
        (bytes(5000), ImageError, "not a picture"),
        (b"%PDF-1.7\n...", UnsupportedImageError, "PDF"),
        (b"\n<?xml version='1.0'?>\n<!-- drawn -->\n<svg xmlns='x'>", UnsupportedImageError, "SVG"),
        (b"<SVG width='3'/>", UnsupportedImageError, "SVG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", UnsupportedImageError, "PostScript"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", UnsupportedImageError, "video"),
        (b"<!DOCTYPE html><title>404</title>", UnsupportedImageError, "HTML"),
        (b"8BPS\0\1", UnsupportedImageError, "Photoshop"),
        (b"\xff\x0a\xfa\x7f", ImageError, "JPEG XL data is damaged"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", ImageError, "JPEG XL data is damaged"),
        (b"\xff\xd8\xff\xe0 no jpeg", ImageError, "ends early"),
        (b"\x89PNG\r\n\x1a\nrubbish that is no chunk", ImageError, "PNG"),
        (b"II*\0\x08\0\0\0", ImageError, "."),
    ],
)
def test_what_is_no_picture_says_so_in_a_line(data: bytes, kind: type[ImageError], message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        open_image(data).pixels(SMALL)
    assert isinstance(caught.value, kind)
    assert isinstance(caught.value, UnsupportedImageError) == (kind is UnsupportedImageError)
    assert "\n" not in str(caught.value)


def test_content_decides_and_a_file_serves_as_well_as_bytes(tmp_path: Path) -> None:
    image = noise(90, 70)
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"" + encoded(image, "WEBP", lossless=True))
    with path.open("rb") as stream:
        stream.seek(11)
        picture = open_image(stream)
        assert picture.facts.format == "WEBP"
        np.testing.assert_array_equal(picture.pixels(SMALL), reference(image, SMALL))
        np.testing.assert_array_equal(picture.pixels(Preprocess(size=32)), reference(image, Preprocess(size=32)))


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("TIFF", {}), ("GIF", {})]
)
def test_a_file_that_ends_early_is_told_and_can_be_read_in_part(kind: str, options: dict[str, object]) -> None:
    image = smooth(400, 300)
    data = encoded(image, kind, **options)
    with pytest.raises(TruncatedImageError):
        open_image(data[: len(data) * 7 // 10]).pixels(SMALL)
    part = open_image(data[: len(data) * 7 // 10], truncated=True).pixels(Preprocess(size=64, resize="squash"))
    whole = open_image(data).pixels(Preprocess(size=64, resize="squash"))
    assert np.abs(part[:, :20].astype(int) - whole[:, :20]).mean() < 8
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_file_without_any_pixels_stays_an_error_in_part() -> None:
    data = encoded(smooth(400, 300), "JPEG")
    head = data[: data.index(b"\xff\xda") + 14]
    with pytest.raises(ImageError) as caught:
        open_image(head, truncated=True).pixels(SMALL)
    assert not isinstance(caught.value, TruncatedImageError)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_damage_anywhere_is_pixels_or_an_error_of_ours() -> None:
    rng = np.random.default_rng(5)
    for path in sorted(GOLDEN.iterdir()):
        data = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(4):
            damaged = data.copy()
            places = rng.integers(0, min(len(data), int(rng.choice([200, 2000, len(data)]))), 12)
            damaged[places] = rng.integers(0, 256, 12)
            try:
                shape = open_image(damaged.tobytes(), max_pixels=1_000_000).pixels(SMALL).shape
            except ImageError as error:
                assert "\n" not in str(error) and str(path) not in str(error)
            else:
                assert shape == (3, 64, 64)


class Exhausted(io.BytesIO):
    """A file that memory doesn't suffice to read, once it has been opened."""

    full = False

    def read(self, size: int | None = -1, /) -> bytes:
        if self.full:
            raise MemoryError
        return super().read(size)


def test_want_of_memory_is_no_fault_of_the_picture() -> None:
    stream = Exhausted(encoded(smooth(400, 300), "JPEG"))
    picture = open_image(stream)
    stream.full = True
    with pytest.raises(MemoryError):
        picture.pixels(SMALL)


# --- what surrounds the pixels


def test_broken_exif_and_long_texts_never_fail_a_picture() -> None:
    image = noise(80, 60)
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", "no\nhex\nat all zz")
    pictures = [
        encoded(image, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        encoded(image, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(range(256))),
        encoded(image, exif=b"Exif\0\0"),
        encoded(image, pnginfo=info),
        encoded(image, "WEBP", lossless=True, exif=b"\0\1\2"),
    ]
    for data in pictures:
        np.testing.assert_array_equal(open_image(data).pixels(SMALL), reference(image, SMALL))


def test_decoding_leaves_the_warning_filters_and_pillows_switch() -> None:
    before = list(warnings.filters)
    for pair in PAIRS:
        open_image((GOLDEN / str(pair["file"])).read_bytes()).pixels(SMALL)
    with contextlib.suppress(ImageError):
        open_image((GOLDEN / str(PAIRS[0]["file"])).read_bytes()[:500], truncated=True).pixels(SMALL)
    assert list(warnings.filters) == before and not ImageFile.LOAD_TRUNCATED_IMAGES


def run_python(script: str, data: bytes = b"") -> str:
    done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True)
    return done.stdout.decode()


def test_the_module_and_its_decoder_version_load_no_decoder() -> None:
    script = (
        "import sys; from clipsearch.images.open import decoder_version; decoder_version()\n"
        "print([name for name in ('PIL', 'numpy', 'pi_heif', 'rawpy') if name in sys.modules])"
    )
    assert run_python(script).strip() == "[]"


def test_the_decoder_version_names_what_a_failure_depends_on() -> None:
    import PIL

    assert f"pillow {PIL.__version__}" in decoder_version()
    assert decoder_version().endswith("; 64 MP") and MAX_PIXELS == 64_000_000
    assert decoder_version(1_500_000).endswith("; 1.5 MP")


def test_without_its_extra_a_jpeg_xl_picture_names_it() -> None:
    script = (
        "import sys; sys.modules['pillow_jxl'] = None\n"
        "from clipsearch.errors import UnsupportedImageError\n"
        "from clipsearch.images.open import open_image\n"
        "try: open_image(sys.stdin.buffer.read())\n"
        "except UnsupportedImageError as error: print(error)\n"
    )
    assert "pip install 'clipsearch[jxl]'" in run_python(script, b"\xff\x0a" + bytes(20))


def test_an_open_file_gives_the_pixels_of_its_bytes() -> None:
    for path in sorted(GOLDEN.iterdir()):
        with open(os.open(path, os.O_RDONLY), "rb") as file:
            by_bytes = open_image(path.read_bytes()).upright(max_side=40)
            assert open_image(file).upright(max_side=40) == by_bytes, path.name


def test_a_heic_item_without_a_proper_name_does_not_end_the_process() -> None:
    script = (
        "import sys\n"
        "from clipsearch.errors import ImageError\n"
        "from clipsearch.images.open import open_image\n"
        "try: open_image(sys.stdin.buffer.read())\n"
        "except ImageError as error: print(error)\n"
    )
    data = (GOLDEN / "valley.heic").read_bytes()
    assert data.count(b"Exif", 0, 600) == 1
    assert "HEIF header is damaged" in run_python(script, data.replace(b"Exif", b"\xffxif", 1))


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_a_large_jpeg_of_any_colours_and_companions_is_drafted(mode: str) -> None:
    """Phones put a second image behind the first (MPO); it must not keep the first from being drafted."""
    image = smooth(1600, 1200).convert(mode)
    for kind, options in (("JPEG", {}), ("MPO", {"save_all": True, "append_images": [image]})):
        data = encoded(image, kind, quality=92, **options)
        picture = open_image(data, max_pixels=500_000)
        assert picture.facts.format == "JPEG"
        twin = open_image(encoded(image.convert("RGB"), compress_level=1)).pixels(Preprocess(size=128))
        assert cosine(picture.pixels(Preprocess(size=128)), twin) > 0.998


def test_a_canon_ciff_file_is_a_raw_file() -> None:
    assert sniff(b"II\x1a\0\0\0HEAPCCDR\2\0\1\0") == "RAW"


@pytest.mark.parametrize("head", [b"P6\n640 480\n255\n", b"P4# by hand\n# twice\n8 8\n", b"P5\n#" + b" long" * 1000])
def test_a_ppm_begins_with_numbers_and_comments(head: bytes) -> None:
    assert image_format(head[:HEAD_BYTES]) == "PPM"
    assert image_format(b"P1 is a text") is None


def test_suffixes_cover_the_golden_set_and_leave_drawings_out() -> None:
    assert {path.suffix for path in GOLDEN.iterdir()} <= IMAGE_SUFFIXES
    assert {".jpeg", ".dng", ".cr3", ".heif"} <= IMAGE_SUFFIXES
    assert {".insp", ".jps", ".pjpeg", ".pjp", ".crw", ".gpr", ".jxl"} <= IMAGE_SUFFIXES
    assert not {".svg", ".pdf", ".eps", ".txt", ".mp4"} & IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)
