"""The map of a library: where images lie, and the page that shows it."""

from __future__ import annotations

import inspect
import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import Page, browser
from conftest import Cli
from helpers import Shelf, draw
from PIL import Image
from test_gallery import CONTRAST, HOSTILE, Outline, hit
from test_imports import imported

from clipsearch.catalog.catalog import Catalog
from clipsearch.display.html.map import write_map
from clipsearch.errors import UsageError
from clipsearch.library.library import Library
from clipsearch.search.projection import Projection, principal, project
from clipsearch.types import EncoderInfo, Preprocess

CLIP = EncoderInfo("ViT-B-32-256/datacomp_s34b_b86k", "00", 512, 100.0, None, Preprocess(256))

# Where things lie


def test_places_are_the_principal_components() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(0, (3, 1), (200, 2))
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0][:2]
    places, shares = principal(plane @ turn + 5)
    assert sum(shares) == pytest.approx(1) and shares[0] > 0.8
    # Whatever is turned or mirrored, distances stay.
    for i, j in ((0, 1), (5, 50), (17, 199)):
        assert np.linalg.norm(places[i] - places[j]) == pytest.approx(np.linalg.norm(plane[i] - plane[j]))
    assert places.mean(axis=0) == pytest.approx([0, 0], abs=1e-9)


@pytest.mark.parametrize("rows", [np.ones((1, 4)), np.ones((5, 4)), np.eye(4)[:2], np.eye(1)[:1]])
def test_few_or_equal_vectors_have_places_too(rows: np.ndarray) -> None:
    places, shares = principal(rows)
    assert places.shape == (len(rows), 2) and np.isfinite(places).all() and 0 <= sum(shares) <= 1 + 1e-9


def projected(shelf: Shelf, most: int) -> Projection:
    catalog = Catalog.open(shelf.folder)
    try:
        row = catalog.active()
        assert row is not None
        return project(catalog, row, most=most)
    finally:
        catalog.close()


def test_a_library_is_laid_out_whole_or_as_a_sample_that_stays(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "index")
    with pytest.raises(UsageError, match="no images to lay out"):
        projected(shelf, 10)
    for seed in range(30):
        draw(tmp_path / "photos" / f"{seed}.png", seed)
    draw(tmp_path / "photos" / "copy.png", 7)
    shelf.index(tmp_path / "photos")
    (tmp_path / "photos" / "3.png").unlink()
    shelf.index(tmp_path / "photos")
    everything = projected(shelf, 100)
    assert everything.total == 29 and everything.positions.shape == (29, 2)
    names = {os.path.basename(each.path) for each in everything.hits}
    assert names == {f"{n}.png" for n in range(30) if n != 3}
    sample = projected(shelf, 10)
    assert len(sample.hits) == 10 and sample.total == 29
    # An image's place does not depend on how many are shown.
    places = {each.id: place for each, place in zip(everything.hits, everything.positions, strict=True)}
    for each, place in zip(sample.hits, sample.positions, strict=True):
        assert place == pytest.approx(places[each.id])
    assert [each.id for each in projected(shelf, 10).hits] == [each.id for each in sample.hits]


# The command


def test_the_command_writes_a_page_and_opens_no_model(cli: Cli, copied: Path) -> None:
    names = imported(cli, copied, "map", "--html", "map.html")
    assert names & {"torch", "open_clip", "onnxruntime", "matplotlib"} == set() and "sklearn" in names
    page = Outline((copied / "map.html").read_text("utf-8"))
    assert {each["data-name"] for each in page.all("li")} == {
        "astronaut.png",
        "chelsea.png",
        "coffee-again.png",
        "rocket.jpg",
    }
    ran = cli("map", "--html", "map.html", "--pictures", "2", cwd=copied)
    assert (ran.code, ran.out) == (0, b"") and "2 pictures on the map map.html, a sample of 4" in ran.err
    assert "2 of 4 pictures (random sample)" in (copied / "map.html").read_text("utf-8")
    (copied / "photo.html").write_text("mine")
    ran = cli("map", "--html", "photo.html", cwd=copied)
    assert ran.code == 2 and "photo.html exists and is not a clipsearch map" in ran.err
    assert (copied / "photo.html").read_text() == "mine"
    assert cli("map", "--html", "x.html", cwd=copied, env={"CLIPSEARCH_INDEX": "none"}).code == 2


def test_the_help_says_how_many_pictures_a_map_has_of_itself(cli: Cli, tmp_path: Path) -> None:
    usual = inspect.signature(Library.project).parameters["most"].default
    assert f"(default {usual})." in " ".join(cli("map", "--help", cwd=tmp_path).text.split())


# The page


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Projection, Path]:
    """A map of 300 images in three heaps, hostile names and files that cannot be shown among them."""
    folder = tmp_path_factory.mktemp("map")
    colours = ("#d02020", "#20a040", "#2050d0")
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.normal(centre, 0.3, (100, 2)) for centre in ((-3, 0), (3, 0), (0, 2))])
    hits = []
    for n in range(300):
        name = os.fsdecode(HOSTILE[n // 40]) if n % 40 == 0 else f"{n}.png"
        path = folder / name
        if n != 1:
            Image.new("RGB", (60, 30 + n % 60), colours[n // 100]).save(path, "PNG")
        hits.append(hit(path, n + 1))
    hits[2] = replace(hits[2], path=str(folder / "gone.png"), paths=(str(folder / "gone.png"),), offline=True)
    projection = Projection(CLIP, tuple(hits), places, (0.7, 0.1), 1234, ("a <notice>",))
    page = folder / "map.html"
    write_map(projection, page, title="Map of </title><script>alert(1)</script>")
    return projection, page


def test_no_name_gets_out_of_its_place_and_nothing_is_asked_for(drawn: tuple[Projection, Path]) -> None:
    _, file = drawn
    text = file.read_text("utf-8")
    page = Outline(text)
    assert len(page.all("script")) == 1 and len(page.all("li")) == 300 + 1  # and one notice
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    for tag, attributes in page.elements:
        for name in ("src", "href", "data-src", "action"):
            value = attributes.get(name) or "#"
            assert value == "#" or value.startswith(("data:image/jpeg;base64,", "file:///")), (tag, value)
    assert (
        "300 of 1,234 pictures (random sample)" in page.text
        and "first two principal components (80 % of variance)" in page.text
    )
    labels = [each["aria-label"] or "" for each in page.all("a") if each.get("tabindex")]
    assert labels[1].startswith("1.png, not shown: no such file") and labels[2] == "gone.png, not shown: offline"
    assert file.stat().st_size < 600 * 1024


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def opened(chromium: Page, drawn: tuple[Projection, Path]) -> Page:
    chromium.size(1200, 800)
    chromium.requests.clear()
    chromium.open(drawn[1])
    chromium.complaints.clear()
    chromium.opened.clear()
    settle(chromium)
    return chromium


def settle(page: Page) -> None:
    page.call("Page.bringToFront")  # Another tab that was opened would keep this one from being drawn.
    page.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")


SHOWN = "document.querySelectorAll('#points .shown:not([hidden])').length"
HERE = "document.activeElement.parentElement.dataset.name"
SPOTS = """
[...document.querySelectorAll('#points li:not([hidden])')].map(item => {
  const box = item.getBoundingClientRect(); return [item.dataset.name, box.x, box.y];
})
"""
OVERLAPS = """
(() => {
  const boxes = [...document.querySelectorAll('#points .shown:not([hidden]) a')].map(a => a.getBoundingClientRect());
  let found = 0;
  boxes.forEach((a, i) => boxes.slice(i + 1).forEach(b => {
    if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1) found += 1;
  }));
  return found;
})()
"""


@pytest.mark.browser
def test_it_works_from_disk_without_a_request_or_a_word(opened: Page, drawn: tuple[Projection, Path]) -> None:
    asked = [url for url in opened.requests if not url.startswith("data:image/jpeg;base64,")]
    assert asked == [drawn[1].as_uri()] and opened.complaints == []
    assert opened.run("document.title").startswith("Map of </title><script>")


@pytest.mark.browser
def test_every_picture_is_in_its_place(opened: Page, drawn: tuple[Projection, Path]) -> None:
    spots = opened.run(SPOTS)
    assert len(spots) == 300
    seen = np.array([[x, -y] for _, x, y in spots])
    places = drawn[0].positions
    scale = np.ptp(seen[:, 0]) / np.ptp(places[:, 0])
    assert seen - seen[0] == pytest.approx((places - places[0]) * scale, abs=1)
    box = opened.run(
        "(b => [b.left, b.top, b.right, b.bottom])(document.getElementById('map').getBoundingClientRect())"
    )
    assert all(box[0] < x < box[2] and box[1] < y < box[3] for _, x, y in spots)


@pytest.mark.browser
def test_thumbnails_come_up_as_one_zooms_in_and_do_not_overlap(opened: Page) -> None:
    few = opened.run(SHOWN)
    assert 10 < few < 100 and opened.run(OVERLAPS) == 0
    opened.press("ArrowRight")
    share = []
    for _ in range(4):
        opened.press("+", "+", "+")
        settle(opened)
        assert opened.run(OVERLAPS) == 0
        share.append(opened.run(f"{SHOWN} / document.querySelectorAll('#points li:not([hidden])').length"))
    assert share[0] > few / 300 and share[-1] > 0.6
    opened.press("0")
    settle(opened)
    assert len(opened.run(SPOTS)) == 300
    assert opened.complaints == []


@pytest.mark.browser
def test_keys_go_to_the_next_picture_that_way(opened: Page, drawn: tuple[Projection, Path]) -> None:
    places = {os.path.basename(each.path): place for each, place in zip(drawn[0].hits, drawn[0].positions, strict=True)}
    opened.press("ArrowRight")
    at = places[os.fsdecode(os.fsencode(opened.run(HERE)))]
    for key, axis, sign in (("ArrowLeft", 0, -1), ("ArrowUp", 1, 1), ("ArrowRight", 0, 1), ("ArrowDown", 1, -1)):
        opened.press(key)
        to = places[opened.run(HERE)]
        assert (to[axis] - at[axis]) * sign > 0, key
        at = to
    for _ in range(40):
        opened.press("ArrowLeft")
    assert places[opened.run(HERE)][0] < -2.5
    settle(opened)
    inside = opened.run("(b => b.left >= 0 && b.right <= innerWidth)(document.activeElement.getBoundingClientRect())")
    assert inside and opened.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert opened.run(HERE) in opened.run("document.getElementById('hint').innerText")


@pytest.mark.browser
def test_a_picture_is_seen_large_and_opened(opened: Page) -> None:
    opened.press("ArrowRight", " ")
    assert opened.run("document.getElementById('large').open")
    name = opened.run("document.getElementById('name').textContent")
    opened.wait(lambda: opened.run("document.querySelector('#stage img').src.startsWith('file:')"))
    opened.press("Escape")
    assert not opened.run("document.getElementById('large').open")
    opened.wait(lambda: opened.run(HERE) == name)
    opened.press("Enter")
    opened.wait(lambda: opened.run("1") and opened.opened)
    opened.press("?")
    assert opened.run("document.getElementById('keys').open")
    opened.press("Escape")
    opened.click("#points .shown a")
    opened.wait(lambda: opened.run("document.getElementById('large').open"))
    assert opened.complaints == []


@pytest.mark.browser
def test_wheel_and_drag_move_the_map(opened: Page) -> None:
    def mouse(kind: str, x: int, y: int, **more: object) -> None:
        opened.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", **more)

    before = {name: (x, y) for name, x, y in opened.run(SPOTS)}
    opened.call("Input.dispatchMouseEvent", type="mouseWheel", x=600, y=400, deltaX=0, deltaY=-400)
    settle(opened)
    nearer = {name: (x, y) for name, x, y in opened.run(SPOTS)}
    # What is under the pointer stays there.
    name = min(before, key=lambda each: abs(before[each][0] - 600) + abs(before[each][1] - 400))
    factor = np.exp(0.8)
    assert nearer[name][0] - 600 == pytest.approx(factor * (before[name][0] - 600), abs=2)
    assert nearer[name][1] - 400 == pytest.approx(factor * (before[name][1] - 400), abs=2)
    mouse("mousePressed", 600, 150, clickCount=1)
    mouse("mouseMoved", 650, 190, buttons=1)
    mouse("mouseReleased", 650, 190, clickCount=1)
    settle(opened)
    moved = {each: (x, y) for each, x, y in opened.run(SPOTS)}
    assert np.subtract(moved[name], nearer[name]) == pytest.approx([50, 40], abs=2)
    assert not opened.run("document.getElementById('large').open")


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1400])
def test_it_is_readable_light_and_dark_on_any_width(opened: Page, dark: bool, width: int) -> None:
    opened.size(width, 760, dark=dark)
    settle(opened)
    texts = "h1 .about .axis #hint .notices button"
    contrast = opened.run(CONTRAST.replace("h1 .about .name .rank .where .facts .mark.warn .none button", texts))
    assert min(contrast.values()) >= 4.5, contrast
    assert opened.run("document.documentElement.scrollWidth") <= width
    assert opened.run("document.getElementById('map').clientHeight") > 300
    foot = opened.run("[hint.scrollWidth - hint.clientWidth, hint.scrollHeight - hint.clientHeight]")
    assert max(foot) <= 0, "what is said below the map is cut off"
    shot = np.asarray(Image.open(io.BytesIO(opened.screenshot())).convert("L"))
    assert (shot[:, :3].mean() < 60) == dark


@pytest.mark.browser
def test_one_picture_is_a_map_too(chromium: Page, tmp_path: Path) -> None:
    Image.new("RGB", (30, 30), "red").save(tmp_path / "a.png")
    alone = Projection(CLIP, (hit(tmp_path / "a.png"),), np.zeros((1, 2)), (0.0, 0.0), 1)
    write_map(alone, tmp_path / "map.html", title="x")
    chromium.open(tmp_path / "map.html")
    settle(chromium)
    assert chromium.run(SHOWN) == 1
    chromium.press("ArrowRight", "ArrowRight", "+", "-")
    assert chromium.run(HERE) == "a.png"
