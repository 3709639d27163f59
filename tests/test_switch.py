"""Changing a library's encoder: the old one answers until the last vector of the new one is there."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import TinyEncoder, age, draw, load_tiny, reload_tiny, use_encoders, without_privileges

from clipsearch import Library
from clipsearch.errors import ModelMismatchError, UsageError
from clipsearch.indexing.run import RunOptions
from clipsearch.library.results import EncoderStatus
from clipsearch.search.query import QueryOptions

COUNT = 12


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every spec is a tiny encoder of that name, so that these tests are about the rules alone."""
    use_encoders(monkeypatch.setattr, load_tiny, reload_tiny)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(COUNT):
        draw(tmp_path / "photos" / f"{i:02}.png", i)
    return tmp_path / "photos"


@pytest.fixture
def library(tmp_path: Path, photos: Path) -> Iterator[Library]:
    """Filled with the encoder "./old"."""
    with Library.create(tmp_path / "library", model="./old") as made:
        assert made.index([photos]).indexed == COUNT
        yield made


def run(**options: Any) -> RunOptions:
    return RunOptions(batch_size=3, **options)


def stopped_after(batches: int) -> Any:
    asked = iter([False] * (batches * 3 + 2) + [True] * 10_000)
    return lambda: next(asked)


def roles(library: Library) -> dict[str, str]:
    return {status.info.spec: status.role for status in library.info().encoders}


def status(library: Library, spec: str) -> EncoderStatus:
    [found] = [s for s in library.info().encoders if s.info.spec == spec]
    return found


def answers(library: Library, photos: Path) -> str:
    """The encoder that answers, once it is sure that it finds every image of `photos`."""
    for path in sorted(photos.iterdir()):
        result = library.query(path, k=1)
        assert [hit.path for hit in result.hits] == [str(path)]
    return result.model.spec


def test_a_library_keeps_the_encoder_that_it_was_made_with(library: Library, photos: Path) -> None:
    report = library.index()
    assert report.model is not None
    assert (report.model.spec, report.filling, report.switched) == ("./old", None, False)
    assert answers(library, photos) == "./old"


def test_another_encoder_is_filled_and_takes_over(library: Library, photos: Path) -> None:
    report = library.index([photos], model="./new")
    assert (report.encoded, report.switched, report.filling) == (COUNT, True, None)
    assert answers(library, photos) == "./new"
    assert roles(library) == {"./old": "kept", "./new": "answering"}


def test_the_old_one_answers_until_the_last_vector(library: Library, photos: Path) -> None:
    report = library.index([photos], model="./new", run=run(), stop=stopped_after(2))
    assert report.interrupted
    assert 0 < report.encoded < COUNT
    assert (report.filling, report.filling_left, report.switched) == ("./new", COUNT - report.encoded, False)
    assert answers(library, photos) == "./old"
    assert roles(library) == {"./old": "answering", "./new": "filling"}


def test_a_plain_run_goes_on_with_it(library: Library, photos: Path) -> None:
    first = library.index([photos], model="./new", run=run(), stop=stopped_after(2))
    second = library.index()
    assert second.encoded == COUNT - first.encoded  # what was encoded is kept
    assert second.switched
    assert answers(library, photos) == "./new"


def test_a_query_says_how_many_pictures_the_old_one_lacks(library: Library, photos: Path) -> None:
    draw(photos / "00-a-new-one.png", 100)
    library.index([photos], model="./new", run=run(), stop=stopped_after(1))
    result = library.query(photos / "05.png")
    assert result.model.spec == "./old"
    assert any("./new" in notice and "lacks 1 " in notice for notice in result.notices)
    assert str(photos / "00-a-new-one.png") not in [hit.path for hit in result.hits]


def test_the_name_of_the_answering_one_gives_the_filling_up(library: Library, photos: Path) -> None:
    library.index([photos], model="./new", run=run(), stop=stopped_after(2))
    draw(photos / "later.png", 50)
    report = library.index(model="./old")
    assert (report.filling, report.switched, report.encoded) == (None, False, 1)
    assert roles(library) == {"./old": "answering", "./new": "kept"}
    report = library.index(model="./new")  # taken up again, it keeps what it had
    assert report.switched
    assert report.encoded < COUNT + 1


def test_paths_with_a_model_fill_every_live_picture(library: Library, photos: Path, tmp_path: Path) -> None:
    extra = draw(tmp_path / "more" / "x.png", 60)
    report = library.index([tmp_path / "more"], model="./new")
    assert (report.encoded, report.switched) == (COUNT + 1, True)
    assert library.query(extra, k=1).hits[0].path == str(extra)
    assert answers(library, photos) == "./new"


def test_a_drive_that_is_away_elsewhere_is_no_list_of_failures(library: Library, photos: Path, tmp_path: Path) -> None:
    draw(tmp_path / "more" / "x.png", 60)
    photos.rename(tmp_path / "away")
    report = library.index([tmp_path / "more"], model="./new")
    assert (report.failed, report.filling, report.filling_left) == ((), "./new", COUNT)


def test_new_pictures_during_the_filling_get_the_new_vectors(library: Library, photos: Path) -> None:
    library.index([photos], model="./new", run=run(), stop=stopped_after(1))
    late = draw(photos / "zz.png", 70)
    library.index(run=run(), stop=stopped_after(1))
    assert library.info().encoders[0].vectors == COUNT
    assert library.index().switched
    assert library.query(late, k=1).hits[0].path == str(late)


def test_offline_pictures_hold_the_switch_until_they_are_left_behind(library: Library, tmp_path: Path) -> None:
    drive = tmp_path / "drive"
    away = draw(drive / "x.png", 80)
    library.index([drive])
    drive.rename(tmp_path / "unplugged")
    report = library.index(model="./new")
    assert (report.offline, report.filling, report.filling_left, report.switched) == (1, "./new", 1, False)
    report = library.index()
    assert (report.filling_left, report.switched) == (1, False)
    report = library.index(run=run(switch=True))
    assert (report.switched, report.filling) == (True, None)
    assert str(away) not in [hit.path for hit in library.query(tmp_path / "photos" / "00.png", k=100).hits]
    (tmp_path / "unplugged").rename(drive)
    report = library.index()
    assert (report.encoded, report.restored + report.indexed) == (1, 1)
    assert library.query(away, k=1).hits[0].path == str(away)


def test_unreadable_pictures_hold_the_switch_too(library: Library, photos: Path) -> None:
    os.chmod(photos / "00.png", 0)
    with without_privileges():
        report = library.index(model="./new")
        assert (report.switched, report.filling_left, len(report.failed)) == (False, 1, 1)
        assert library.index(run=run(switch=True)).switched


def test_pictures_that_are_gone_do_not_hold_it(library: Library, photos: Path) -> None:
    (photos / "00.png").unlink()
    report = library.index(model="./new")
    assert (report.missing, report.switched) == (1, True)


def test_pictures_that_cannot_be_decoded_do_not_hold_it(library: Library, photos: Path) -> None:
    """One that the old encoder has a vector of stays a hit until the switch."""
    report = library.index(model="./new", run=run(max_pixels=10), stop=stopped_after(1))
    assert len(report.failed) > 0
    assert answers(library, photos) == "./old"
    report = library.index(run=run(max_pixels=10))
    assert (report.switched, report.encoded) == (True, 0)
    report = library.index()  # with the limit as it was, they are tried again
    assert report.encoded == COUNT
    assert answers(library, photos) == "./new"


def test_a_later_failure_hides_no_vector(library: Library, photos: Path) -> None:
    library.index(model="./new", run=run(max_pixels=10), stop=stopped_after(2))
    library.index(model="./old", run=run(max_pixels=10))
    assert answers(library, photos) == "./old"


def test_remembered_failures_do_not_hold_it(library: Library, photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"no picture")
    age(photos / "bad.png")
    library.index()
    (photos / "worse.png").write_bytes(b"no picture either")
    report = library.index(model="./new")
    assert (report.failed_before, len(report.failed), report.switched) == (1, 1, True)


def test_partial_pictures_are_filled_too(library: Library, photos: Path, tmp_path: Path) -> None:
    data = draw(tmp_path / "whole.png", 90, side=300).read_bytes()
    (photos / "cut.png").write_bytes(data[:-300])
    assert len(library.index().partial) == 1
    report = library.index(model="./new")
    assert (report.encoded, len(report.partial), report.switched) == (COUNT + 1, 1, True)


def test_an_empty_library_switches_at_once(tmp_path: Path) -> None:
    with Library.create(tmp_path / "library", model="./old") as library:
        (tmp_path / "none").mkdir()
        assert library.index([tmp_path / "none"], model="./new").switched


def test_copies_are_encoded_once_by_the_new_one_too(library: Library, photos: Path) -> None:
    for i in range(20):
        shutil.copy2(photos / "00.png", photos / f"copy-{i}.png")
    library.index()
    assert library.index(model="./new", run=run()).encoded == COUNT


def test_a_query_may_ask_the_other_encoder(library: Library, photos: Path) -> None:
    library.index(model="./new")
    assert library.query(photos / "03.png", k=1, options=QueryOptions(model="./old")).hits[0].path == str(
        photos / "03.png"
    )
    with pytest.raises(ModelMismatchError, match=r"no embeddings of \./third"):
        library.query(photos / "03.png", options=QueryOptions(model="./third"))


def test_the_old_snapshot_is_mended_while_the_new_one_is_filled(library: Library, photos: Path) -> None:
    [snapshot] = library.path.glob("*.faiss")
    library.index(model="./new", run=run(), stop=stopped_after(1))
    snapshot.write_bytes(b"damaged")
    assert any("the catalog is searched instead" in n for n in library.query(photos / "00.png").notices)
    library.index(run=run(), stop=stopped_after(1))
    with Library.open(library.path) as again:
        assert again.query(photos / "00.png").notices == ()


def test_old_vectors_can_be_dropped_once_it_has_switched(library: Library, photos: Path) -> None:
    library.index(model="./new")
    assert library.prune(encoder="./old").vectors == COUNT
    assert roles(library) == {"./new": "answering"}
    assert answers(library, photos) == "./new"


def test_a_run_that_cannot_be_leaves_no_wish_behind(library: Library, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        library.index([tmp_path / "nowhere"], model="./new")
    assert roles(library) == {"./old": "answering"}
    assert library.index().filling is None


def test_the_fallback_is_told_until_something_else_answers(library: Library, photos: Path) -> None:
    from clipsearch.catalog.catalog import Catalog

    catalog = Catalog.open(library.path, writable=True)
    catalog.set_meta("fallback", "no network")
    catalog.close()
    library.index(model="./new", run=run(), stop=stopped_after(1))
    assert any("no network" in notice for notice in library.query(photos / "00.png").notices)
    library.index()
    assert library.query(photos / "00.png").notices == ()


def test_the_fallback_is_none_once_it_was_asked_for(library: Library, photos: Path) -> None:
    from clipsearch.catalog.catalog import Catalog

    catalog = Catalog.open(library.path, writable=True)
    catalog.set_meta("fallback", "no network")
    catalog.close()
    library.index(model="./old")
    assert library.query(photos / "00.png").notices == ()


def test_from_the_builtin_encoder_to_clip_on_the_command_line(cli: Any, copied: Path) -> None:
    """The true encoders: what one finds before, the other finds after, and a stop in between changes nothing."""
    clip = str(Path(__file__).parent / "tinyclip" / "tiny_clip.pt")
    index = ("--index", "index")
    process = cli.start("index", *index, "--model", clip, "--batch-size", "1", cwd=copied)
    while b"tiny_clip" not in cli("info", *index, "--json", cwd=copied).out and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    query = ("query", "a cat", *index, "--json", "-k", "1")
    before = cli(*query, cwd=copied).json
    assert before["model"] in ("builtin", clip)
    report = cli("index", *index, "--json", cwd=copied).json
    assert report["filling"] is None
    after = cli(*query, cwd=copied).json
    assert after["model"] == clip
    assert cli(*query, "--model", "builtin", cwd=copied).json["hits"][0]["path"].endswith("chelsea.png")


SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[1])
import helpers
from clipsearch import Library; from clipsearch.indexing.run import RunOptions

class Slow(helpers.TinyEncoder):
    def encode_images(self, batch):
        time.sleep(0.02)
        return super().encode_images(batch)

helpers.use_encoders(setattr, lambda spec, options=None: Slow(spec), lambda info, options=None: Slow(info.spec))
library = Library(sys.argv[2])
library.index(model=sys.argv[3] or None, run=RunOptions(batch_size=2))
"""


def test_the_old_one_answers_through_kills_until_the_new_one_is_filled(library: Library, photos: Path) -> None:
    for i in range(COUNT, 60):
        draw(photos / f"{i:02}.png", i)
    library.index()
    rng = random.Random(5)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    kills = 0
    model = "./new"
    for _ in range(60):
        command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(library.path), model]
        process = subprocess.Popen(command, env=environment)
        before = vectors(library, "./new")
        deadline = time.monotonic() + 60
        while process.poll() is None and vectors(library, "./new") <= before and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.15))
        killed = process.poll() is None
        process.kill()
        process.wait()
        if not killed:
            assert process.returncode in (0, -9)
            break
        kills += 1
        model = ""  # plain runs go on with it
        lacking = 60 - vectors(library, "./new")
        if lacking:
            assert answers(library, photos) == "./old"
    assert kills >= 3
    library.index()
    assert answers(library, photos) == "./new"
    assert vectors(library, "./new") == vectors(library, "./old") == 60


def vectors(library: Library, spec: str) -> int:
    return sum(s.vectors for s in library.info().encoders if s.info.spec == spec)


def test_tiny_encoders_differ(photos: Path) -> None:
    """Else nothing above would show which one answers."""
    from clipsearch.images.open import open_image

    pixels = open_image((photos / "00.png").read_bytes()).pixels(TinyEncoder("./old").info.preprocess)[None]
    old, new = TinyEncoder("./old").encode_images(pixels)[0], TinyEncoder("./new").encode_images(pixels)[0]
    assert abs(float(old @ new)) < 0.9
