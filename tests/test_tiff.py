"""TIFF: every layout gives the pixels of its plain twin, or says what it is; hostile files give errors of ours."""

from __future__ import annotations

import io
import lzma
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tiffs
from PIL import Image, ImageCms

from clipsearch.errors import ImageError, TruncatedImageError, UnsupportedImageError
from clipsearch.images.open import open_image
from clipsearch.images.pillow import PillowSource
from clipsearch.images.tiff.source import TiffSource
from clipsearch.types import Preprocess

HEIGHT, WIDTH = 48, 80


def drawn() -> np.ndarray:
    """Colours of shape (h, w, 3), 0 … 1: gradients in all three channels, a disc and an edge; no symmetry."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / (HEIGHT, WIDTH)[0]
    picture = np.stack([0.1 + 0.5 * x, 0.9 - 0.7 * y, 0.3 + 0.4 * np.sin(4 * x + 3 * y) ** 2], axis=-1)
    picture[np.hypot(x - 0.6, y - 0.4) < 0.25] = (0.95, 0.8, 0.1)
    picture[:, :9] = (0.05, 0.2, 0.6)
    return np.clip(picture, 0, 1)


PICTURE = drawn()
GREY = PICTURE @ np.array([0.299, 0.587, 0.114])
ALPHA = np.clip(1.6 - np.hypot(*(np.mgrid[0:HEIGHT, 0:WIDTH] - np.array([20, 40]).reshape(2, 1, 1))) / 25, 0, 1)


def inks() -> np.ndarray:
    black = 0.5 * (1 - PICTURE.max(axis=-1, keepdims=True))
    return np.concatenate([1 - PICTURE / (1 - black), black], axis=-1)


def with_alpha(colours: np.ndarray, *, premultiplied: bool = False) -> np.ndarray:
    colours = colours if colours.ndim == 3 else colours[..., None]
    return np.concatenate([colours * ALPHA[..., None] if premultiplied else colours, ALPHA[..., None]], axis=-1)


SPACES: dict[str, tuple[np.ndarray, int, tuple[int, ...]]] = {
    "white is zero": (1 - GREY[..., None], 0, ()),
    "black is zero": (GREY[..., None], 1, ()),
    "grey, ignored": (with_alpha(GREY), 1, (0,)),
    "grey, premultiplied": (with_alpha(GREY, premultiplied=True), 1, (1,)),
    "grey, alpha": (with_alpha(GREY), 1, (2,)),
    "white is zero, alpha": (with_alpha(1 - GREY), 0, (2,)),
    "RGB": (PICTURE, 2, ()),
    "RGB, ignored": (with_alpha(PICTURE), 2, (0,)),
    "RGB, premultiplied": (with_alpha(PICTURE, premultiplied=True), 2, (1,)),
    "RGB, alpha": (with_alpha(PICTURE), 2, (2,)),
    "RGB, untagged": (with_alpha(PICTURE), 2, ()),
    "RGB, ignored and alpha": (np.dstack([PICTURE, GREY, ALPHA]), 2, (0, 2)),
    "CMYK": (inks(), 5, ()),
    "CMYK, alpha": (with_alpha(inks()), 5, (2,)),
}
"""Samples 0 … 1, photometric interpretation and extra samples."""


def shown(values: np.ndarray, photometric: int, extra: tuple[int, ...]) -> np.ndarray:
    """The colours 0 … 1 of shape (h, w, 3) that these samples mean, on white."""
    count = {2: 3, 5: 4}.get(photometric, 1)
    colours = values[..., :count]
    if photometric == 0:
        colours = 1 - colours
    if photometric == 5:
        colours = (1 - colours[..., :3]) * (1 - colours[..., 3:])
    if extra == (0,) or values.shape[-1] == count:
        return np.broadcast_to(colours, (HEIGHT, WIDTH, 3))
    alpha = values[..., -1:]
    return (np.minimum(colours, alpha) if extra == (1,) else colours * alpha) + 1 - alpha


DEPTHS = [*((bits, 1) for bits in (1, 2, 4, 6, 8, 10, 12, 14, 16, 32, 64)), (16, 3), (32, 3), (64, 3)]

STORED: dict[str, dict[str, object]] = {
    "plain": {},
    "Motorola": {"order": ">"},
    "BigTIFF": {"big": True, "rows": 7},
    "planes": {"planar": 2, "rows": 16},
    "tiles": {"tile": 32},
    "planes of tiles, Motorola": {"tile": 32, "planar": 2, "order": ">"},
    "mirrored": {"fill_order": 2, "rows": 10},
    "mirrored planes": {"fill_order": 2, "planar": 2},
    "deflate": {"compression": 8, "compress": zlib.compress, "rows": 10},
    "deflate, Motorola": {"compression": 8, "compress": zlib.compress, "order": ">"},
    "mirrored deflate": {"compression": 8, "compress": zlib.compress, "fill_order": 2},
    "LZW planes": {"compression": 5, "compress": imagecodecs.lzw_encode, "planar": 2},
    "PackBits": {"compression": 32773, "compress": imagecodecs.packbits_encode, "rows": 11},
    "LZMA": {"compression": 34925, "compress": lzma.compress},
    "Zstandard tiles": {"compression": 50000, "compress": imagecodecs.zstd_encode, "tile": 16},
}


def whole(values: np.ndarray, bits: int, form: int) -> np.ndarray:
    """Values 0 … 1 as samples."""
    if form == 3:
        return values
    top = 2**bits - 1 if form == 1 else 2 ** (bits - 1) - 1
    return np.minimum(np.rint(values * top), np.nextafter(float(top), 0) if bits > 52 else top).astype(
        np.uint64 if form == 1 else np.int64
    )


def seen(data: bytes, **options: object) -> np.ndarray:
    return np.asarray(open_image(data, **options).upright()).astype(float)  # type: ignore[arg-type]


def apart(data: bytes, expected: np.ndarray) -> float:
    """The largest difference from colours 0 … 1, of 255."""
    return float(np.abs(seen(data) - 255 * expected).max())


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("space", SPACES)
def test_every_layout_gives_the_pixels_of_its_plain_twin(space: str, stored: str) -> None:
    values, photometric, extra = SPACES[space]
    for bits, form in DEPTHS:
        samples = whole(values, bits, form)
        data = tiffs.tiff(samples, bits=bits, form=form, photometric=photometric, extra=extra, **STORED[stored])
        expected = shown(samples / (1 if form == 3 else 2.0**bits - 1), photometric, extra)
        # Premultiplied colours are divided in 8 bits, and CMYK is converted in 8 bits.
        assert apart(data, expected) <= (1.01 if values.shape[-1] in (1, 3) else 3), (bits, form)


@pytest.mark.parametrize("space", ["black is zero", "RGB", "RGB, premultiplied", "RGB, alpha", "CMYK"])
def test_what_pillow_decodes_correctly_keeps_its_pixels_to_the_last_bit(space: str) -> None:
    values, photometric, extra = SPACES[space]
    for stored in STORED.values():
        for bits in (8, 16):
            samples = whole(values, bits, 1)
            data = tiffs.tiff(samples, bits=bits, photometric=photometric, extra=extra, **stored)
            source = TiffSource(io.BytesIO(data), 10**6)
            if source.pixels_since == 2:
                continue
            before = PillowSource(io.BytesIO(data), "TIFF", 10**6)
            assert source.facts == before.facts
            np.testing.assert_array_equal(np.asarray(source.decode(1).image), np.asarray(before.decode(1).image))
    assert TiffSource(io.BytesIO(tiffs.tiff(BYTES)), 10**6).pixels_since == 1


BYTES = whole(PICTURE, 8, 1).astype(np.uint8)
DEEP = whole(PICTURE, 16, 1).astype(np.uint16)


@pytest.mark.parametrize(("form", "predictor"), [(1, 2), (2, 2), (3, 2), (3, 3)])
@pytest.mark.parametrize("order", "<>")
def test_predictors_are_undone(form: int, predictor: int, order: str) -> None:
    for bits in (8, 16, 32, 64):
        if (bits, form) == (8, 3):
            continue
        options = {"bits": bits, "form": form, "order": order, "photometric": 2, "rows": 13}
        for planar in (1, 2):
            plain = seen(tiffs.tiff(whole(PICTURE, bits, form), planar=planar, **options))
            packed = tiffs.tiff(
                whole(PICTURE, bits, form), planar=planar, compression=8, predictor=predictor, **options
            )
            # Pillow cuts samples of 16 bits off where this reader rounds them.
            assert np.abs(seen(packed) - plain).max() <= 1, (bits, planar)


def test_signed_and_large_numbers_are_stretched_over_their_own_range() -> None:
    for bits, form, low, high in ((8, 2, -100, 90), (16, 2, -9000, 31000), (64, 2, -(2**50), 2**50), (32, 1, 0, 10**9)):
        data = tiffs.tiff(np.rint(low + GREY * (high - low)).astype(np.int64), bits=bits, form=form, photometric=1)
        assert apart(data, (GREY[..., None] - GREY.min()) / np.ptp(GREY)) <= 3, bits
    colours = tiffs.tiff(-3 + 10 * PICTURE, bits=32, form=3, photometric=2)
    assert apart(colours, (PICTURE - PICTURE.min()) / np.ptp(PICTURE)) <= 1.01, "one scale for all channels"
    broken = PICTURE.copy()
    broken[0, 0] = np.nan
    broken[1, 1] = np.inf
    damaged = np.abs(seen(tiffs.tiff(broken, bits=16, form=3, photometric=2)) - 255 * PICTURE)
    assert np.median(damaged) <= 1


CODECS: dict[str, tuple[int, Callable[[np.ndarray], bytes]]] = {
    "JPEG 2000": (34712, lambda part: imagecodecs.jpeg2k_encode(part, level=0)),
    "JPEG XL": (50002, lambda part: imagecodecs.jpegxl_encode(part, lossless=True)),
    "LERC": (34887, imagecodecs.lerc_encode),
    "PNG": (34933, imagecodecs.png_encode),
}


@pytest.mark.parametrize("codec", CODECS)
def test_compressions_of_images_are_read(codec: str) -> None:
    number, encode = CODECS[codec]
    for samples, bits in ((BYTES, 8), (DEEP, 16), (BYTES[..., :1], 8)):
        for tile in (0, 32):

            def compress(part: np.ndarray) -> bytes:
                return encode(np.ascontiguousarray(part.squeeze()))

            data = tiffs.tiff(samples, bits=bits, compression=number, encode=compress, tile=tile)
            expected = np.broadcast_to(PICTURE[..., : samples.shape[-1]], PICTURE.shape)
            assert apart(data, expected) <= 1.01, (bits, tile)


def flat_jpeg(part: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpeg_encode(np.ascontiguousarray(part[..., 0]), level=95))


def test_webp_and_jpeg_are_read() -> None:
    webp = tiffs.tiff(BYTES, compression=50001, encode=lambda part: imagecodecs.webp_encode(part, lossless=True))
    assert apart(webp, PICTURE) <= 1
    jpeg = tiffs.tiff(BYTES, compression=7, encode=lambda part: imagecodecs.jpeg_encode(part, level=98))
    assert TiffSource(io.BytesIO(jpeg), 10**6).pixels_since == 1
    grey = whole(with_alpha(GREY), 8, 1).astype(np.uint8)
    planes = tiffs.tiff(grey, compression=7, planar=2, extra=(2,), photometric=1, encode=flat_jpeg)
    assert np.abs(seen(planes) - 255 * shown(with_alpha(GREY), 1, (2,))).mean() <= 3


@pytest.mark.parametrize(("bits", "lossless"), [(12, False), (16, True)])
def test_jpeg_of_more_than_8_bits_is_read(bits: int, lossless: bool) -> None:
    def encode(part: np.ndarray) -> bytes:
        part = np.ascontiguousarray(part[..., 0]).astype(np.uint16)
        return bytes(imagecodecs.jpeg_encode(part, level=98, bitspersample=bits, lossless=lossless))

    data = tiffs.tiff(whole(GREY[..., None], bits, 1), bits=bits, compression=7, encode=encode)
    assert np.abs(seen(data) - 255 * GREY[..., None]).mean() <= 1


@pytest.mark.parametrize("photometric", [6, 8, 9])
def test_mirrored_bits_of_other_colours_are_read(photometric: int) -> None:
    options = {"photometric": photometric, "tags": {530: (3, [1, 1])}}
    np.testing.assert_array_equal(seen(tiffs.tiff(BYTES, fill_order=2, **options)), seen(tiffs.tiff(BYTES, **options)))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("scale", [257, 1])
def test_palettes_of_16_and_of_8_bits_are_looked_up(bits: int, scale: int) -> None:
    few = Image.fromarray(BYTES).quantize(min(2**bits, 200))
    table = np.zeros((2**bits, 3), int)
    colours = np.array(few.getpalette("RGB")).reshape(-1, 3)[: 2**bits]
    table[: len(colours)] = colours
    data = tiffs.tiff(np.asarray(few), bits=bits, photometric=3, tags={320: (3, (scale * table).T.ravel().tolist())})
    np.testing.assert_array_equal(seen(data), np.asarray(few.convert("RGB")))


def test_lab_is_converted_in_all_its_forms() -> None:
    spaces = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.applyTransform(Image.fromarray(BYTES), ImageCms.buildTransform(*spaces, "RGB", "LAB"))
    signed = np.asarray(lab)
    shifted = signed ^ np.array([0, 128, 128], np.uint8)
    for samples, photometric in ((signed, 8), (shifted, 9)):
        for planar in (1, 2):
            for bits in (8, 16):
                data = tiffs.tiff(samples.astype(int) << (bits - 8), bits=bits, photometric=photometric, planar=planar)
                assert np.abs(seen(data) - 255 * PICTURE).mean() <= 1, (photometric, planar, bits)


@pytest.mark.parametrize("across", [1, 2, 4])
@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("compression", [1, 5])
def test_colours_of_fewer_pixels_are_spread(across: int, down: int, compression: int) -> None:
    red, green, blue = np.moveaxis(PICTURE, -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    values = np.stack([luma, (blue - luma) / 1.772 + 0.5, (red - luma) / 1.402 + 0.5], axis=-1)

    def units(part: np.ndarray) -> bytes:
        blocks = part.reshape(len(part) // down, down, -1, across, 3).transpose(0, 2, 1, 3, 4)
        one = blocks[..., 0].reshape(*blocks.shape[:2], -1)
        return np.concatenate([one, blocks[..., 1:].mean(axis=(2, 3))], axis=-1).round().astype(np.uint8).tobytes()

    data = tiffs.tiff(
        np.clip(np.rint(values * 255), 0, 255),
        photometric=6,
        encode=units,
        rows=16,
        compression=compression,
        compress=imagecodecs.lzw_encode if compression == 5 else None,
        tags={530: (3, [across, down])},
    )
    assert np.abs(seen(data) - 255 * PICTURE).mean() <= 6


@pytest.mark.parametrize("kind", [1, 3, 4, 6, 8, 9, 13, 16, 17])
def test_an_orientation_of_any_integer_type_is_applied(kind: int) -> None:
    for turn in range(1, 9):
        undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
        for samples in (BYTES, DEEP):
            stored = samples if turn == 1 else turned(samples, undo[turn])
            options = {"bits": 8 * samples.itemsize, "planar": samples.itemsize, "big": kind >= 16}
            picture = open_image(tiffs.tiff(stored, tags={274: (kind, [turn])}, **options))
            assert (picture.facts.width, picture.facts.height) == (WIDTH, HEIGHT)
            assert np.abs(np.asarray(picture.upright()) - 255 * PICTURE).max() <= 1.01


def turned(samples: np.ndarray, transpose: int) -> np.ndarray:
    """As Pillow's transpose of that number."""
    channels = [Image.fromarray(samples[..., i].astype(np.int32)).transpose(transpose) for i in range(3)]
    return np.dstack([np.asarray(channel) for channel in channels])


SMALL_NEGATIVE = 255 - BYTES[::4, ::4]
REDUCED, PAGE = {254: (4, [1])}, {254: (4, [2])}


@pytest.mark.parametrize("samples", [BYTES, DEEP], ids=["Pillow's", "ours"])
def test_the_full_size_image_is_chosen(samples: np.ndarray) -> None:
    def large(**options: object) -> tiffs.Page:
        return tiffs.page(samples, bits=8 * samples.itemsize, planar=samples.itemsize, **options)

    small = tiffs.page(SMALL_NEGATIVE, tags=REDUCED)
    for pages in (
        [small, large()],
        [tiffs.page(SMALL_NEGATIVE, tags={255: (3, [2])}), large()],
        [tiffs.page(SMALL_NEGATIVE), large()],
        [tiffs.page(SMALL_NEGATIVE, tags=REDUCED, below=[tiffs.page(SMALL_NEGATIVE[::2], tags=REDUCED), large()])],
        [large(), small],
        [large(below=[small])],
        [large(tags=PAGE), tiffs.page(255 - np.kron(BYTES, np.ones((2, 2, 1), int)), tags=PAGE)],
        [large(), tiffs.page(255 - BYTES)],
        [tiffs.page(SMALL_NEGATIVE[..., :1] * 0, photometric=4, tags={254: (4, [4])}), large()],
    ):
        for big in (False, True):
            picture = open_image(tiffs.assemble(pages, big=big))
            assert (picture.facts.width, picture.facts.height) == (WIDTH, HEIGHT)
            assert np.abs(np.asarray(picture.upright()) - 255 * PICTURE).max() <= 1.01


def test_facts_come_from_the_first_directory() -> None:
    small = tiffs.page(SMALL_NEGATIVE, tags={**REDUCED, 271: (2, b"Maker\0"), 274: (3, [3])})
    picture = open_image(tiffs.assemble([small, tiffs.page(DEEP[::-1, ::-1], bits=16, planar=2)]))
    assert picture.facts.camera == "Maker"
    assert np.abs(np.asarray(picture.upright()) - 255 * PICTURE).max() <= 1.01


def test_the_colour_profile_is_used() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = TiffSource(io.BytesIO(tiffs.tiff(DEEP, bits=16, planar=2, tags={34675: (7, profile)})), 10**9)
    big = tiffs.tiff(np.kron(DEEP, np.ones((23, 23, 1), int)), bits=16, planar=2, tags={34675: (7, profile)})
    assert picture.decode(1).image.mode == "RGB"
    assert TiffSource(io.BytesIO(big), 10**9).decode(1).profile == profile


UNREAD = {
    "TIFF with 24-bit grey is not supported": {"bits": 24},
    "TIFF with 16-bit YCbCr is not supported": {"bits": 16, "photometric": 6},
    "TIFF with LOGLUV is not supported": {"photometric": 32845, "compression": 34676},
    "TIFF with JBIG compression is not supported": {"compression": 34661},
}


@pytest.mark.parametrize("message", UNREAD)
def test_a_layout_that_is_not_read_is_named(message: str) -> None:
    options: dict[str, object] = UNREAD[message]
    samples = BYTES if options.get("photometric") else BYTES[..., :1]
    with pytest.raises(UnsupportedImageError, match=message):
        seen(tiffs.tiff(samples, **options))


WITHOUT = """
import io, sys
sys.modules["imagecodecs"] = None
from clipsearch.errors import UnsupportedImageError
from clipsearch.images.open import open_image
for path in sys.argv[1:]:
    try:
        open_image(open(path, "rb").read()).upright().save(path + ".png")
    except UnsupportedImageError as exc:
        print(exc)
"""


def test_only_compressions_of_images_need_the_extra(tmp_path: Path) -> None:
    files = {
        "jxl": tiffs.tiff(BYTES, compression=50002, encode=imagecodecs.jpegxl_encode),
        "lzw": tiffs.tiff(whole(PICTURE, 12, 1), bits=12, compression=5, compress=imagecodecs.lzw_encode),
        "half": tiffs.tiff(PICTURE, bits=16, form=3, compression=8, predictor=3),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    paths = [str(tmp_path / name) for name in files]
    done = subprocess.run([sys.executable, "-c", WITHOUT, *paths], capture_output=True, text=True, check=True)
    assert done.stdout == "TIFF, 8-bit RGB with JPEG XL compression, needs an extra: pip install 'clipsearch[tiff]'\n"
    for path in paths[1:]:
        assert np.abs(np.asarray(Image.open(path + ".png")) - 255 * PICTURE).max() <= 1.01


@pytest.mark.parametrize("compress", [None, imagecodecs.lzw_encode])
def test_a_truncated_file_is_decoded_as_far_as_it_goes(compress: Callable[[bytes], bytes] | None) -> None:
    options = {"bits": 16, "photometric": 0, "rows": 8, "compression": 5 if compress else 1, "compress": compress}
    samples = whole(1 - GREY, 16, 1)
    lengths = [len(data) for data in tiffs.page(samples, **options).segments]
    places = [8 + sum(length + length % 2 for length in lengths[:number]) for number in range(len(lengths))]
    # As if the last three strips had been behind the directory, and the file had been cut there.
    cut = tiffs.tiff(samples, tags={273: (4, [*places[:3], 10**6, 10**6 + 1, 10**6 + 2])}, **options)
    with pytest.raises(TruncatedImageError):
        seen(cut)
    partly = seen(cut, truncated=True)
    assert np.abs(partly[:24] - 255 * GREY[:24, :, None]).max() <= 1.01


def hostile() -> dict[str, bytes]:
    deep = tiffs.page(DEEP, bits=16, planar=2)
    plain = bytearray(tiffs.assemble([deep]))
    (at,) = struct.unpack_from("<L", plain, 4)
    chained = bytearray(tiffs.assemble([tiffs.page(SMALL_NEGATIVE, tags=REDUCED)] * 3))
    (start,) = struct.unpack_from("<L", chained, 4)
    struct.pack_into("<L", chained, start + 2 + 12 * struct.unpack_from("<H", chained, start)[0], start)
    many = bytearray(b"II*\0" + struct.pack("<L", 8))
    for number in range(100_000):
        many += struct.pack("<HHHLLL", 1, 254, 4, 1, 1, 8 + 18 * (number + 1))
    bomb = zlib.compress(bytes(200_000_000))
    grey, pair = {"bits": 16, "photometric": 1, "extra": (2,), "compression": 8}, whole(with_alpha(GREY), 16, 1)
    return {
        "directories in a circle": bytes(chained),
        "100,000 directories": bytes(many),
        "a directory beyond the end": bytes(plain[:4]) + struct.pack("<L", 2**32 - 1) + bytes(plain[8:]),
        "huge": tiffs.tiff(DEEP, bits=16, planar=2, tags={256: (4, [2**31]), 257: (4, [2**31])}),
        "one row": tiffs.tiff(DEEP, bits=16, planar=2, tags={256: (4, [2**31]), 257: (4, [1])}),
        "no rows": tiffs.tiff(DEEP, bits=16, planar=2, tags={278: (4, [0])}),
        "tiny tiles": tiffs.tiff(
            DEEP, bits=16, planar=2, tile=16, tags={322: (3, [1]), 323: (3, [1]), 256: (4, [10**7])}
        ),
        "large tiles": tiffs.tiff(DEEP, bits=16, planar=2, tile=16, tags={322: (4, [2**31]), 323: (4, [2**31])}),
        "65535 samples": tiffs.tiff(DEEP, bits=16, planar=2, tags={277: (3, [65535])}),
        "depth": tiffs.tiff(DEEP, bits=16, planar=2, tags={32997: (4, [2**31])}),
        "too few strips": tiffs.tiff(DEEP, bits=16, planar=2, tags={273: (4, [8]), 279: (4, [8])}),
        "a strip of 2^60 bytes": tiffs.tiff(
            whole(with_alpha(GREY), 16, 1), **grey, big=True, tags={279: (16, [2**60])}
        ),
        "a bomb": tiffs.tiff(pair, **grey, compress=lambda _: bomb),
        "damaged deflate": tiffs.tiff(pair, **grey, compress=lambda _: b"x" * 500),
        "a palette that is missing": tiffs.tiff(BYTES[..., :1], bits=16, photometric=3),
        "a larger image": tiffs.tiff(
            DEEP[..., :1],
            bits=16,
            compression=34712,
            encode=lambda _: imagecodecs.jpeg2k_encode(np.zeros((999, 999), np.uint16), level=0),
        ),
        "a count of 2^60": with_count(plain, at, 2**32 - 1),
    }


def with_count(plain: bytearray, at: int, count: int) -> bytes:
    """All tags claim that many values."""
    data = bytearray(plain)
    for entry in range(struct.unpack_from("<H", data, at)[0]):
        struct.pack_into("<L", data, at + 2 + 12 * entry + 4, count)
    return bytes(data)


CHECKED = """
import resource, sys
from clipsearch.errors import ImageError
from clipsearch.images.open import open_image
from clipsearch.types import Preprocess
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
resource.setrlimit(resource.RLIMIT_DATA, (800_000_000, 800_000_000))
for path in sys.argv[1:]:
    for truncated in (False, True):
        try:
            open_image(open(path, "rb").read(), max_pixels=10_000_000, truncated=truncated).pixels(Preprocess(size=32))
        except ImageError:
            pass
"""


def test_hostile_files_give_errors_of_ours_soon_in_little_memory_and_silence(tmp_path: Path) -> None:
    """Among them files changed at random, most in their tags; and damaged ones, of which libtiff would write a line."""
    files = hostile()
    random_numbers = random.Random(11)
    bases = [
        tiffs.tiff(DEEP, bits=16, planar=2, compression=8),
        tiffs.tiff(DEEP, bits=16, tile=16, order=">"),
        tiffs.tiff(BYTES, compression=5, compress=imagecodecs.lzw_encode, rows=5),
        tiffs.tiff(BYTES, compression=50001, encode=imagecodecs.webp_encode),
        tiffs.tiff(PICTURE, bits=32, form=3, compression=8, predictor=3, big=True),
        tiffs.tiff(whole(PICTURE, 12, 1), bits=12, compression=8),
    ]
    for number in range(300):
        files[f"changed {number}"] = changed(bases[number % len(bases)], random_numbers)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    paths = [str(tmp_path / name) for name in files]
    done = subprocess.run([sys.executable, "-c", CHECKED, *paths], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def changed(data: bytes, numbers: random.Random) -> bytes:
    out = bytearray(data)
    big = 43 in out[2:4]
    (at,) = struct.unpack_from(("<" if out[:1] == b"I" else ">") + ("Q" if big else "L"), out, 8 if big else 4)
    for _ in range(numbers.choice((1, 1, 2, 5))):
        place = numbers.randrange(at, len(out)) if numbers.random() < 0.7 else numbers.randrange(len(out))
        out[place] = numbers.choice((0, 1, 2, 7, 127, 255, numbers.randrange(256)))
    return bytes(out)


def test_libtiff_writes_nothing_to_the_terminal(tmp_path: Path) -> None:
    """Pillow's own reader shows that libtiff would."""
    damaged = tmp_path / "damaged.tif"
    damaged.write_bytes(tiffs.tiff(BYTES, compression=8, compress=lambda data: b"damaged" + zlib.compress(data)))
    loud = "from PIL import Image; import sys\ntry: Image.open(sys.argv[1]).load()\nexcept OSError: pass"
    for script, expected in ((loud, True), (CHECKED, False)):
        done = subprocess.run([sys.executable, "-c", script, str(damaged)], capture_output=True, text=True, check=True)
        assert bool(done.stderr) == expected, done.stderr


def test_a_file_that_pillow_decodes_does_not_import_tifffile(tmp_path: Path) -> None:
    plain = tmp_path / "plain.tif"
    plain.write_bytes(tiffs.tiff(BYTES))
    script = CHECKED + "assert not {'tifffile', 'imagecodecs'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script, str(plain)], check=True)


def test_the_limit_of_pixels_holds() -> None:
    for data in (tiffs.tiff(DEEP, bits=16, planar=2), tiffs.tiff(BYTES)):
        with pytest.raises(ImageError, match="max_pixels"):
            open_image(data, max_pixels=WIDTH * HEIGHT - 1).pixels(Preprocess(size=32))
        open_image(data, max_pixels=WIDTH * HEIGHT).pixels(Preprocess(size=32))
