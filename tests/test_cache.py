"""The query cache: what it keeps, and that nothing wrong with it ever costs an answer."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from clipsearch.catalog.cache import CACHE_NAME, QueryCache

ONE = np.ones(1, np.float32)


def test_texts_are_kept_by_encoder(tmp_path: Path) -> None:
    cache = QueryCache(tmp_path)
    cache.put_texts("one", {"a cat": np.array([1, 2]), "a dog": np.array([3, 4])}, now=1)
    cache.close()
    again = QueryCache(tmp_path)
    [(text, vector)] = again.texts("one", ["a cat", "a bird"], dim=2).items()
    assert text == "a cat" and vector.tolist() == [1, 2]
    assert again.texts("one", ["a cat"], dim=3) == {}, "of another length"
    assert again.texts("two", ["a cat"], dim=2) == {}
    again.close()


def test_the_oldest_texts_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipsearch.catalog.cache.MAX_TEXTS", 3)
    cache = QueryCache(tmp_path)
    for i in range(6):
        cache.put_texts("one", {str(i): ONE}, now=i)
    kept = cache.texts("one", [str(i) for i in range(6)], dim=1)
    assert set(kept) == {"3", "4", "5"}
    cache.close()


def test_the_oldest_prototypes_go_at_the_end_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipsearch.catalog.cache.MAX_PROTOTYPES", 3)
    cache = QueryCache(tmp_path)
    keys = [b"%d" % i for i in range(6)]
    for i, key in enumerate(keys):
        cache.put_prototypes("one", {key: ONE}, now=i // 5)  # Five of them in one second.
    assert set(cache.prototypes("one", keys, dim=1)) == set(keys)
    cache.trim_prototypes("one")
    assert len(cache.prototypes("one", keys, dim=1)) == 3 and cache.prototypes("one", keys[-1:], dim=1)
    cache.close()


def test_a_damaged_or_busy_cache_is_done_without(tmp_path: Path) -> None:
    (tmp_path / CACHE_NAME).write_bytes(b"not a database" * 100)
    damaged = QueryCache(tmp_path)
    damaged.put_texts("one", {"a": ONE}, now=1)
    assert damaged.texts("one", ["a"], dim=1) == {}
    damaged.close()
    (tmp_path / CACHE_NAME).unlink()
    QueryCache(tmp_path).close()
    other = sqlite3.connect(tmp_path / CACHE_NAME)
    other.execute("BEGIN EXCLUSIVE")
    busy = QueryCache(tmp_path)
    busy.put_texts("one", {"a": ONE}, now=1)
    assert busy.texts("one", ["a"], dim=1) == {}
    busy.close()
    other.close()
