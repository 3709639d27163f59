"""Draw the golden set: `python data/draw.py [FOLDER]` writes every picture and `golden.json`, the list of pairs.

Needs numpy, Pillow, imagecodecs and pillow-jxl-plugin. The HEIC pictures need `pillow-heif`, which has an encoder, and
stay as they are without it.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_jxl  # noqa: F401 - registers JPEG XL with Pillow
import profiles
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageDraw

WIDTH, HEIGHT = 192, 128
EXACT, ROUNDED, CONVERTED, LOSSY = (0.0, 0), (0.3, 2), (0.6, 8), (2.0, 16)
"""Largest mean and largest single difference from the twin, of 255, in pixels prepared at 64 px.

CONVERTED: through 8 bits in another colour space. LOSSY: through JPEG, AVIF or HEVC.
"""

Floats = NDArray[np.float64]


def noise(rng: np.random.Generator) -> Floats:
    """Clouds of shape (HEIGHT, WIDTH), 0 … 1: octaves of smoothed noise, as grain and foliage have them."""
    total = np.zeros((HEIGHT, WIDTH))
    for octave in range(2, 7):
        grid = rng.random((2**octave, 2**octave)).astype(np.float32)
        total += np.asarray(Image.fromarray(grid).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)) / 1.6**octave
    return np.asarray((total - total.min()) / np.ptp(total))


def muted(rng: np.random.Generator) -> Floats:
    colour = rng.random(3) * 0.8 + 0.1
    return np.asarray(0.6 * colour + 0.4 * colour.mean())


def scene(seed: int) -> Floats:
    """A landscape of shape (HEIGHT, WIDTH, 3), 0 … 1: sky, sun, two ranges of hills, a house, trees; no symmetry."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / (HEIGHT, WIDTH)[0]
    sky, haze, near, far = (muted(rng) for _ in range(4))
    picture = sky + (haze - sky) * y[..., None] + 0.12 * (noise(rng)[..., None] - 0.5)
    sun = np.exp(-((x - rng.uniform(0.2, 1.3)) ** 2 + (y - rng.uniform(0.1, 0.4)) ** 2) / 0.006)
    picture += sun[..., None] * (np.array([1, 0.9, 0.6]) - picture)
    for height, colour in ((0.55, far), (0.75, near)):
        ridge = height + 0.1 * np.sin(x * rng.uniform(3, 9) + rng.uniform(0, 6)) + 0.06 * (noise(rng) - 0.5)
        picture = np.where((y > ridge)[..., None], colour * (0.55 + 0.8 * noise(rng)[..., None]), picture)
    image = Image.fromarray(to_bytes(picture))
    draw = ImageDraw.Draw(image)
    left, top = int(rng.integers(15, 130)), int(rng.integers(60, 85))
    wall, roof = (tuple(int(255 * value) for value in muted(rng)) for _ in range(2))
    draw.rectangle((left, top, left + 34, top + 24), wall)
    draw.polygon(((left - 5, top), (left + 17, top - 16), (left + 39, top)), roof)
    draw.rectangle((left + 6, top + 8, left + 13, top + 24), (40, 25, 20))
    for _ in range(4):
        at, foot = int(rng.integers(0, WIDTH)), int(rng.integers(90, 120))
        draw.ellipse((at - 7, foot - 26, at + 7, foot - 6), (30, int(rng.integers(60, 140)), 35))
        draw.rectangle((at - 1, foot - 8, at + 1, foot), (80, 50, 30))
    return np.asarray(image) / 255.0 * 0.97 + 0.03 * noise(rng)[..., None]


def to_bytes(values: Floats) -> NDArray[np.uint8]:
    return np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))


def png(
    width: int, height: int, depth: int, colour: int, rows: NDArray[np.generic], *extra: tuple[bytes, bytes]
) -> bytes:
    """A PNG of any depth and colour type, written by hand; `extra` chunks come behind the pixels."""
    packed = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = (b"IHDR", head), (b"IDAT", zlib.compress(packed, 9)), *extra, (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in chunks)


def tiff(*pages: tuple[NDArray[np.generic], int, dict[int, tuple[int, int]]]) -> bytes:
    """A TIFF of uncompressed pages, written by hand: samples of shape (h, w, n), photometric interpretation, more tags.

    Tags are by number, as (type, value); samples are stored plane by plane where tag 284 is 2 (TIFF 6.0).
    """
    out = bytearray(b"II*\0\0\0\0\0")
    link = 4
    for samples, photometric, more in pages:
        height, width, count = samples.shape
        planes = [samples[..., i].tobytes() for i in range(count)] if more.get(284) == (3, 2) else [samples.tobytes()]
        lists = {273: [], 279: [], 258: [more.get(258, (3, 8 * samples.itemsize))[1]] * count}
        for plane in planes:
            lists[273].append(len(out))
            lists[279].append(len(plane))
            out += plane + b"\0" * (len(plane) % 2)
        tags = {
            256: (4, width),
            257: (4, height),
            259: (3, 1),
            262: (3, photometric),
            277: (3, count),
            278: (4, height),
        }
        entries = {**{tag: (*pair, 1) for tag, pair in (tags | more).items()}}
        for tag, values in lists.items():
            entries[tag] = (4, len(out) if len(values) > 1 else values[0], len(values))
            if len(values) > 1:
                out += struct.pack(f"<{len(values)}L", *values)
        struct.pack_into("<L", out, link, len(out))
        out += struct.pack("<H", len(entries))
        for tag, (kind, value, number) in sorted(entries.items()):
            out += struct.pack("<HHLL", tag, kind, number, value)
        link = len(out)
        out += bytes(4)
    return bytes(out)


def turned(image: Image.Image, orientation: int) -> tuple[Image.Image, bytes]:
    """How a camera held that way stores the picture, and the EXIF that says so."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # numbers of Image.Transpose
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = image.transpose(Image.Transpose(undo[orientation])) if orientation in undo else image
    return stored, exif.tobytes()


def in_space(values: Floats, primaries: tuple[tuple[float, float], ...], encode: Callable[[Floats], Floats]) -> Floats:
    """sRGB values as coded values of a larger colour space."""
    light = profiles.linear(values) @ profiles.to_xyz(profiles.SRGB).T @ np.linalg.inv(profiles.to_xyz(primaries)).T
    return encode(np.clip(light, 0, 1))


def srgb_coded(light: Floats) -> Floats:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def inks(values: Floats, power: float = 1.0) -> NDArray[np.uint8]:
    """CMYK of shape (h, w, 4) that prints as `values`, half of the grey in black."""
    wanted = values ** (1 / power)
    black = 0.5 * (1 - wanted.max(axis=-1, keepdims=True))
    return to_bytes(np.concatenate([1 - wanted / (1 - black), black], axis=-1))


def ycck(image: Image.Image) -> bytes:
    """A CMYK JPEG whose first three channels are YCbCr, which only its Adobe marker says (transform 2)."""
    inverted = Image.eval(image, lambda value: 255 - value)
    y, cb, cr = (Image.eval(band, lambda value: 255 - value) for band in inverted.convert("YCbCr").split())
    plain = saved(Image.merge("CMYK", (y, cb, cr, Image.new("L", image.size, 0))), "JPEG", quality=95)
    at = plain.index(b"Adobe") + 11
    return plain[:at] + b"\x02" + plain[at + 1 :]


class Golden:
    """The set being drawn: files by name, and pairs of a file with its plain twin."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.pairs: list[dict[str, object]] = []

    def plain(self, name: str, image: Image.Image) -> str:
        self.files[name] = saved(image, "PNG", optimize=True)
        return name

    def pair(self, name: str, twin: str, tolerance: tuple[float, int], data: bytes | None) -> None:
        if data is not None:
            self.files[name] = data
        self.pairs.append({"file": name, "twin": twin, "mean": tolerance[0], "max": tolerance[1]})


def draw_turned(golden: Golden) -> None:
    image = Image.fromarray(to_bytes(scene(1)))
    twin = golden.plain("hills.png", image)
    for orientation in range(1, 9):
        stored, exif = turned(image, orientation)
        jpeg = saved(stored, "JPEG", quality=93, subsampling=0, exif=exif)
        golden.pair(f"hills-exif-{orientation}.jpg", twin, LOSSY, jpeg)
    for orientation in (5, 8):
        stored, exif = turned(image, orientation)
        golden.pair(f"hills-exif-{orientation}.webp", twin, EXACT, saved(stored, "WEBP", lossless=True, exif=exif))
        golden.pair(
            f"hills-exif-{orientation}.tif", twin, EXACT, saved(stored, "TIFF", exif=exif, compression="tiff_lzw")
        )
    stored, exif = turned(image, 6)
    golden.pair("hills-exif-6.png", twin, EXACT, saved(stored, "PNG", exif=exif))
    stored, exif = turned(image, 7)
    late = (b"eXIf", exif.removeprefix(b"Exif\0\0"))
    golden.pair("hills-exif-7-late.png", twin, EXACT, png(*stored.size, 8, 2, np.asarray(stored), late))


def draw_printed(golden: Golden) -> None:
    values = scene(2)
    twin = golden.plain("coast.png", Image.fromarray(to_bytes(values)))
    plain, printed = (Image.fromarray(inks(values, power), "CMYK") for power in (1.0, profiles.INK_POWER))
    golden.pair("coast-cmyk.jpg", twin, LOSSY, saved(plain, "JPEG", quality=93))
    golden.pair("coast-cmyk.tif", twin, CONVERTED, saved(plain, "TIFF", compression="tiff_lzw"))
    golden.pair("coast-ycck.jpg", twin, LOSSY, ycck(Image.fromarray(to_bytes(values))))
    icc = profiles.cmyk_profile()
    golden.pair("coast-cmyk-profile.jpg", twin, LOSSY, saved(printed, "JPEG", quality=93, icc_profile=icc))


def draw_deep(golden: Golden) -> None:
    values = scene(3)
    grey = values @ np.array([0.299, 0.587, 0.114])
    twin = golden.plain("meadow-grey.png", Image.fromarray(to_bytes(grey)))
    deep = np.rint(grey * 65535).astype(np.uint16)
    golden.pair("meadow-grey-16.png", twin, EXACT, png(WIDTH, HEIGHT, 16, 0, deep.astype(">u2")))
    golden.pair("meadow-grey-16.tif", twin, EXACT, saved(Image.fromarray(deep), "TIFF", compression="tiff_lzw"))
    single = Image.fromarray(grey.astype(np.float32))
    golden.pair("meadow-float.tif", twin, ROUNDED, saved(single, "TIFF", compression="tiff_adobe_deflate"))
    twin = golden.plain("meadow.png", Image.fromarray(to_bytes(values)))
    deep = np.rint(values * 65535).astype(">u2")
    golden.pair("meadow-rgb-16.png", twin, ROUNDED, png(WIDTH, HEIGHT, 16, 2, deep))
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(Image.fromarray(to_bytes(values)), to_lab)
    assert lab is not None
    golden.pair("meadow-lab.tif", twin, CONVERTED, saved(lab, "TIFF", compression="tiff_lzw"))


def draw_transparent(golden: Golden) -> None:
    values = scene(4)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    alpha = np.clip(1.6 - np.hypot((x - 100) / 90, (y - 60) / 60), 0, 1)[..., None]
    alpha = np.rint(alpha * 255) / 255
    seen = to_bytes(values)
    twin = golden.plain("cliff-on-white.png", Image.fromarray(to_bytes(seen / 255 * alpha + 1 - alpha)))
    rgba = Image.fromarray(np.concatenate([seen, to_bytes(alpha)], axis=-1))
    golden.pair("cliff-rgba.png", twin, EXACT, saved(rgba, "PNG"))
    golden.pair("cliff-rgba.webp", twin, EXACT, saved(rgba, "WEBP", lossless=True, exact=True))
    grey = np.asarray(Image.fromarray(seen).convert("L"))[..., None]
    twin = golden.plain("cliff-grey-on-white.png", Image.fromarray(to_bytes(grey / 255 * alpha + 1 - alpha)[..., 0]))
    pair = np.concatenate([grey, to_bytes(alpha)], axis=-1)
    golden.pair("cliff-la.png", twin, EXACT, png(WIDTH, HEIGHT, 8, 4, pair))
    few = Image.fromarray(seen).quantize(200)
    hole = np.hypot((x - 100) / 90, (y - 60) / 60) > 1
    flat = np.where(hole[..., None], 255, np.asarray(few.convert("RGB")))
    twin = golden.plain("cliff-palette-on-white.png", Image.fromarray(flat.astype(np.uint8)))
    indexed = Image.fromarray(np.where(hole, 255, np.asarray(few)).astype(np.uint8))
    indexed.putpalette(few.getpalette()[:600] + [255, 0, 255] * 56)  # type: ignore[index]
    golden.pair("cliff-palette.png", twin, EXACT, saved(indexed, "PNG", transparency=255))


def draw_profiled(golden: Golden) -> None:
    values = scene(5)
    twin = golden.plain("harbour.png", Image.fromarray(to_bytes(values)))
    p3 = Image.fromarray(to_bytes(in_space(values, profiles.DISPLAY_P3, srgb_coded)))
    icc = profiles.rgb_profile("Display P3", profiles.DISPLAY_P3, profiles.SRGB_CURVE)
    golden.pair("harbour-display-p3.png", twin, CONVERTED, saved(p3, "PNG", icc_profile=icc))
    golden.pair("harbour-display-p3.jpg", twin, LOSSY, saved(p3, "JPEG", quality=93, subsampling=0, icc_profile=icc))
    adobe = in_space(values, profiles.ADOBE_RGB, lambda light: np.asarray(light ** (1 / profiles.ADOBE_CURVE[0])))
    icc = profiles.rgb_profile("Adobe RGB", profiles.ADOBE_RGB, profiles.ADOBE_CURVE)
    golden.pair("harbour-adobe.png", twin, CONVERTED, saved(Image.fromarray(to_bytes(adobe)), "PNG", icc_profile=icc))
    broken = b"\0\0\1\0" + bytes(range(124)) + b"no profile"
    golden.pair(
        "harbour-broken-profile.png", twin, EXACT, saved(Image.fromarray(to_bytes(values)), "PNG", icc_profile=broken)
    )


def draw_others(golden: Golden) -> None:
    image, other = (Image.fromarray(to_bytes(scene(seed))) for seed in (6, 7))
    few = image.quantize(128)
    twin = golden.plain("garden-palette.png", few.convert("RGB"))
    moving = saved(few, "GIF", save_all=True, append_images=[other.quantize(128)], duration=100, loop=0)
    golden.pair("garden-animated.gif", twin, EXACT, moving)
    twin = golden.plain("garden.png", image)
    moving = saved(image, "WEBP", save_all=True, append_images=[other], duration=100, lossless=True)
    golden.pair("garden-animated.webp", twin, EXACT, moving)
    golden.pair("garden.tif", twin, EXACT, saved(image, "TIFF", compression="tiff_lzw"))
    golden.pair("garden.bmp", twin, EXACT, saved(image, "BMP"))
    golden.pair("garden-really-png.jpg", twin, EXACT, saved(image, "PNG"))
    golden.pair("garden.jp2", twin, EXACT, saved(image, "JPEG2000", irreversible=False))
    golden.pair("garden.avif", twin, LOSSY, saved(image, "AVIF", quality=90, subsampling="4:4:4"))
    golden.pair(
        "garden-with-map.jpg",
        twin,
        LOSSY,
        saved(image, "MPO", save_all=True, append_images=[other], quality=93, subsampling=0),
    )


def draw_tiffs(golden: Golden) -> None:
    values = scene(9)[::2, ::2]
    grey = (values @ np.array([0.299, 0.587, 0.114]))[..., None]
    twin = golden.plain("orchard.png", Image.fromarray(to_bytes(values)))
    grey_twin = golden.plain("orchard-grey.png", Image.fromarray(to_bytes(grey)[..., 0]))
    deep, deep_grey = (np.rint(part * 65535).astype("<u2") for part in (values, grey))
    golden.pair("orchard-planes-16.tif", twin, ROUNDED, tiff((deep, 2, {284: (3, 2)})))
    golden.pair("orchard-white-is-zero-16.tif", grey_twin, ROUNDED, tiff((65535 - deep_grey, 0, {})))
    pairs = np.rint(grey * 4095).astype(np.uint32)[..., 0].reshape(len(grey), -1, 2)
    joined = pairs[..., 0] << 12 | pairs[..., 1]
    packed = np.stack([joined >> 16, joined >> 8 & 255, joined & 255], axis=-1).astype(np.uint8)
    twelve = tiff((packed.reshape(len(grey), -1, 1), 1, {256: (4, grey.shape[1]), 258: (3, 12)}))
    golden.pair("orchard-grey-12.tif", grey_twin, ROUNDED, twelve)
    whole = np.rint(grey * (2.0**32 - 1)).astype("<u4")
    golden.pair("orchard-grey-32.tif", grey_twin, ROUNDED, tiff((whole, 1, {})))
    golden.pair("orchard-half.tif", grey_twin, ROUNDED, tiff((grey.astype("<f2"), 1, {339: (3, 3)})))
    alpha = np.linspace(0, 1, grey.shape[1])[None, :, None] * np.ones_like(grey)
    on_white = golden.plain("orchard-on-white.png", Image.fromarray(to_bytes(grey * alpha + 1 - alpha)[..., 0]))
    both = np.rint(np.concatenate([grey, alpha], axis=-1) * 65535).astype("<u2")
    golden.pair("orchard-grey-alpha-16.tif", on_white, ROUNDED, tiff((both, 1, {338: (3, 2)})))
    small = (255 - to_bytes(values)[::4, ::4], 2, {254: (4, 1)})
    golden.pair("orchard-thumbnail-first.tif", twin, EXACT, tiff(small, (to_bytes(values), 2, {})))
    stored = np.rot90(to_bytes(values)).copy()
    golden.pair("orchard-turned-by-a-byte.tif", twin, EXACT, tiff((stored, 2, {274: (1, 6)})))


def draw_heic(golden: Golden) -> None:
    try:
        import pillow_heif
    except ImportError:
        pillow_heif = None
    image = Image.fromarray(to_bytes(scene(8)))
    twin = golden.plain("valley.png", image)
    for name, orientation in (("valley.heic", 1), ("valley-exif-6.heic", 6)):
        data = None
        if pillow_heif is not None:
            stored, exif = turned(image, orientation)
            stream = io.BytesIO()
            pillow_heif.from_pillow(stored).save(stream, quality=90, chroma=444, exif=exif)
            data = stream.getvalue()
        golden.pair(name, twin, LOSSY, data)


def draw_odd(golden: Golden) -> None:
    """What decoders refuse although the pixels are sound, or make a blank of."""
    image = Image.fromarray(to_bytes(scene(9)))
    twin = golden.plain("ruin.png", image)
    width, height = image.size
    hidden = image.copy()
    hidden.putalpha(0)
    golden.pair("ruin-zero-alpha.png", twin, EXACT, saved(hidden, "PNG"))
    white = Image.new("RGB", image.size, "white")
    moving = {"save_all": True, "append_images": [image], "duration": 100}
    golden.pair("ruin-blank-first.webp", twin, EXACT, saved(white, "WEBP", lossless=True, **moving))
    golden.pair("ruin-blank-first.png", twin, EXACT, saved(white, "PNG", **moving))
    deep = np.concatenate([np.asarray(image), np.full((height, width, 1), 255, np.uint8)], axis=-1).astype(np.uint16)
    golden.pair("ruin-rgba-16.jp2", twin, ROUNDED, imagecodecs.jpeg2k_encode(deep * 257, level=0, reversible=True))
    golden.pair("ruin.jxl", twin, EXACT, saved(image, "JXL", lossless=True))
    icc = profiles.rgb_profile("Display P3", profiles.DISPLAY_P3, profiles.SRGB_CURVE)
    p3 = Image.fromarray(to_bytes(in_space(scene(9), profiles.DISPLAY_P3, srgb_coded)))
    damaged = bytearray(saved(p3, "PNG", icc_profile=icc))
    at = damaged.index(b"iCCP")
    damaged[at + 4 + struct.unpack_from(">L", damaged, at - 4)[0]] ^= 0xFF
    golden.pair("ruin-profile-checksum.png", twin, CONVERTED, bytes(damaged))
    for file, name, data in (
        ("ruin-long-text.png", b"zTXt", b"Comment\0\0" + zlib.compress(b"A" * 2**21)),
        ("ruin-short-phys.png", b"pHYs", b"\0\0\x0b\x13"),
    ):
        plain = saved(image, "PNG")
        golden.pair(file, twin, EXACT, plain[:33] + chunk(name, data) + plain[33:])
    stored, exif = turned(image, 6)
    as_byte = exif.replace(b"\x12\x01\x03\0\x01\0\0\0\x06\0", b"\x12\x01\x01\0\x01\0\0\0\x06\0")
    as_byte = as_byte.replace(b"\x01\x12\0\x03\0\0\0\x01\0\x06", b"\x01\x12\0\x01\0\0\0\x01\x06\0")
    assert as_byte != exif
    golden.pair("ruin-turn-in-a-byte.jpg", twin, LOSSY, saved(stored, "JPEG", quality=93, subsampling=0, exif=as_byte))


def main(folder: Path) -> None:
    golden = Golden()
    for part in (
        draw_turned,
        draw_printed,
        draw_deep,
        draw_transparent,
        draw_profiled,
        draw_others,
        draw_tiffs,
        draw_heic,
        draw_odd,
    ):
        part(golden)
    (folder / "golden").mkdir(parents=True, exist_ok=True)
    for name, data in golden.files.items():
        (folder / "golden" / name).write_bytes(data)
    (folder / "golden.json").write_text(json.dumps(golden.pairs, indent=1) + "\n", encoding="utf-8")
    print(f"{len(golden.files)} files, {sum(map(len, golden.files.values())) / 1e6:.2f} MB, {len(golden.pairs)} pairs")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
