"""The query cache: what it keeps, and that nothing wrong with it ever costs an answer."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from clipsearch.catalog.cache import CACHE_NAME, QueryCache


def test_texts_are_kept_by_encoder(tmp_path: Path) -> None:
    cache = QueryCache(tmp_path)
    cache.put_texts("one", {"a cat": b"1", "a dog": b"2"}, now=1)
    cache.close()
    again = QueryCache(tmp_path)
    assert again.texts("one", ["a cat", "a bird"]) == {"a cat": b"1"}
    assert again.texts("two", ["a cat"]) == {}
    again.close()


def test_the_oldest_texts_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipsearch.catalog.cache.MAX_TEXTS", 3)
    cache = QueryCache(tmp_path)
    for i in range(6):
        cache.put_texts("one", {str(i): b"v"}, now=i)
    kept = cache.texts("one", [str(i) for i in range(6)])
    assert set(kept) == {"3", "4", "5"}
    cache.close()


def test_the_oldest_prototypes_go_at_the_end_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipsearch.catalog.cache.MAX_PROTOTYPES", 3)
    cache = QueryCache(tmp_path)
    keys = [b"%d" % i for i in range(6)]
    for i, key in enumerate(keys):
        cache.put_prototypes("one", {key: b"v"}, now=i // 5)  # Five of them in one second.
    assert set(cache.prototypes("one", keys)) == set(keys)
    cache.trim_prototypes("one")
    assert len(cache.prototypes("one", keys)) == 3 and cache.prototypes("one", keys[-1:])
    cache.close()


def test_a_damaged_or_busy_cache_is_done_without(tmp_path: Path) -> None:
    (tmp_path / CACHE_NAME).write_bytes(b"not a database" * 100)
    damaged = QueryCache(tmp_path)
    damaged.put_texts("one", {"a": b"1"}, now=1)
    assert damaged.texts("one", ["a"]) == {}
    damaged.close()
    (tmp_path / CACHE_NAME).unlink()
    QueryCache(tmp_path).close()
    other = sqlite3.connect(tmp_path / CACHE_NAME)
    other.execute("BEGIN EXCLUSIVE")
    busy = QueryCache(tmp_path)
    busy.put_texts("one", {"a": b"1"}, now=1)
    assert busy.texts("one", ["a"]) == {}
    busy.close()
    other.close()
