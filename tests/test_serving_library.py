"""What a server needs of a library: readers for its threads, embeddings, and the file of an image."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import TinyEncoder, draw, use_encoders, without_privileges
from numpy.typing import NDArray

from clipsearch import Library
from clipsearch.encoders.batching import BatchingEncoder
from clipsearch.errors import ImageError, ModelMismatchError, NoLibraryError, UsageError
from clipsearch.files import sha256
from clipsearch.search.query import QueryOptions
from clipsearch.search.terms import Image, Indexed, Region, Text
from clipsearch.types import EncoderInfo

TINY = str(Path(__file__).parent / "tinyclip" / "tiny_clip.pt")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for number in range(6):
        draw(folder / "photos" / f"{number}.png", number)
    with Library.create(folder / "index", model=TINY) as library:
        assert library.index([folder / "photos"]).indexed == 6
    return folder


@pytest.fixture
def library(made: Path) -> Iterator[Library]:
    with Library.open(made / "index", serving=True) as library:
        yield library


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Library]:
    """A library of one image, to change."""
    draw(tmp_path / "a.png", 1)
    with Library.create(tmp_path / "index", model=TINY) as library:
        library.index([tmp_path / "a.png"])
        yield library


# Readers


def test_readers_share_the_encoders_and_nothing_else(library: Library) -> None:
    one, other = library.reader(), library.reader()
    expected = library.query("a red circle", k=3)
    assert one.query("a red circle", k=3) == other.query("a red circle", k=3) == expected
    assert one._models is other._models is library._models
    one.close()
    assert other.query("a blue ring", k=1) and library.query("a blue ring", k=1)
    with pytest.raises(UsageError, match="closed"):
        one.query("a red circle")
    other.close()


def test_readers_answer_while_another_one_is_busy(library: Library) -> None:
    other = library.reader()
    with ThreadPoolExecutor(1) as pool:
        # In the middle of a question to one, the other is asked in another thread.
        found = library._access.answer(lambda catalog: pool.submit(other.query, "a red circle", k=1).result(60))
    assert len(found) == 1
    other.close()


class Words(TinyEncoder):
    """Knows words, too."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.eye(48, dtype=np.float32)[[len(text) % 48 for text in texts]]


def test_while_an_encoder_loads_a_loaded_one_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, gate, loads = threading.Event(), threading.Event(), []

    def reload(info: EncoderInfo, options: object = None) -> Words:
        loads.append(info.spec)
        if info.spec == "a/slow":
            begun.set()
            assert gate.wait(60)
        return Words(info.spec)

    use_encoders(monkeypatch.setattr, lambda spec, options=None: Words(spec), reload)
    draw(tmp_path / "photos" / "1.png", 1)
    with Library.create(tmp_path / "index", model="a/slow") as library:
        library.index([tmp_path / "photos"])
        library.index(model="a/quick")
    loads.clear()

    def ask(model: str) -> str:
        with contextlib.closing(library.reader()) as reader:
            return reader.query("a circle", options=QueryOptions(model=model, use_cache=False)).model.spec

    with Library.open(tmp_path / "index", serving=True) as library, ThreadPoolExecutor(4) as pool:
        try:
            assert ask("a/quick") == "a/quick"
            slow = [pool.submit(ask, "a/slow") for _ in range(3)]
            assert begun.wait(30)
            assert pool.submit(ask, "a/quick").result(30) == "a/quick" and not any(each.done() for each in slow)
        finally:
            gate.set()
        assert [each.result(30) for each in slow] == ["a/slow"] * 3
    assert loads == ["a/quick", "a/slow"]


def test_only_a_server_pays_for_batches(library: Library, made: Path) -> None:
    row, _ = library._access.answer(lambda catalog: library._models.active(catalog, None))
    assert isinstance(library._models.of(row), BatchingEncoder)
    code = (
        "import sys; from clipsearch import Library; "
        f"library = Library.open({str(made / 'index')!r}); library.query('never asked', k=1); "
        "assert 'clipsearch.encoders.batching' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_warming_up_loads_what_queries_need(made: Path, tmp_path: Path) -> None:
    for spec in (TINY, "builtin"):
        with Library.create(tmp_path / Path(spec).stem, model=spec) as library:
            library.index([made / "photos" / "1.png"])
        with Library.open(tmp_path / Path(spec).stem, serving=True) as library:
            library.warm_up()
            library.index([made / "photos"], model="builtin" if spec == TINY else TINY)
            assert library.query("a circle", k=1).model.spec != spec, "the other encoder is loaded when it is needed"
            library.warm_up()
    with Library(tmp_path / "none") as nothing, pytest.raises(NoLibraryError):
        nothing.warm_up()


def test_a_query_of_a_server_opens_no_file_for_a_model(library: Library, made: Path, tmp_path: Path) -> None:
    assert library.query("a circle", options=QueryOptions(model=TINY)).model.spec == TINY
    copy = str(shutil.copy(TINY, tmp_path / "copy.pt"))
    with Library.open(made / "index") as plain:
        assert plain.query("a circle", options=QueryOptions(model=copy))
    for model in (
        copy,
        str(tmp_path / "missing.pt"),
        "~/missing.pt",
        "no.pt",
        "hf-hub:someone/something",
        "ViT-B/32",
        "builtin",
    ):
        with pytest.raises(ModelMismatchError) as error:
            library.query("a circle", options=QueryOptions(model=model))
        assert str(error.value).startswith(f"the library in {library.path} has no embeddings of {model} (it has")
    messages = []
    for model in ("tests", "xyzzy"):  # A folder here, and none.
        with pytest.raises(UsageError) as usage:
            library.query("a circle", options=QueryOptions(model=model))
        messages.append(str(usage.value).replace(model, "X"))
    assert messages[0] == messages[1]


# Embeddings


def test_terms_become_unit_vectors_in_their_order(library: Library, made: Path) -> None:
    path = made / "photos" / "2.png"
    [hit] = library.query(path, k=1)
    other = draw(made / "not-indexed.png", 99)
    terms = ["a circle", path, Text("a ring", 3), Indexed(hit.id), Image(path.read_bytes()), "a circle", other]
    result = library.embed(terms)
    assert result.model.spec == TINY and result.notices == ()
    assert (result.vectors.shape, result.vectors.dtype) == ((7, result.model.dim), np.dtype(np.float32))
    assert np.allclose(np.linalg.norm(result.vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(result.vectors[0], result.vectors[5])
    assert np.array_equal(result.vectors[1], result.vectors[3])
    assert np.array_equal(result.vectors[1], result.vectors[4])
    assert np.allclose(result.vectors[2], library.embed("a ring").vectors[0], atol=1e-6)
    assert hit.score == pytest.approx(float(result.vectors[1] @ library.embed([path]).vectors[0]), abs=1e-6)
    part = Image(path, region=Region((0, 0, 50, 50), (True,) * 4))
    assert library.embed(part).vectors.shape == (1, result.model.dim)
    long = library.embed(["word " * 400])
    assert [notice.kind for notice in long.notices] == ["truncated"]


def test_what_cannot_be_embedded_is_refused(library: Library, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_bytes(b"not an image")
    for wrong, error in (
        ([], UsageError),
        ("  ", UsageError),
        ("\udc80", UsageError),
        (Indexed(10**6), UsageError),
        (Indexed(10**30), UsageError),
        (tmp_path / "missing.png", UsageError),
        (tmp_path / "text.png", ImageError),
        (Image(b"nothing"), ImageError),
    ):
        with pytest.raises(error):
            library.embed(wrong)
    with pytest.raises(ModelMismatchError):
        library.embed("a circle", model="builtin")


# The file of an image


def test_the_original_of_an_id(library: Library, made: Path) -> None:
    path = made / "photos" / "3.png"
    [hit] = library.query(path, k=1)
    original = library.original(hit.id)
    with original.file as file:
        assert file.read() == path.read_bytes()
        assert original.status.st_size == hit.bytes and os.fstat(file.fileno()).st_ino == path.stat().st_ino
    assert (original.path, original.format) == (str(path), "PNG")
    assert original.digest == sha256(path)
    assert library.digest(hit.id) == bytes.fromhex(original.digest)


@pytest.mark.parametrize("id", [0, -1, 10**6, 2**63 - 1, 2**63, 10**30])
def test_ids_that_the_library_does_not_have(library: Library, id: int) -> None:
    assert library.digest(id) is None
    with pytest.raises(UsageError, match="no such image"):
        library.original(id)


def test_another_file_in_its_place_is_never_the_original(own: Library, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    [hit] = own.query(path, k=1)
    data, status = path.read_bytes(), path.stat()
    changed = data[:-1] + bytes([data[-1] ^ 1])
    path.write_bytes(changed)  # Of the same size, now.
    for why, replace in (
        ("it has changed", lambda: None),
        ("it has changed", lambda: path.write_bytes(data + b"\0")),
        ("it has changed", lambda: path.write_bytes(b"")),
        ("no such file", lambda: path.unlink()),
        ("not a regular file", lambda: path.mkdir()),
        ("not a regular file", lambda: (path.rmdir(), os.mkfifo(path))),
        ("no such file", lambda: (path.unlink(), path.symlink_to("nowhere"))),
    ):
        replace()
        with pytest.raises(ImageError, match=why):
            own.original(hit.id)
    path.unlink()
    path.write_bytes(data)  # The same image again, with another time: it is hashed.
    os.utime(path, ns=(0, 0))
    with own.original(hit.id).file as file:
        assert file.read() == data
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.chmod(path, 0)
    with without_privileges(), pytest.raises(ImageError, match="permission denied"):
        own.original(hit.id)


def test_a_file_that_was_written_just_before_it_was_indexed(own: Library, tmp_path: Path) -> None:
    path = draw(tmp_path / "new.png", 5)
    os.utime(path)
    own.index([path])
    [hit] = own.query(path, k=1)
    with own.original(hit.id).file as file:
        assert file.read() == path.read_bytes()


def test_copies_stand_in_for_each_other_and_missing_files_for_none(own: Library, tmp_path: Path) -> None:
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    shutil.copy2(first, second)
    own.index([tmp_path])
    [hit] = own.query(first, k=1)
    assert hit.paths == (str(first), str(second))
    for gone, path in ((None, first), (first, second)):
        if gone:
            gone.unlink()
        original = own.original(hit.id)
        original.file.close()
        assert original.path == str(path)
    second.unlink()
    draw(tmp_path / "c.png", 2)
    own.index()
    with pytest.raises(ImageError, match="all of its files are missing"):
        own.original(hit.id)
    assert own.digest(hit.id) is not None
    own.prune()
    assert own.digest(hit.id) is None
