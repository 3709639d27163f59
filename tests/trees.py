"""Folders as they come from a network drive, a phone, Google Takeout and Lightroom, and what is to be found in them.

Each function fills a folder and returns the images that a library should have of it, by their paths in the folder.
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from helpers import age
from PIL import Image
from test_raws import dng

from clipsearch.images.open import open_image

GOLDEN = Path(__file__).parents[1] / "data" / "golden"

SHOT = "2021:05:03 14:02:11"
APPLE_DOUBLE = bytes.fromhex("00051607 00020000") + b"Mac OS X        " + bytes(64)


@dataclass(frozen=True)
class Expected:
    """An image: its date with its source, its place, and what was written about it. `hit`: the path it is found by."""

    taken: tuple[str, str] | None = None
    place: tuple[float, float, str] | None = None
    caption: str | None = None
    keywords: tuple[str, ...] = ()
    rating: int | None = None
    hit: str | None = None


Tree = dict[str, Expected]


def picture(path: Path) -> Image.Image:
    """A picture of its own for each path."""
    rng = random.Random("/".join(path.parts[-4:]))
    return Image.frombytes("RGB", (4, 4), rng.randbytes(48)).resize((24, 24), Image.Resampling.NEAREST)


def put(
    path: Path,
    shown: Image.Image | None = None,
    *,
    taken: str = "",
    fraction: str = "",
    gps: tuple[float, float] | None = None,
    xmp: str = "",
    modified: str = "",
) -> Path:
    """Write a picture as JPEG, or as what its suffix says, with an EXIF date, place and XMP properties."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Model 1"
    if modified:
        exif[0x0132] = modified
    if taken:
        exif.get_ifd(0x8769)[0x9003] = taken
    if fraction:
        exif.get_ifd(0x8769)[0x9291] = fraction
    if gps:
        exif.get_ifd(0x8825).update({1: "N", 2: (gps[0], 0.0, 0.0), 3: "E", 4: (gps[1], 0.0, 0.0)})
    shown = shown or picture(path)
    about = {"xmp": packet(xmp).encode()} if xmp else {}
    shown.save(path, exif=exif.tobytes(), quality=95, **about)
    return age(path)


def packet(properties: str) -> str:
    """An XMP packet with attributes of rdf:Description in it, and elements after a `>`."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/" {properties}</rdf:Description></rdf:RDF></x:xmpmeta>'
    )


def words(caption: str, *keywords: str) -> str:
    """XMP elements with a caption and keywords; they end the attributes of the description."""
    bag = "".join(f"<rdf:li>{word}</rdf:li>" for word in keywords)
    return (
        f'><dc:description><rdf:Alt><rdf:li xml:lang="x-default">{caption}</rdf:li></rdf:Alt></dc:description>'
        f"<dc:subject><rdf:Bag>{bag}</rdf:Bag></dc:subject>"
    )


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return age(path)


def nas(folder: Path) -> Tree:
    """A network drive on which several computers and the drive's own software have left what is theirs."""
    put(folder / "2019" / "beach.jpg", taken="2019:08:01 10:00:00", gps=(48, 2))
    put(folder / "2019" / "LAKE.JPEG")
    own = "Photos Library.photoslibrary"
    put(folder / own / "originals" / "A" / "A1.jpg")
    put(folder / "Old.photoslibrary" / "Masters" / "2015" / "m.jpg")
    for place in (
        "2019/@eaDir/beach.jpg/SYNOPHOTO_THUMB_XL.jpg",
        "#recycle/old.jpg",
        "@Recycle/old.jpg",
        "2019/.@__thumb/s100beach.jpg",
        "$RECYCLE.BIN/S-1-5-21/$R1.jpg",
        "System Volume Information/x.jpg",
        "lost+found/1234.jpg",
        ".Trash-1000/files/t.jpg",
        "__MACOSX/2019/beach.jpg",
        f"{own}/resources/derivatives/A/A1_1_105_c.jpeg",
        "Old.photoslibrary/Thumbnails/2015/m.jpg",
        "Catalog Previews.lrdata/A/B/C.jpg",
        "2019/CaptureOne/Cache/Thumbnails/beach.jpg",
    ):
        put(folder / place)
    write(folder / "2019" / "._beach.jpg", APPLE_DOUBLE)
    write(folder / "2019" / "cloud.jpg", b"")
    write(folder / "2019" / "notes.txt", "notes")
    return {
        "2019/beach.jpg": Expected(("2019-08-01T10:00:00", "exif"), (48, 2, "exif")),
        "2019/LAKE.JPEG": Expected(),
        f"{own}/originals/A/A1.jpg": Expected(),
        "Old.photoslibrary/Masters/2015/m.jpg": Expected(),
    }


def phone(folder: Path) -> Tree:
    """A phone's memory: camera, messengers, screenshots, an iPhone's pairs, and what is hidden from galleries."""
    camera = folder / "DCIM" / "Camera"
    put(camera / "IMG_20210503_140211.jpg")
    put(camera / "PXL_20210503_120211123.jpg")
    put(camera / "IMG_20210504_090000.jpg", taken=SHOT)
    media = folder / "Android" / "media" / "com.whatsapp"
    put(media / "WhatsApp Images" / "IMG-20210503-WA0001.jpg")
    put(media / "WhatsApp Images" / "Sent" / "IMG-20210503-WA0002.jpg")
    write(media / "WhatsApp Images" / "Sent" / ".nomedia", b"")
    put(folder / "Pictures" / "Screenshots" / "Screenshot_20210503-102030.png")
    put(folder / "Download" / "signal-2021-05-03-140211.jpg")
    put(folder / "Download" / "IMG_18500101_000000.jpg")
    apple = folder / "DCIM" / "100APPLE"
    apple.mkdir()
    shutil.copy(GOLDEN / "valley.heic", apple / "IMG_0001.HEIC")
    shown = open_image(age(apple / "IMG_0001.HEIC").read_bytes()).upright()
    write(apple / "IMG_0001.MOV", b"\0\0\0\x14ftypqt  ")
    put(apple / "IMG_E0001.JPG", shown, taken=SHOT)
    put(apple / "IMG_0002.JPG", taken=SHOT, fraction="100")
    put(apple / "IMG_E0002.JPG", taken=SHOT)
    put(folder / ".thumbnails" / "1.jpg")
    name = "name"
    return {
        "DCIM/Camera/IMG_20210503_140211.jpg": Expected(("2021-05-03T14:02:11", name)),
        "DCIM/Camera/PXL_20210503_120211123.jpg": Expected(("2021-05-03T12:02:11.123", name)),
        "DCIM/Camera/IMG_20210504_090000.jpg": Expected(("2021-05-03T14:02:11", "exif")),
        "Android/media/com.whatsapp/WhatsApp Images/IMG-20210503-WA0001.jpg": Expected(("2021-05-03", name)),
        "Pictures/Screenshots/Screenshot_20210503-102030.png": Expected(("2021-05-03T10:20:30", name)),
        "Download/signal-2021-05-03-140211.jpg": Expected(("2021-05-03T14:02:11", name)),
        "Download/IMG_18500101_000000.jpg": Expected(),
        "DCIM/100APPLE/IMG_0001.HEIC": Expected(hit="DCIM/100APPLE/IMG_E0001.JPG"),
        "DCIM/100APPLE/IMG_E0001.JPG": Expected(("2021-05-03T14:02:11", "exif")),
        "DCIM/100APPLE/IMG_0002.JPG": Expected(("2021-05-03T14:02:11.1", "exif")),
        "DCIM/100APPLE/IMG_E0002.JPG": Expected(("2021-05-03T14:02:11", "exif")),
    }


def takeout(folder: Path) -> Tree:
    """An archive of Google Photos, whose dates, places and descriptions are in files beside the images."""
    album = folder / "Takeout" / "Google Photos" / "Photos from 2021"
    long = "A walk along the river with all of our friends from school.jpg"
    put(album / "plain.jpg")
    put(album / "new.jpg")
    put(album / "twice.jpg")
    put(album / "twice(1).jpg")
    put(album / long)
    put(album / "dated.jpg", taken=SHOT, xmp=words("In the file"))
    put(album / "alone.jpg")
    put(album / "broken.jpg")

    def about(name: str, day: int, **more: object) -> None:
        record = {"title": name, "photoTakenTime": {"timestamp": str(1620043331 + 86400 * day)}} | more
        write(album / name, json.dumps(record))

    place = {"latitude": 48.85, "longitude": 2.35, "altitude": 0.0}
    about("plain.jpg.json", 0, geoData=place, description="At the river")
    about("new.jpg.supplemental-metadata.json", 1, geoData={"latitude": 0.0, "longitude": 0.0})
    about("twice.jpg.json", 2)
    about("twice.jpg(1).json", 3)
    about(long[:46] + ".json", 4)
    about("dated.jpg.supplemental-meta.json", 5, description="In the archive", geoData=place)
    write(album / "broken.jpg.json", '{"photoTakenTime": {"timestamp": ' + "[" * 100_000)
    write(album / "metadata.json", json.dumps({"title": "Photos from 2021"}))
    path = "Takeout/Google Photos/Photos from 2021"
    return {
        f"{path}/plain.jpg": Expected(("2021-05-03T12:02:11", "takeout"), (48.85, 2.35, "takeout"), "At the river"),
        f"{path}/new.jpg": Expected(("2021-05-04T12:02:11", "takeout")),
        f"{path}/twice.jpg": Expected(("2021-05-05T12:02:11", "takeout")),
        f"{path}/twice(1).jpg": Expected(("2021-05-06T12:02:11", "takeout")),
        f"{path}/{long}": Expected(("2021-05-07T12:02:11", "takeout")),
        f"{path}/dated.jpg": Expected(("2021-05-03T14:02:11", "exif"), (48.85, 2.35, "takeout"), "In the file"),
        f"{path}/alone.jpg": Expected(),
        f"{path}/broken.jpg": Expected(),
    }


def lightroom(folder: Path) -> Tree:
    """A photographer's folder: raw files with their JPEGs, sidecars, and words in the files."""
    year = folder / "2021"
    year.mkdir(parents=True)
    (year / "DSC1.DNG").write_bytes(dng(preview=None))
    put(year / "DSC1.JPG", open_image(age(year / "DSC1.DNG").read_bytes()).upright(), taken=SHOT)
    write(year / "DSC1.xmp", packet('xmp:Rating="4" exif:DateTimeOriginal="2021-05-03T14:02:11"' + words("Raw", "one")))
    put(year / "DSC2.JPG", taken=SHOT, xmp='xmp:Rating="5"' + words("Sunset over the sea", "sea", "Évian"))
    put(year / "DSC3.JPG", taken=SHOT, xmp=words("Before"))
    corrected = 'photoshop:DateCreated="2020-01-02" exif:GPSLatitude="10,30.0S" exif:GPSLongitude="20,0.0E" '
    write(year / "DSC3.JPG.xmp", packet(corrected + 'xmp:Rating="1"' + words("After", "edited")))
    write(year / "DSC3.xmp", packet('xmp:Rating="2">'))
    put(year / "DSC4.JPG", taken=SHOT)
    write(year / "DSC4.xmp", '<!DOCTYPE x [<!ENTITY a "a">]>' + packet('xmp:Rating="3">'))
    put(year / "DSC5.JPG", modified="2021:05:03 15:00:00")
    put(folder / "Lightroom Catalog Previews.lrdata" / "0" / "1.jpg")
    write(folder / "Lightroom Catalog.lrcat", b"SQLite format 3\0")
    write(folder / ".immichignore", "drafts/\n*.tmp.jpg\n!keep.tmp.jpg\n")
    put(folder / "drafts" / "d.jpg")
    put(folder / "2021" / "x.tmp.jpg")
    put(folder / "2021" / "keep.tmp.jpg")
    shot = ("2021-05-03T14:02:11", "exif")
    return {
        "2021/DSC1.DNG": Expected(("2021-05-03T14:02:11", "sidecar"), None, "Raw", ("one",), 4, hit="2021/DSC1.JPG"),
        "2021/DSC1.JPG": Expected(shot),
        "2021/DSC2.JPG": Expected(shot, None, "Sunset over the sea", ("sea", "Évian"), 5),
        "2021/DSC3.JPG": Expected(("2020-01-02", "sidecar"), (-10.5, 20, "sidecar"), "After", ("edited",), 1),
        "2021/DSC4.JPG": Expected(shot),
        "2021/DSC5.JPG": Expected(("2021-05-03T15:00:00", "modified")),
        "2021/keep.tmp.jpg": Expected(),
    }


TREES = (nas, phone, takeout, lightroom)
