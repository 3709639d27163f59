"""Makes the library that tests of an update begin with: version 0.1.0's, of pictures that it partly read wrongly.

Run by hand, in `tests/`, with that version installed: `python -m older.make` writes `older/catalog.db.xz`. The pictures
are those of the golden set (`data/`), as they were then, and two that are made here.
"""

from __future__ import annotations

import lzma
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from clipsearch import Library

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
CATALOG = Path(__file__).parent / "catalog.db.xz"

BLANK, CUT = "one-colour.ppm", "cut.jpg"
CORRECT = [
    *("hills-exif-1.jpg", "hills-exif-6.png", "hills-exif-8.tif", "coast.png", "coast-cmyk.tif", "cliff-rgba.png"),
    *("cliff-palette.png", "harbour-display-p3.jpg", "garden-animated.gif", "garden.bmp", "meadow-grey-16.png"),
    *("meadow-grey-16.tif", "ruin-short-phys.png", BLANK, CUT),
]
"""Decoded rightly by version 0.1.0, which took the one with the short pHYs chunk for truncated, and knew no blanks."""
WRONG = [
    *("ruin-zero-alpha.png", "ruin-blank-first.webp", "ruin-blank-first.png", "ruin-rgba-16.jp2"),
    "ruin-turn-in-a-byte.jpg",
]
"""Indexed by version 0.1.0 with the pixels of something else."""
REFUSED = ["ruin-long-text.png", "ruin-profile-checksum.png"]
"""Not decoded by version 0.1.0."""


def draw(folder: Path) -> None:
    """The pictures, with one time for all."""
    folder.mkdir(parents=True)
    for name in {*CORRECT, *WRONG, *REFUSED} - {BLANK, CUT}:
        shutil.copyfile(GOLDEN / name, folder / name)
    (folder / BLANK).write_bytes(b"P6 192 128 255\n" + bytes([200, 30, 30]) * 192 * 128)
    whole = (GOLDEN / "harbour-display-p3.jpg").read_bytes()
    (folder / CUT).write_bytes(whole[: len(whole) * 3 // 4])
    for path in folder.iterdir():
        os.utime(path, ns=(10**18, 10**18))


def unpacked(base: Path) -> Path:
    """The library in the folder `base`, beside `photos`; its folder."""
    draw(base / "photos")
    folder = base / "index"
    folder.mkdir()
    (folder / "catalog.db").write_bytes(lzma.decompress(CATALOG.read_bytes()))
    conn = sqlite3.connect(folder / "catalog.db")
    ((was,),) = conn.execute("SELECT path FROM roots")
    now = os.fsencode(base / "photos")
    for table in ("roots", "files"):
        conn.execute(f"UPDATE {table} SET path = CAST(replace(path, ?, ?) AS BLOB)", (was, now))
    conn.commit()
    conn.close()
    return folder


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name).resolve()
        draw(base / "photos")
        with Library.create(base / "index", model="builtin") as library:
            library.index([base / "photos"])
        conn = sqlite3.connect(base / "index" / "catalog.db")
        conn.execute("DELETE FROM snapshots")
        conn.commit()
        conn.execute("PRAGMA journal_mode = DELETE")
        conn.close()
        CATALOG.write_bytes(lzma.compress((base / "index" / "catalog.db").read_bytes(), preset=9))


if __name__ == "__main__":
    main()
