"""The page and the thumbnails of `clipsearch serve`, as a browser and a program see them."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import pytest
from browser import Page, browser
from conftest import SKIMAGE, Cli
from helpers import draw
from PIL import Image
from starlette.testclient import TestClient
from test_gallery import HOSTILE, PHOTOS, Outline

from clipsearch.encoders.cache import CACHE_VARIABLE
from clipsearch.library.library import Library
from clipsearch.serve.app import application
from clipsearch.serve.guard import Policy, allowed_hosts
from clipsearch.serve.service import Service

PLAIN = 5

COUNT = len(SKIMAGE) + len(HOSTILE) + PLAIN + 1
"""Images in the library."""

POLICY = Policy(hosts=allowed_hosts("127.0.0.1"), port=80)


@pytest.fixture(scope="module")
def library(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos/`, whose names are hostile or harmless, and `index/`. Do not change it."""
    folder = tmp_path_factory.mktemp("library")
    photos = folder / "photos"
    photos.mkdir()
    for name in SKIMAGE:
        shutil.copy(PHOTOS / name, photos)
    for number, hostile in enumerate(HOSTILE + [b"plain %d.png" % number for number in range(PLAIN)]):
        pixels = np.random.default_rng(number).integers(0, 255, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(os.fsdecode(os.path.join(os.fsencode(photos), hostile)), "PNG")
    (photos / "half.jpg").write_bytes((PHOTOS / "rocket.jpg").read_bytes()[:60_000])
    ran = cli("index", "photos", "--model", "builtin", cwd=folder)
    assert ran.code == 0, ran.err
    return folder


@pytest.fixture
def own(library: Path, cli: Cli, tmp_path: Path) -> Path:
    """A library of one's own, whose files may be changed."""
    shutil.copytree(library, tmp_path / "library")
    ran = cli("reroot", library / "photos", tmp_path / "library" / "photos", cwd=tmp_path / "library")
    assert ran.code == 0, ran.err
    return tmp_path / "library"


@contextmanager
def client_of(folder: Path, cache: Path) -> Iterator[TestClient]:
    """A client of a new server, whose thumbnails are kept below `cache`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(cache))
        service = Service(Library.open(folder / "index", serving=True), may_index=False)
        with TestClient(application(service, POLICY), base_url="http://127.0.0.1") as client:
            assert client.portal is not None
            client.portal.call(service.start)
            yield client
        service.close()


@pytest.fixture(scope="module")
def client(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client_of(library, tmp_path_factory.mktemp("cache")) as client:
        yield client


def ids(client: TestClient, query: str = "a cat") -> dict[str, int]:
    """The id of each image by its file's name."""
    hits = client.get("/api/v1/search", params={"q": query, "k": 100}).json()["hits"]
    return {os.path.basename(hit["path"]): hit["id"] for hit in hits}


# In a browser


@pytest.fixture(scope="module")
def address(library: Path, cli: Cli) -> Iterator[str]:
    process = cli.start("serve", "--port", "0", cwd=library, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().decode().strip()
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with browser(tmp_path / "profile") as page:
        yield page


def names(page: Page) -> list[str]:
    found: list[str] = page.run("[...document.querySelectorAll('.name bdi')].map(each => each.textContent)")
    return found


def see_all(page: Page) -> list[list[int]]:
    """Scroll to each thumbnail, and wait for it; their sizes as announced and as loaded."""
    images = "[...document.querySelectorAll('.thumb img')]"
    page.run(f"{images}.forEach(each => each.loading = 'eager')")
    page.wait(lambda: page.run(f"{images}.every(each => each.complete)"))
    sizes: list[list[int]] = page.run(
        f"{images}.map(e => [+e.getAttribute('width'), +e.getAttribute('height'), e.naturalWidth, e.naturalHeight])"
    )
    return sizes


@pytest.mark.browser
@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without"])
def test_the_page_finds_more_and_similar_pictures(address: str, page: Page, scripts: bool) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=not scripts)
    page.open(address)
    page.wait(lambda: page.run("document.activeElement.name") == "q")
    page.call("Input.insertText", text="a cat")
    page.follow(lambda: page.press("Enter"))
    assert names(page)[0] == "chelsea.png" and page.run("document.title") == "a cat – clipsearch"
    sizes = see_all(page)
    assert len(sizes) == COUNT
    assert all(each[:2] == each[2:] for each in sizes), "the page knows them before"
    page.open(f"{address}?q=a+cat&k=3")
    first = names(page)
    page.follow(lambda: page.click("[rel=next]"))
    second = names(page)
    assert len(first) == len(second) == 3 and not set(first) & set(second)
    page.follow(lambda: page.click("[rel=prev]"))
    assert names(page) == first
    page.follow(lambda: page.click(".hit:nth-child(2) .alike a"))
    assert names(page)[0] == first[1] and page.run("document.querySelector('[type=search]').value").startswith("id:")
    page.follow(lambda: page.click("h1 a"))
    assert page.run("location.href") == address
    assert page.complaints == []
    assert {request.startswith(address) for request in page.requests} == {True}


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [240, 390, 1280, 2560])
def test_the_page_fits_every_window(address: str, page: Page, width: int, dark: bool) -> None:
    page.size(width, 900, dark=dark)
    for query in ("", "?q=a+cat&page=2&k=5", f"?q={'a' * 1900}", "?q=id:99999", "?q=a&k=0"):
        page.open(address + query)
        assert page.run("document.documentElement.scrollWidth <= innerWidth"), query
        faint = page.run(CONTRAST)
        assert not faint, (query, faint)
        small = page.run(
            "[...document.querySelectorAll('a, button, label')]"
            ".filter(e => e.getBoundingClientRect().height < 24).map(e => e.outerHTML.slice(0, 80))"
        )
        assert not small, (query, small)
    assert [each for each in page.complaints if "status of 4" not in each] == []


CONTRAST = """(() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = e => {
    for (; e; e = e.parentElement) {
      const colour = channels(getComputedStyle(e).backgroundColor);
      if (colour.length === 3) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('body *')].filter(e =>
    e.checkVisibility() && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())
  ).map(e => {
    const [a, b] = [light(channels(getComputedStyle(e).color)), light(ground(e))];
    return [e.outerHTML.slice(0, 80), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  }).filter(([, ratio]) => ratio < 4.5);
})()"""
"""The elements whose text has less contrast than WCAG 2 AA asks for, with the ratio."""


# As a program sees it


def test_no_name_gets_out_of_its_place(client: TestClient) -> None:
    answer = client.get("/", params={"q": "</title><script>alert(1)</script>\x1b\u202e", "k": 100})
    page = Outline(answer.text)
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    assert not page.all("script") and not page.all("style")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", answer.text)
    assert [name for _, attributes in page.elements for name in attributes if name.startswith("on")] == []
    assert not [attributes for _, attributes in page.elements if "style" in attributes]
    assert "<script>alert(1)<&lt;.png" in page.text and "\\x1b[31mred.png" in page.text
    links = [each.get("href") or each.get("src") or each.get("action") or "" for _, each in page.elements]
    assert all(
        re.match(r"$|\./$|assets/[a-z.]+$|api/v1/images/\d+/(file|thumbnail\?side=320)$|\?q=", each) for each in links
    )


def test_everything_a_visitor_needs_has_a_name(client: TestClient) -> None:
    answer = client.get("/", params={"q": "a cat"})
    page = Outline(answer.text)
    assert [attributes["lang"] for attributes in page.all("html")] == ["en"]
    for landmark in ("header", "main", "h1", "h2"):
        assert len(page.all(landmark)) == 1, landmark
    assert page.all("form")[0]["role"] == "search"
    alts = [each["alt"] or "" for each in page.all("img")]
    assert alts[0].startswith("chelsea.png, 2009-02-09 (recognised: Egyptian Mau")
    assert all(alts) and page.text.count("not CLIP") == 1
    assert "truncated file" in page.text and "score 0.5" in page.text


def test_filters_travel_with_the_search(client: TestClient) -> None:
    page = Outline(client.get("/", params={"q": "é & b", "k": 2, "format": ["PNG", "JPEG"], "relevant": "false"}).text)
    hidden = [(each["name"], each["value"]) for each in page.all("input") if each["type"] == "hidden"]
    assert hidden == [("k", "2"), ("format", "PNG"), ("format", "JPEG")]
    (following,) = [each["href"] or "" for each in page.all("a") if each.get("rel") == "next"]
    assert parse_qs(urlsplit(following).query) == {
        "q": ["é & b"], "k": ["2"], "format": ["PNG", "JPEG"], "relevant": ["false"], "page": ["2"],
    }  # fmt: skip
    assert client.get(f"/{following}").status_code == 200


def test_the_switch_shows_relevant_pictures_only(client: TestClient) -> None:
    def ask(query: str, **parameters: str) -> tuple[Outline, bool]:
        page = Outline(client.get("/", params={"q": query, "k": "100", **parameters}).text)
        return page, any("checked" in each for each in page.all("input"))

    everything, on = ask("a cat")
    assert not on and len(everything.all("img")) == COUNT
    relevant, on = ask("a cat", relevant="true")
    api = client.get("/api/v1/search", params={"q": "a cat", "k": 100, "relevant": "true"}).json()
    assert on and len(relevant.all("img")) == len(api["hits"])
    assert all(notice in relevant.text for notice in api["notices"])
    none, on = ask("id:1", relevant="true", name="no such name")
    (link,) = [each["href"] or "" for each in none.all("a") if "relevant=false" in (each["href"] or "")]
    assert on and "Try other words" in none.text and client.get(f"/{link}").status_code == 200


def test_where_there_is_nothing_the_page_says_what_to_do(client: TestClient) -> None:
    for parameters in ({}, {"q": ""}, {"q": "", "relevant": "true"}):
        assert "Describe what the picture shows" in Outline(client.get("/", params=parameters).text).text
    last = Outline(client.get("/", params={"q": "a cat", "page": "9"}).text)
    assert "no more pictures" in last.text
    assert [each.get("rel") for each in last.all("a") if "rel" in each] == ["prev"]
    assert "No pictures found" in Outline(client.get("/", params={"q": "a", "name": "nothing"}).text).text
    assert "were ignored" in Outline(client.get("/", params={"q": "cat " * 400}).text).text


@pytest.mark.parametrize(
    ("parameters", "status", "text"),
    [
        ({"q": "id:99999"}, 400, "id:99999"),
        ({"q": "a", "k": "0"}, 422, "k: "),
        ({"q": "a", "k": "1001"}, 422, "k: "),
        ({"q": "a", "page": "<b>"}, 422, "page: "),
        ({"q": "a", "nonsense": "1"}, 400, "nonsense: "),
        ({"q": "a", "taken": "<i>"}, 400, "<i>"),
        ({"q": "a", "relevant": "true", "without": "b"}, 400, "relevant"),
    ],
)
def test_a_search_that_fails_says_why(client: TestClient, parameters: dict[str, str], status: int, text: str) -> None:
    answer = client.get("/", params=parameters)
    page = Outline(answer.text)
    assert answer.status_code == status and answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "The search failed" in page.text and text in page.text
    assert not page.all("i") and not page.all("b")
    assert page.all("input")[0]["value"] == parameters["q"], "to be corrected"
    api = client.get("/api/v1/search", params=parameters)
    assert api.status_code == status and api.json()["detail"] in page.text


def test_the_searches_that_wait_for_the_model_are_bounded(library: Path) -> None:
    async def visit() -> None:
        service = Service(Library.open(library / "index", serving=True), may_index=False)
        transport = httpx.ASGITransport(application(service, POLICY))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            asked = [asyncio.create_task(client.get("/api/v1/search", params={"q": "a cat"})) for _ in range(200)]
            refused, waiting = await asyncio.wait(asked, timeout=2)
            assert {task.result().status_code for task in refused} == {503}
            assert 0 < len(waiting) < 100
            service.start()
            assert {(await task).status_code for task in waiting} == {200}
        service.close()

    asyncio.run(visit())


def test_a_model_that_fails_to_load_is_reported(library: Path) -> None:
    class Broken(Library):
        def warm_up(self) -> None:
            raise RuntimeError

    service = Service(Broken.open(library / "index", serving=True), may_index=False)

    async def visit() -> None:
        service.start()
        await service.wait_for_model()
        assert (service.model, service.model_reason) == ("failed", "unexpected RuntimeError")

    asyncio.run(visit())
    service.close()


def test_the_page_is_there_before_the_model(library: Path) -> None:
    async def visit() -> None:
        service = Service(Library.open(library / "index", serving=True), may_index=False)
        transport = httpx.ASGITransport(application(service, POLICY))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            search = asyncio.create_task(client.get("/", params={"q": "a cat"}))
            assert "still loading" in (await client.get("/")).text
            assert not search.done()
            service.start()
            assert "chelsea.png" in (await search).text
            assert "still loading" not in (await client.get("/")).text
        service.close()

    asyncio.run(visit())


def test_the_files_of_the_page_can_be_kept(client: TestClient) -> None:
    page = Outline(client.get("/").text)
    files = [each["href"] or "" for each in page.all("link")]
    assert len(files) == 4
    for name in files:
        answer = client.get(f"/{name}")
        assert answer.status_code == 200 and answer.headers["cache-control"] == "private, no-cache"
        assert answer.headers["content-type"] in ("text/css; charset=utf-8", "image/svg+xml")
        again = client.get(f"/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    for name in ("nothing.css", "../pages.py", "..%2fpages.py", "page.css%00", "", "%2e%2e/serve/pages.py"):
        assert client.get(f"/assets/{name}").status_code == 404, name


# Thumbnails over HTTP


def test_a_thumbnail_is_sent_once(client: TestClient) -> None:
    number = ids(client)["chelsea.png"]
    place = f"/api/v1/images/{number}/thumbnail"
    first = client.get(place)
    assert first.status_code == 200 and first.headers["content-type"] == "image/jpeg"
    assert first.content[:2] == b"\xff\xd8" and first.headers["cache-control"] == "private, no-cache"
    tag = first.headers["etag"]
    assert re.fullmatch('"[!-~]+"', tag)
    for tags in (tag, f"W/{tag}", f'"a", {tag}', "*"):
        again = client.get(place, headers={"If-None-Match": tags})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(place, headers={"If-None-Match": '"other"'}).content == first.content
    sizes = {side: client.get(place, params={"side": side}) for side in (160, 320, 640, 1600)}
    assert len({answer.headers["etag"] for answer in sizes.values()}) == 4
    assert sizes[320].content == first.content
    assert [_size(answer.content) for answer in sizes.values()] == [(160, 106), (320, 213), (451, 300), (451, 300)]


def _size(data: bytes) -> tuple[int, int]:
    import io

    return Image.open(io.BytesIO(data)).size


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("99999/thumbnail", 404),
        (f"{2**63 - 1}/thumbnail", 404),
        (f"{2**63}/thumbnail", 422),
        ("0/thumbnail", 422),
        ("-1/thumbnail", 422),
        ("x/thumbnail", 422),
        ("1/thumbnail?side=0", 422),
        ("1/thumbnail?side=321", 422),
        ("1/thumbnail?side=1e9", 422),
        ("1/thumbnail?side=", 422),
    ],
)
def test_a_thumbnail_that_cannot_be_is_a_problem(client: TestClient, path: str, status: int) -> None:
    answer = client.get(f"/api/v1/images/{path}")
    assert answer.status_code == status and answer.headers["content-type"] == "application/problem+json"
    assert "etag" not in answer.headers


def test_files_that_are_gone_have_the_thumbnails_made_before(own: Path, tmp_path: Path) -> None:
    with client_of(own, tmp_path / "first") as client:
        numbers = ids(client)
        seen, unseen, changed = (f"/api/v1/images/{numbers[name]}/thumbnail" for name in SKIMAGE[:3])
        made = client.get(seen)
        assert client.get(unseen).status_code == 200
    for name in SKIMAGE[:2]:
        (own / "photos" / name).unlink()
    draw(own / "photos" / SKIMAGE[2])
    with client_of(own, tmp_path / "second") as client:
        gone = client.get(unseen)
        assert gone.status_code == 404 and "no such file" in gone.json()["detail"]
        assert "changed" in client.get(changed).json()["detail"]
        assert client.get(seen, headers={"If-None-Match": made.headers["etag"]}).status_code == 304
        shutil.copy(PHOTOS / SKIMAGE[0], own / "photos")
        assert client.get(seen).content == made.content
        (own / "photos" / SKIMAGE[0]).unlink()
        assert client.get(seen).content == made.content
        page = Outline(client.get("/", params={"q": "a person", "k": 100}).text)
        shown = [(each["alt"] or "").partition(",")[0].partition(" (")[0] for each in page.all("img")]
        assert SKIMAGE[0] in shown and SKIMAGE[1] not in shown and len(shown) == COUNT - 1
        assert f"offline: {SKIMAGE[1]}" in page.text
        links = [each.get("href") for each in page.all("a") if each.get("class") == "thumb"]
        assert links.count(None) == 2, "an original that is gone cannot be opened"
    with client_of(own, tmp_path / "first") as client:  # After a restart, both are on disk.
        assert client.get(seen).content == made.content
        assert client.get(unseen).status_code == 200


def test_many_requests_for_a_new_thumbnail_decode_it_once(client: TestClient) -> None:
    """More would be refused than the six that may decode or wait for it."""
    place = f"/api/v1/images/{ids(client)['rocket.jpg']}/thumbnail?side=1600"
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: client.get(place), range(20)))
    assert {answer.status_code for answer in answers} == {200} and len({answer.content for answer in answers}) == 1


@pytest.mark.parametrize("count", [64, 72])
def test_a_page_of_new_thumbnails_may_be_asked_for_at_once(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """As a proxy with HTTP/2 does; up to 64 wait, and more are refused for now."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    sides = itertools.product(range(1, COUNT + 1), (160, 320, 640, 1600))
    places = [f"/api/v1/images/{number}/thumbnail?side={side}" for number, side in sides][:count]

    async def visit() -> None:
        service = Service(Library.open(library / "index", serving=True), may_index=False)
        transport = httpx.ASGITransport(application(service, POLICY))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            answers = await asyncio.gather(*map(client.get, places))
            refused = [answer for answer in answers if answer.status_code != 200]
            assert len(places) == count and len(refused) <= count - 64
            for answer in refused:
                assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
                assert (await client.get(str(answer.url))).status_code == 200
        service.close()

    asyncio.run(visit())
