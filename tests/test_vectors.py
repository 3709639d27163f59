"""Every engine against numpy's exact answer, and snapshot files that are damaged, cut off, or of something else."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
import toy_engine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipsearch import files
from clipsearch.cli.run import main
from clipsearch.errors import UsageError
from clipsearch.vectors import engines
from clipsearch.vectors.engines import (
    EXACT_LIMIT,
    check_choice,
    choose_engine,
    names,
    open_snapshot,
    write_snapshot,
)
from clipsearch.vectors.exact import ExactIndex, TopK, inner_products, members
from clipsearch.vectors.index import DamagedSnapshot, SnapshotError, SnapshotFile, VectorIndex
from clipsearch.vectors.snapshot_file import publish, remove_strays

ENGINES = ("exact", "ivf", toy_engine.NAME)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """The toy engine, registered for one test."""
    monkeypatch.setattr(engines, "_ENGINES", {**engines._ENGINES})
    toy_engine.register()


def unit_rows(count, dim, *, seed=0, spread=None):
    """Unit vectors, scattered evenly, or by `spread` around 20 centres as real embeddings are."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, dim), dtype=np.float32)
    if spread is not None:
        centres = np.random.default_rng(99).standard_normal((20, dim), dtype=np.float32)
        rows = centres[rng.integers(0, 20, count)] + spread * rows
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def gappy_ids(count, *, seed=0):
    return np.cumsum(np.random.default_rng(seed).integers(1, 9, count)).astype(np.int64)


def in_chunks(ids, vectors, size=700):
    def chunks():
        for start in range(0, len(ids), size):
            yield ids[start : start + size], vectors[start : start + size]

    return chunks


def published(folder, ids, vectors, *, engine="exact", name="one.faiss", **more) -> SnapshotFile:
    return write_snapshot(
        folder, name, dim=vectors.shape[1], count=len(ids), chunks=in_chunks(ids, vectors), engine=engine, **more
    )


def opened(folder, ids, vectors, **more) -> VectorIndex:
    return open_snapshot(folder, published(folder, ids, vectors, **more), dim=vectors.shape[1]).index


def by_hand(ids, vectors, query, k, allowed=None):
    """The answer without any of the code under test: Python's own sums and sort."""
    rows = [(i, v) for i, v in zip(ids.tolist(), vectors, strict=True) if allowed is None or i in allowed]
    scored = [(-float(np.float32(np.dot(query.astype(float), v.astype(float)))), i) for i, v in rows]
    return [i for _, i in sorted(scored)[:k]]


class TestAnswers:
    @pytest.mark.parametrize("engine", ENGINES)
    @settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
    )
    @given(data=st.data())
    def test_every_engine_gives_the_exact_answer(self, tmp_path, engine, data):
        count, dim = data.draw(st.integers(1, 300)), data.draw(st.sampled_from([1, 3, 16, 33]))
        seed = data.draw(st.integers(0, 1000))
        vectors = unit_rows(count, dim, seed=seed)
        copies = data.draw(st.lists(st.integers(0, count - 1), max_size=40))
        vectors[copies] = vectors[0]  # ties, at the cut too
        ids = gappy_ids(count, seed=seed) - 100  # ids of any sign
        queries = unit_rows(data.draw(st.sampled_from([1, 2, 25])), dim, seed=seed + 1)
        queries[0] = vectors[0]
        k = data.draw(st.integers(1, count + 5))
        allowed = None
        if data.draw(st.booleans()):
            chosen = data.draw(st.lists(st.sampled_from(ids.tolist()), max_size=20, unique=True))
            allowed = np.array([*chosen, 10**9, -(10**9)], dtype=np.int64)  # unknown ids do no harm

        index = opened(tmp_path, ids, vectors, engine=engine)
        scores, found = index.search(queries, k, allowed=allowed, exhaustive=True)

        oracle = ExactIndex(ids, vectors).search(queries, k, allowed=allowed)
        assert np.array_equal(found, oracle[1])
        assert np.array_equal(scores, oracle[0])
        wanted = None if allowed is None else set(allowed.tolist())
        for row in (0, len(queries) - 1):
            assert found[row].tolist() == by_hand(ids, vectors, queries[row], k, wanted)

    @pytest.mark.parametrize("engine", ENGINES)
    def test_of_many_equal_vectors_the_smallest_ids_come_back(self, tmp_path, engine):
        vectors = unit_rows(3000, 24, spread=0.5)
        ids = gappy_ids(3000)
        same = np.arange(5, 3000, 2)
        vectors[same] = vectors[5]
        index = opened(tmp_path, ids, vectors, engine=engine)
        scores, found = index.search(vectors[5:6], 7, exhaustive=True)
        assert found[0].tolist() == ids[same[:7]].tolist()
        assert len(set(scores[0].tolist())) == 1

    @pytest.mark.parametrize("engine", ENGINES)
    def test_a_filter_of_a_few_ids_finds_each_of_them(self, tmp_path, engine):
        ids, vectors = gappy_ids(5000), unit_rows(5000, 32, spread=0.3)
        index = opened(tmp_path, ids, vectors, engine=engine)
        allowed = ids[np.random.default_rng(3).choice(5000, 5, replace=False)]
        _, found = index.search(unit_rows(40, 32, seed=4), 10, allowed=allowed)
        assert found.shape == (40, 5)
        assert all(sorted(row) == sorted(allowed.tolist()) for row in found.tolist())

    @pytest.mark.parametrize("engine", ENGINES)
    def test_one_query_and_the_same_in_a_batch_have_the_same_answer(self, tmp_path, engine):
        ids, vectors = gappy_ids(4000), unit_rows(4000, 48, spread=0.5)
        index = opened(tmp_path, ids, vectors, engine=engine)
        queries = unit_rows(64, 48, seed=5)
        together = index.search(queries, 10, exhaustive=True)
        for row in range(0, 64, 9):
            alone = index.search(queries[row : row + 1], 10, exhaustive=True)
            assert np.array_equal(alone[0][0], together[0][row])
            assert np.array_equal(alone[1][0], together[1][row])

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("held", [1, 100, 2000])
    def test_memory_limits_change_no_answer(self, tmp_path, monkeypatch, engine, held):
        monkeypatch.setattr("clipsearch.vectors.faiss._GATHERED", held)
        monkeypatch.setattr("clipsearch.vectors.exact.BLOCK", held)
        ids, vectors = gappy_ids(900), unit_rows(900, 12)
        index = opened(tmp_path, ids, vectors, engine=engine)
        queries = unit_rows(21, 12, seed=5)
        for allowed in (None, ids[::3]):
            found = index.search(queries, 20, allowed=allowed, exhaustive=True)[1]
            for row in range(0, 21, 5):
                wanted = by_hand(ids, vectors, queries[row], 20, None if allowed is None else set(allowed.tolist()))
                assert found[row].tolist() == wanted

    @pytest.mark.parametrize("engine", ENGINES)
    def test_threads_share_an_index(self, tmp_path, engine):
        ids, vectors = gappy_ids(4000), unit_rows(4000, 48)
        index = opened(tmp_path, ids, vectors, engine=engine)
        queries = unit_rows(8, 48, seed=6)
        wanted = ExactIndex(ids, vectors).search(queries, 5)[1]
        answers: dict[int, list[bool]] = {}

        def ask(row):
            # Half of them filter, half don't: nothing of one search may leak into another.
            allowed = ids[:2000] if row % 2 else None
            right = ExactIndex(ids, vectors).search(queries[row : row + 1], 5, allowed=allowed)[1]
            found = [index.search(queries[row : row + 1], 5, allowed=allowed, exhaustive=True)[1] for _ in range(20)]
            answers[row] = [np.array_equal(one, right) for one in found]

        threads = [threading.Thread(target=ask, args=(row,)) for row in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 8 and all(all(row) for row in answers.values())
        assert np.array_equal(index.search(queries, 5, exhaustive=True)[1], wanted)

    @pytest.mark.parametrize("engine", ENGINES)
    def test_what_cannot_be_asked_is_said(self, tmp_path, engine):
        index = opened(tmp_path, gappy_ids(50), unit_rows(50, 8), engine=engine)
        with pytest.raises(ValueError, match=r"\(1, 9\).* 8 dimensions"):
            index.search(unit_rows(1, 9), 3)
        with pytest.raises(ValueError, match="at least one"):
            index.search(unit_rows(1, 8), 0)
        with pytest.raises(ValueError, match=r"\(8,\)"):
            index.search(unit_rows(1, 8)[0], 3)
        assert index.search(np.empty((0, 8), np.float32), 3)[1].shape == (0, 3)
        assert index.search(unit_rows(2, 8), 3, allowed=np.array([], np.int64))[1].shape == (2, 0)

    def test_chunks_in_any_order_give_the_same_best(self):
        ids, vectors = gappy_ids(2000), unit_rows(2000, 16)
        vectors[::50] = vectors[3]
        queries = np.concatenate([vectors[3:4], unit_rows(3, 16, seed=8)])
        allowed = ids[::2]
        wanted = ExactIndex(ids, vectors).search(queries, 30, allowed=allowed)
        best = TopK(queries, 30, allowed=allowed)
        for part in np.array_split(np.random.default_rng(1).permutation(2000), 13):
            best.add(ids[part], vectors[part])
        scores, found = best.result()
        assert np.array_equal(found, wanted[1]) and np.array_equal(scores, wanted[0])

    def test_scores_do_not_depend_on_company(self):
        queries, vectors = unit_rows(9, 512), unit_rows(300, 512, seed=2)
        together = inner_products(queries, vectors)
        stacked = inner_products(queries, np.broadcast_to(vectors, (9, 300, 512)))
        alone = [[inner_products(q[None], v[None])[0, 0] for v in vectors[::37]] for q in queries]
        assert np.array_equal(together, stacked) and np.array_equal(together[:, ::37], np.array(alone))

    def test_members(self):
        ids = np.array([2, 5, 9], np.int64)
        assert members(ids, np.array([9, 1, 2, 2, 100], np.int64)).tolist() == [0, 2]
        assert members(ids[:0], ids).tolist() == [] == members(ids, ids[:0]).tolist()


class TestChoice:
    def test_a_registered_engine_is_known_by_name_and_never_chosen_unasked(self):
        assert names() == ENGINES
        check_choice(toy_engine.NAME)
        with pytest.raises(UsageError, match='`engine="faster"` must be one of auto, exact, ivf, toy'):
            check_choice("faster")
        assert toy_engine.NAME not in {choose_engine(count) for count in (0, 1, EXACT_LIMIT, 10**9)}

    def test_engines_by_size_and_by_wish(self):
        assert [choose_engine(n) for n in (1, EXACT_LIMIT, EXACT_LIMIT + 1)] == ["exact", "exact", "ivf"]
        assert choose_engine(10**6, "exact") == "exact" and choose_engine(10, "ivf") == "ivf"

    def test_nprobe_is_chosen_by_recall_on_the_worst_probes_and_recorded(self, tmp_path):
        ids, vectors = gappy_ids(12_000), unit_rows(12_000, 32, spread=0.35)
        texts = unit_rows(200, 32, seed=7)  # far from all images, as CLIP's texts are: the harder set
        snapshot = published(tmp_path, ids, vectors, engine="ivf", probes=lambda: texts)
        details = snapshot.details
        assert details["nlist"] == 512 and details["probes"] == {"texts": 200, "pictures": 200}
        assert 1 < details["nprobe"] < 512 and details["recall_at"] == 10
        assert min(details["recall"].values()) >= details["target"] == 0.99

        # The record is true: measured anew, with other vectors of the same kinds.
        index = open_snapshot(tmp_path, snapshot, dim=32).index
        oracle = ExactIndex(ids, vectors)
        for queries in (unit_rows(300, 32, seed=70), unit_rows(300, 32, seed=71, spread=0.35)):
            found, wanted = index.search(queries, 10)[1], oracle.search(queries, 10)[1]
            recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, wanted, strict=True)])
            assert recall >= 0.98

        without = published(tmp_path, ids, vectors, engine="ivf", name="two.faiss")
        assert set(without.details["recall"]) == {"pictures"}
        assert without.details["nprobe"] < details["nprobe"]

    def test_centroids_are_kept_until_the_vectors_double(self, tmp_path):
        ids, vectors = gappy_ids(6000), unit_rows(6000, 16, spread=0.5)
        first = published(tmp_path, ids[:2000], vectors[:2000], engine="ivf", name="a.faiss")
        second = published(tmp_path, ids[:3900], vectors[:3900], engine="ivf", name="b.faiss", previous=first)
        third = published(tmp_path, ids, vectors, engine="ivf", name="c.faiss", previous=second)
        assert [s.details["trained_on"] for s in (first, second, third)] == [2000, 2000, 6000]
        assert second.details["nlist"] == first.details["nlist"] < third.details["nlist"]
        index = open_snapshot(tmp_path, second, dim=16).index
        queries = unit_rows(20, 16, seed=3)
        wanted = ExactIndex(ids[:3900], vectors[:3900]).search(queries, 9)[1]
        assert np.array_equal(index.search(queries, 9, exhaustive=True)[1], wanted)

        (tmp_path / "b.faiss").write_bytes(b"rubbish")
        again = published(tmp_path, ids[:3900], vectors[:3900], engine="ivf", name="d.faiss", previous=second)
        assert again.details["trained_on"] == 3900

    def test_an_approximate_search_that_finds_too_few_pads_its_rows(self, tmp_path):
        # Two tight clusters far apart: one list visited holds half of what is asked for.
        centre = np.eye(8, dtype=np.float32)
        vectors = np.concatenate([centre[:1] + 0.01 * unit_rows(40, 8), centre[1:2] + 0.01 * unit_rows(40, 8)])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        snapshot = published(tmp_path, np.arange(80), vectors, engine="ivf")
        few = replace(snapshot, details={**snapshot.details, "nprobe": 1})
        index = open_snapshot(tmp_path, few, dim=8).index
        scores, found = index.search(centre[:1], 60)
        real = found[0] >= 0
        assert 0 < real.sum() <= 40 and not real[40:].any()
        assert np.all(np.isneginf(scores[0][~real])) and np.all(np.diff(scores[0][real]) <= 0)
        assert (index.search(centre[:1], 60, exhaustive=True)[1] >= 0).all()


class TestFiles:
    @pytest.fixture(params=ENGINES)
    def stored(self, request, tmp_path) -> tuple[Path, SnapshotFile]:
        return tmp_path, published(tmp_path, gappy_ids(400), unit_rows(400, 16), engine=request.param)

    def test_what_is_recorded_is_what_lies_there(self, stored):
        folder, snapshot = stored
        path = folder / snapshot.name
        assert snapshot.stat == files.stamp(path) and snapshot.bytes == path.stat().st_size
        assert snapshot.sha256 == files.sha256(path) and snapshot.count == 400
        assert [entry.name for entry in folder.iterdir()] == [snapshot.name]
        index = open_snapshot(folder, snapshot, dim=16).index
        assert (index.engine, index.count, index.dim) == (snapshot.engine, 400, 16)

    def test_the_hash_is_taken_only_of_a_file_that_changed_its_stat(self, stored):
        folder, snapshot = stored
        assert not open_snapshot(folder, snapshot, dim=16).hashed
        os.utime(folder / snapshot.name, ns=(1, 2))
        seen = open_snapshot(folder, snapshot, dim=16)
        assert seen.hashed and seen.stat[1] == 2
        assert not open_snapshot(folder, snapshot, dim=16, trusted=[seen.stat]).hashed

    @pytest.mark.parametrize("engine", ENGINES)
    def test_a_mapped_index_outlives_its_file(self, tmp_path, engine):
        ids, vectors = gappy_ids(400), unit_rows(400, 16)
        index = opened(tmp_path, ids, vectors, engine=engine)
        (tmp_path / "one.faiss").unlink()
        found = index.search(vectors[:5], 1, exhaustive=True)[1]
        assert found[:, 0].tolist() == ids[:5].tolist()

    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(lambda data: b"", id="empty"),
            pytest.param(lambda data: data[:-1], id="a byte short"),
            pytest.param(lambda data: data[: len(data) // 3], id="cut off"),
            pytest.param(lambda data: data + b"\0", id="a byte long"),
            pytest.param(lambda data: np.random.default_rng(5).bytes(len(data)), id="random bytes"),
            pytest.param(
                lambda data: data[:4] + np.random.default_rng(5).bytes(len(data) - 4), id="only its first word"
            ),
            *(
                pytest.param(lambda d, at=at: flipped(d, at), id=f"bit flipped at {at}")
                for at in (0.0, 0.01, 0.3, 0.99)
            ),
        ],
    )
    def test_damage_is_found_before_faiss_sees_it(self, stored, damage: Callable[[bytes], bytes]):
        folder, snapshot = stored
        path = folder / snapshot.name
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(DamagedSnapshot, match=snapshot.name):
            open_snapshot(folder, snapshot, dim=16)

    def test_a_file_that_is_gone_or_cannot_be_read(self, stored):
        folder, snapshot = stored
        (folder / snapshot.name).unlink()
        with pytest.raises(DamagedSnapshot, match="No such file"):
            open_snapshot(folder, snapshot, dim=16)
        (folder / snapshot.name).mkdir()
        with pytest.raises(DamagedSnapshot):
            open_snapshot(folder, snapshot, dim=16)

    def test_a_snapshot_of_something_else(self, stored):
        folder, snapshot = stored
        with pytest.raises(DamagedSnapshot, match=r"400 vectors of 16 dimensions .* instead of 400 of 17"):
            open_snapshot(folder, snapshot, dim=17)
        with pytest.raises(DamagedSnapshot, match="instead of 399 of 16"):
            open_snapshot(folder, replace(snapshot, count=399), dim=16)
        for other in set(ENGINES) - {snapshot.engine}:
            with pytest.raises(DamagedSnapshot, match=rf"instead of 400 of 16 \({other}\)|is not a vector index"):
                open_snapshot(folder, replace(snapshot, engine=other), dim=16)
        with pytest.raises(DamagedSnapshot, match="engine gone is not available"):
            open_snapshot(folder, replace(snapshot, engine="gone"), dim=16)

    def test_a_whole_file_that_is_no_index(self, tmp_path):
        path = tmp_path / "one.faiss"
        path.write_bytes(b"not an index at all" * 40)
        stat = files.stamp(path)
        foreign = SnapshotFile(path.name, stat[0], files.sha256(path), stat, 10, "exact")
        with pytest.raises(DamagedSnapshot, match=r"one\.faiss is not a vector index"):
            open_snapshot(tmp_path, foreign, dim=16)


def flipped(data: bytes, at: float) -> bytes:
    changed = bytearray(data)
    changed[int(at * len(data))] ^= 0x10
    return bytes(changed)


class TestWriting:
    @pytest.mark.parametrize("engine", ENGINES)
    def test_a_full_disk_leaves_what_was_there(self, tmp_path, engine):
        before = published(tmp_path, gappy_ids(400), unit_rows(400, 16), engine=engine, name="old.faiss")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))  # any write beyond fails, as on a full disk
        try:
            for name in ("new.faiss", "old.faiss"):
                with pytest.raises(SnapshotError, match=rf"{name}: .*make room"):
                    published(tmp_path, gappy_ids(4000), unit_rows(4000, 16), engine=engine, name=name)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [entry.name for entry in tmp_path.iterdir()] == ["old.faiss"]
        assert open_snapshot(tmp_path, before, dim=16).index.count == 400

    def test_a_folder_that_is_gone(self, tmp_path):
        with pytest.raises(SnapshotError, match="No such file"):
            published(tmp_path / "nowhere", gappy_ids(10), unit_rows(10, 4))

    def test_a_kill_in_the_middle_leaves_the_old_file_and_a_stray(self, tmp_path):
        before = published(tmp_path, gappy_ids(400), unit_rows(400, 16), name="old.faiss")
        script = """
            import os, pathlib, signal, sys
            from clipsearch.vectors.snapshot_file import publish
            def produce(write):
                write(b"x" * 100_000)
                os.kill(os.getpid(), signal.SIGKILL)
            publish(pathlib.Path(sys.argv[1]), "old.faiss", produce=produce, check=lambda path: None)
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert open_snapshot(tmp_path, before, dim=16).index.count == 400
        stray, kept = sorted(entry.name for entry in tmp_path.iterdir())
        assert kept == "old.faiss" and stray.startswith(".old.faiss.") and stray.endswith(".tmp")
        (tmp_path / "catalog.db").write_bytes(b"")
        assert remove_strays(tmp_path, keep=["old.faiss"]) == (stray,)
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["catalog.db", "old.faiss"]

    def test_what_does_not_pass_its_check_is_never_published(self, tmp_path):
        def refuse(path: Path) -> None:
            raise SnapshotError(f"{path.stat().st_size} bytes, and not one is right")

        with pytest.raises(SnapshotError, match="3 bytes"):
            publish(tmp_path, "one.faiss", produce=lambda write: write(b"abc") and None, check=refuse)
        assert not any(tmp_path.iterdir())

    @pytest.mark.parametrize("engine", ENGINES)
    def test_vectors_that_are_not_what_was_announced(self, tmp_path, engine):
        ids, vectors = gappy_ids(900), unit_rows(900, 8)

        def attempt(ids, vectors, *, dim=8, count=900, name="one.faiss"):
            write_snapshot(tmp_path, name, dim=dim, count=count, chunks=in_chunks(ids, vectors), engine=engine)

        with pytest.raises(ValueError, match=r"\(700, 8\) for 700 ids and 9 dimensions"):
            attempt(ids, vectors, dim=9)
        for count in (899, 901):
            with pytest.raises(ValueError, match=f"instead of {count}"):
                attempt(ids, vectors, count=count)
        for wrong in (ids[::-1], np.repeat(ids[:450], 2)):
            with pytest.raises(ValueError, match="ascend"):
                attempt(wrong, vectors)
        with pytest.raises(ValueError, match="named like"):
            attempt(ids, vectors, name="../one.faiss")
        with pytest.raises(ValueError, match="0 vectors"):
            attempt(ids[:0], vectors[:0], count=0)
        assert not any(tmp_path.iterdir())

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("count", [1, 2, 7, 17])
    def test_very_small_ones(self, tmp_path, engine, count):
        ids, vectors = gappy_ids(count), unit_rows(count, 5)
        index = opened(tmp_path, ids, vectors, engine=engine, probes=lambda: unit_rows(3, 5, seed=1))
        assert sorted(index.search(vectors[:1], 50)[1][0].tolist()) == ids.tolist()

    def test_a_copied_snapshot_is_itself(self, tmp_path):
        """A library moved to another disk: new inode and mtime, same bytes."""
        snapshot = published(tmp_path, gappy_ids(400), unit_rows(400, 16))
        (tmp_path / "moved").mkdir()
        shutil.copy(tmp_path / snapshot.name, tmp_path / "moved")
        assert open_snapshot(tmp_path / "moved", snapshot, dim=16).hashed


def test_the_package_itself_loads_nothing_heavy():
    script = "import sys, clipsearch.vectors.index; print({'numpy', 'faiss'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_searching_leaves_the_number_of_threads_as_it_was(tmp_path):
    index = opened(tmp_path, gappy_ids(400), unit_rows(400, 16))
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        index.search(unit_rows(1, 16), 3)
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)


def test_a_registered_engine_serves_the_command_line(cli, copied, monkeypatch, capfdbinary):
    monkeypatch.setattr("clipsearch.catalog.snapshots.SMALL", 0)  # Else so few vectors are read from SQLite.
    for name in ("CLIPSEARCH_CACHE", "HF_HOME", "HF_HUB_OFFLINE", "HOME"):
        monkeypatch.setenv(name, cli.env[name])
    monkeypatch.chdir(copied)

    def run(*arguments):
        capfdbinary.readouterr()
        code = main([*arguments, "--json"])
        out, err = capfdbinary.readouterr()
        assert code == 0, err
        return json.loads(out)

    before = run("query", "a cat")["hits"]
    assert run("index", "--engine", toy_engine.NAME)["published"]
    [status] = run("info")["encoders"]
    assert status["engine"] == toy_engine.NAME and status["tail"] == 0
    opened = toy_engine.TOY.opened
    assert run("query", "a cat")["hits"] == before and toy_engine.TOY.opened == opened + 1
    [measured] = run("eval", "index", "--engine", toy_engine.NAME, "--sample", "2", "-k", "2")["results"]
    assert measured["engine"] == toy_engine.NAME and measured["recall"]["texts"]["value"] == 1
    assert main(["index", "--engine", "faster"]) == 2
    assert b"--engine faster must be one of auto, exact, ivf, toy" in capfdbinary.readouterr().err
