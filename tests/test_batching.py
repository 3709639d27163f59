"""One encoder for several threads: joint batches, each request's own rows and its own errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import TinyEncoder
from numpy.typing import NDArray

from clipsearch.encoders.base import Encoder, EncoderOptions
from clipsearch.encoders.batching import TEXTS, BatchingEncoder
from clipsearch.encoders.clip.openclip import OpenClipEncoder
from clipsearch.encoders.load import load_encoder
from clipsearch.errors import EncoderError, UsageError

TINY = str(Path(__file__).parent / "tinyclip" / "tiny_clip.pt")
SMALLEST = 8


class Gated(TinyEncoder):
    """A real encoder that notes its batches. While the gate is closed, whoever has come in waits there."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.inside = threading.Event()
        self.texts: list[list[str]] = []
        self.sizes: list[int] = []

    def _wait(self) -> None:
        self.inside.set()
        assert self.gate.wait(30)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts.append(list(texts))
        self._wait()
        if "bad" in texts:
            raise EncoderError("this text is bad")
        rows = np.array([[len(text), *text.encode()[:1]] for text in texts], np.float32).reshape(-1, 2)
        return rows

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.sizes.append(len(batch))
        self._wait()
        return super().encode_images(batch)


@pytest.fixture
def gated() -> Iterator[Gated]:
    encoder = Gated()
    yield encoder
    encoder.gate.set()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool


def waiting(encoder: BatchingEncoder, count: int) -> None:
    """Return once that many requests are in the queue, the one that is being encoded included."""
    batches = encoder.encode_texts
    for _ in range(3000):
        if len(batches._waiting) == count:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{len(batches._waiting)} are waiting, not {count}")


def pixels(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, SMALLEST, SMALLEST), dtype=np.uint8)


def queued(
    pool: ThreadPoolExecutor, encoder: BatchingEncoder, gated: Gated, requests: Sequence[list[str]]
) -> list[Future[Any]]:
    """All requests, after the first of which the others wait, in their order."""
    futures = []
    for number, texts in enumerate(requests, 1):
        futures.append(pool.submit(encoder.encode_texts, texts))
        waiting(encoder, number)
        assert gated.inside.wait(30)
    return futures


def test_what_arrives_meanwhile_is_the_next_batch(gated: Gated, pool: ThreadPoolExecutor) -> None:
    encoder = BatchingEncoder(gated)
    requests = [["first"], ["a"], ["bb", "ccc"], ["dddd"]]
    futures = queued(pool, encoder, gated, requests)
    gated.gate.set()
    for texts, future in zip(requests, futures, strict=True):
        assert future.result(30)[:, 0].tolist() == [len(text) for text in texts]
    assert [sorted(batch) for batch in gated.texts] == [["first"], ["a", "bb", "ccc", "dddd"]]


def test_batches_are_capped_and_large_requests_pass_alone(gated: Gated, pool: ThreadPoolExecutor) -> None:
    encoder = BatchingEncoder(gated)
    requests = [["first"], *([chr(97 + i) * (i + 1)] * 30 for i in range(5))]
    futures = queued(pool, encoder, gated, requests)
    large = pool.submit(encoder.encode_texts, ["x"] * TEXTS)
    while len(gated.texts) < 2:  # It waits for none of them.
        threading.Event().wait(0.01)
    gated.gate.set()
    for texts, future in zip(requests, futures, strict=True):
        assert future.result(30)[:, 0].tolist() == [len(text) for text in texts]
    assert len(large.result(30)) == TEXTS
    assert sorted(map(len, gated.texts)) == [1, 30, 60, 60, TEXTS]


def test_nobody_gets_an_error_of_another_one(gated: Gated, pool: ThreadPoolExecutor) -> None:
    encoder = BatchingEncoder(gated)
    first, good, bad, last = queued(pool, encoder, gated, [["first"], ["good"], ["bad"], ["last one"]])
    gated.gate.set()
    assert [len(first.result(30)), good.result(30)[0, 0], last.result(30)[0, 0]] == [1, 4, 8]
    with pytest.raises(EncoderError, match="this text is bad"):
        bad.result(30)
    assert encoder.encode_texts(["after"])[0, 0] == 5
    with pytest.raises(EncoderError, match="this text is bad"):
        encoder.encode_texts(["bad"])


def test_images_do_not_hold_up_texts(gated: Gated, pool: ThreadPoolExecutor) -> None:
    encoder = BatchingEncoder(gated)
    images = [pool.submit(encoder.encode_images, pixels(count)) for count in (16, 1)]
    text = pool.submit(encoder.encode_texts, ["a text"])
    while len(gated.sizes) < 2 or not gated.texts:
        threading.Event().wait(0.01)
    gated.gate.set()
    assert [len(each.result(30)) for each in (*images, text)] == [16, 1, 1]


def test_an_interrupted_leader_leaves_the_others_to_the_next(gated: Gated, pool: ThreadPoolExecutor) -> None:
    class Interrupted(Gated):
        def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
            rows = super().encode_texts(texts)
            if len(self.texts) == 2:
                raise KeyboardInterrupt
            return rows

    encoder = BatchingEncoder(inner := Interrupted())
    futures = queued(pool, encoder, inner, [["first"], ["a"], ["bb"], ["ccc"]])
    inner.gate.set()
    ended = [future.exception(30) or future.result()[0, 0] for future in futures]
    assert sum(isinstance(each, KeyboardInterrupt) for each in ended) == 1
    assert ended[0] == 5 and all(isinstance(each, KeyboardInterrupt) or each > 0 for each in ended)


def test_texts_of_many_threads(gated: Gated, pool: ThreadPoolExecutor) -> None:
    gated.gate.set()
    encoder = BatchingEncoder(gated)
    requests = [[f"{number} {row}" * (1 + row) for row in range(number % 70)] for number in range(600)]
    for texts, rows in zip(requests, pool.map(encoder.encode_texts, requests), strict=True):
        assert rows[:, 0].tolist() == [len(text) for text in texts]
    assert not encoder.encode_texts._waiting and not encoder.encode_texts._running


@pytest.fixture(scope="module", params=["builtin", TINY], ids=["builtin", "clip"])
def real(request: pytest.FixtureRequest) -> Encoder:
    return load_encoder(request.param, EncoderOptions(device="cpu"))


TEXT = ["a large red circle on a blue background", "a cat", "", "ring", "nothing " * 400, "日本語", "a cat"]


def together(pool: ThreadPoolExecutor, work: Callable[[int], NDArray[np.float32]], count: int) -> list[Any]:
    start = threading.Barrier(count)

    def one(number: int) -> NDArray[np.float32]:
        start.wait(30)
        return work(number)

    return list(pool.map(one, range(count)))


def test_vectors_are_those_of_the_other_encoder(real: Encoder, pool: ThreadPoolExecutor) -> None:
    encoder = BatchingEncoder(real)
    side = real.info.preprocess.size
    images = np.random.default_rng(1).integers(0, 256, (5, 3, side, side), dtype=np.uint8)
    # Alone, to the last bit.
    assert np.array_equal(encoder.encode_texts(TEXT), real.encode_texts(TEXT))
    assert np.array_equal(encoder.encode_images(images), real.encode_images(images))
    assert encoder.encode_texts([]).shape == encoder.encode_images(images[:0]).shape == (0, real.info.dim)
    # In batches with others.
    for number, rows in enumerate(together(pool, lambda n: encoder.encode_texts(TEXT[n % 7 :]), 21)):
        assert np.allclose(rows, real.encode_texts(TEXT[number % 7 :]), rtol=0, atol=1e-6)


def test_texts_go_on_while_the_image_side_loads(pool: ThreadPoolExecutor) -> None:
    encoder = load_encoder(TINY, EncoderOptions(device="cpu"))
    assert isinstance(encoder, OpenClipEncoder)
    expected = encoder.encode_texts(TEXT)
    with encoder._loading:
        images = pool.submit(encoder.load_images)
        assert np.array_equal(pool.submit(encoder.encode_texts, TEXT).result(30), expected)
        assert pool.submit(encoder.overflow, "a cat").result(30) == "" and not images.done()
    images.result(60)


def test_everything_else_is_passed_on(real: Encoder) -> None:
    encoder: Encoder = BatchingEncoder(real)
    assert encoder.info is real.info
    assert encoder.overflow("nothing " * 400) == real.overflow("nothing " * 400) != ""
    vector = real.encode_texts(["a cat"])[0]
    assert encoder.explain(vector) == real.explain(vector)
    encoder.load_images()
    encoder.convert()


def test_it_has_an_8_bit_form_where_the_other_one_has() -> None:
    clip, builtin = (load_encoder(spec, EncoderOptions(device="cpu")) for spec in (TINY, "builtin"))
    images = np.random.default_rng(2).integers(0, 256, (8, 3, 64, 64), dtype=np.uint8)
    assert BatchingEncoder(clip).quantised(images) == clip.quantised(images)
    with pytest.raises(UsageError, match="has no 8-bit form"):
        BatchingEncoder(builtin).quantised(images)
