"""Fill rclip's database with random unit vectors, by its own class; run by the Python of rclip's environment.

fill_rclip.py FOLDER N     N made-up paths below FOLDER, or with N = 0 the files that are in it
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rclip.db import DB  # type: ignore[import-not-found]
from rclip.utils.helpers import compute_file_hash, get_app_datadir  # type: ignore[import-not-found]

DIM = 512


def main() -> None:
    folder, count = os.path.realpath(sys.argv[1]), int(sys.argv[2])
    random = np.random.default_rng(0)
    database = DB(get_app_datadir() / "db.sqlite3")
    for row in made_up(folder, count) if count else real(folder):
        vector = random.standard_normal(DIM, dtype=np.float32)
        database.upsert_image({**row, "vector": (vector / np.linalg.norm(vector)).tobytes()}, commit=False)
    database.close()


def made_up(folder: str, count: int) -> Iterator[dict[str, Any]]:
    for i in range(count):
        path = f"{folder}/{i // 1000:04d}/picture-{i:07d}.jpg"
        yield {"filepath": path, "modified_at": 1.7e9 + i, "size": 100_000, "hash": f"{i:064x}"}


def real(folder: str) -> Iterator[dict[str, Any]]:
    for path in sorted(Path(folder).rglob("*.jpg")):
        about = path.stat()
        digest = compute_file_hash(str(path))
        yield {"filepath": str(path), "modified_at": about.st_mtime, "size": about.st_size, "hash": digest}


if __name__ == "__main__":
    main()
