"""Questions of several terms, asked of drawings that the tiny checkpoint understands: colours and backgrounds."""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import PIL.Image
import pytest

from clipsearch import Library
from clipsearch.catalog.filters import Filter
from clipsearch.errors import UsageError
from clipsearch.search.query import QueryOptions
from clipsearch.search.terms import Image, Indexed, Region, Text, parse_term
from clipsearch.types import Hit

TINY = Path(__file__).parent / "tinyclip"
sys.path.insert(0, str(TINY))

from scenes import COLOURS, Scene, Shape, draw, scenes  # noqa: E402

SCENES = list(scenes(300, seed=3))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("drawings")
    for number, scene in enumerate(SCENES):
        draw(scene, side=64).save(folder / f"{number:03}.png")
    with Library.create(folder / "index", model=str(TINY / "tiny_clip.pt")) as library:
        assert library.index([folder]).indexed == len(SCENES)
        yield library


def shown(hits: tuple[Hit, ...]) -> list[Scene]:
    return [SCENES[int(Path(hit.path).stem)] for hit in hits]


def has(scene: Scene, colour: str, background: str) -> bool:
    return scene.background == background and colour in (scene.first.colour, scene.second.colour)


def on(background: str) -> str:
    return f"a large circle on {'an' if background[0] in 'aeiou' else 'a'} {background} background"


def precision(ask: Callable[[str, str, Path], tuple[Hit, ...]], folder: Path) -> float:
    """Mean share of right images among as many hits as there are right ones, over all colours and backgrounds.

    What is wanted: a colour that an image shows (on another background), with a background that words name.
    """
    rng = random.Random(0)
    found = []
    for colour in COLOURS:
        for background in COLOURS:
            right = sum(has(scene, colour, background) for scene in SCENES)
            if colour == background or not right:
                continue
            other = rng.choice([c for c in COLOURS if c not in (colour, background)])
            example = folder / f"{colour}-{other}.png"
            shapes = Shape("large", colour, "circle"), "above", Shape("small", colour, "square")
            draw(Scene(*shapes, other), side=64).save(example)
            hits = ask(colour, background, example)[:right]
            found.append(sum(has(scene, colour, background) for scene in shown(hits)) / right)
    assert len(found) > 60
    return statistics.mean(found)


def test_words_and_a_picture_together_beat_either_alone(library: Library, tmp_path: Path) -> None:
    words = precision(lambda c, b, p: library.query(on(b), k=20).hits, tmp_path)
    image = precision(lambda c, b, p: library.query(p, k=20).hits, tmp_path)
    both = precision(lambda c, b, p: library.query([on(b), Image(p)], k=20).hits, tmp_path)
    print(f"words {words:.3f}, picture {image:.3f}, both {both:.3f}")
    assert both > 1.2 * max(words, image)


def test_what_is_excluded_goes_down_and_the_rest_stays_up(library: Library) -> None:
    rng = random.Random(2)
    before = after = kept = 0
    for _ in range(15):
        colour, background = rng.sample(list(COLOURS), 2)
        wanted = f"a large {colour} circle"
        before += sum(scene.background == background for scene in shown(library.query(wanted).hits))
        result = library.query(wanted, options=QueryOptions(negative=[Text(on(background))]))
        assert result.kind == "penalised"
        after += sum(scene.background == background for scene in shown(result.hits))
        kept += sum(colour in (scene.first.colour, scene.second.colour) for scene in shown(result.hits))
    assert (before > 10, after) == (True, 0)
    assert kept >= 0.9 * 150


def test_every_term_must_match_where_a_sum_lets_one_win(library: Library) -> None:
    rng = random.Random(1)
    gained = 0
    for _ in range(12):
        colour, background = rng.sample(list(COLOURS), 2)
        terms = Text(f"a large {colour} circle"), [Text(on(background))]
        every = library.query([terms[0], *terms[1]], k=5, options=QueryOptions(match_all=True))
        assert every.kind == "least"
        added = library.query([terms[0], *terms[1]], k=5)
        right = [sum(has(s, colour, background) for s in shown(result.hits)) for result in (every, added)]
        gained += right[0] - right[1]
    assert gained >= 0


def test_an_earlier_hit_and_a_part_of_a_picture_can_be_asked_for(library: Library, tmp_path: Path) -> None:
    hit = library.query("a large red circle on a white background", k=1).hits[0]
    again = library.query(Indexed(hit.id), k=1)
    assert (again.hits[0].id, again.hits[0].score) == (hit.id, pytest.approx(1, abs=1e-5))
    left, right = (draw(SCENES[number], side=64) for number in (10, 20))
    both = PIL.Image.new("RGB", (128, 64))
    both.paste(left, (0, 0))
    both.paste(right, (64, 0))
    both.save(tmp_path / "both.png")
    for region, number in ((Region((0, 0, 64, 64), (False,) * 4), 10), (Region((50, 0, 50, 100), (True,) * 4), 20)):
        result = library.query(Image(tmp_path / "both.png", region=region), k=1)
        assert Path(result.hits[0].path).stem == f"{number:03}"
    data = (tmp_path / "both.png").read_bytes()
    assert library.query(Image(data), k=1).hits == library.query(tmp_path / "both.png", k=1).hits


def test_pages_follow_one_another_and_filters_reach_every_kind_of_question(library: Library) -> None:
    wanted = "a large red circle on a white background"
    first = library.query(wanted, k=10).hits
    assert library.query(wanted, k=5, options=QueryOptions(page=2)).hits == first[5:]
    by_path = library.query(wanted, k=10, options=QueryOptions(sort="path")).hits
    assert [hit.path for hit in by_path] == sorted(hit.path for hit in first)
    nowhere = Filter(formats=("JPEG",))
    star = Text("a blue star")
    for terms, options in (
        ([wanted], QueryOptions()),
        ([wanted, star], QueryOptions()),
        ([wanted], QueryOptions(negative=[star])),
    ):
        assert len(library.query(terms, where=nowhere, options=options)) == 0
        assert len(library.query(terms, where=Filter(formats=("PNG",)), options=options)) == 10


def test_terms_that_cannot_be_are_refused(library: Library, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="id:999999"):
        library.query(Indexed(999_999))
    outside = Region((200, 0, 64, 64), (False,) * 4)
    (tmp_path / "one.png").write_bytes(Path(library.query("a red star", k=1).hits[0].path).read_bytes())
    with pytest.raises(UsageError, match="outside"):
        library.query(Image(tmp_path / "one.png", region=outside))


@pytest.mark.parametrize("term", ["cat^-1", "cat^0", "cat^abc", "cat^1,5", "a cat^nan", "id:1^-2", "no.jpg^x"])
def test_a_weight_that_is_not_a_positive_number_is_refused(term: str) -> None:
    with pytest.raises(UsageError, match=r"a weight must be from 0\.001 to 1000; use `negative`"):
        parse_term(term)


def test_a_minimum_takes_no_weights(library: Library) -> None:
    blue, white = Text("a blue star", 2), Text("a white background")
    with pytest.raises(UsageError, match="a blue star: `match_all=True` takes no weights"):
        library.query([white, blue], options=QueryOptions(match_all=True))
    found = library.query([white, Text("a star")], options=QueryOptions(match_all=True, negative=[blue]))
    assert found.kind == "penalised" and len(found) == 10


def test_terms_are_read_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "odd^2.jpg", "part#1,2,3,4"):
        (tmp_path / name).touch()
    assert parse_term("a dog") == Text("a dog")
    assert parse_term("a dog^0.5") == Text("a dog", 0.5)
    assert parse_term("2^10") == Text("2", 10.0)
    assert parse_term("id:12^3") == Indexed(12, 3.0)
    assert parse_term("photo.jpg^.5") == Image(Path("photo.jpg"), 0.5)
    assert parse_term("odd^2.jpg") == Image(Path("odd^2.jpg"))
    assert parse_term("photo.jpg#1,2,30%,40%") == Image(
        Path("photo.jpg"), region=Region((1, 2, 30, 40), (False, False, True, True))
    )
    assert parse_term("part#1,2,3,4") == Image(Path("part#1,2,3,4"))
    for text in ("^2", "a ^ b", "a^b c", "a^2 b", "cat^", "^_^"):
        assert parse_term(text) == Text(text)
    assert parse_term("x^y^1") == Text("x^y")
    with pytest.raises(UsageError):
        parse_term(" ")
    with pytest.raises(UsageError, match="no such image"):
        parse_term("a dog", image=True)
