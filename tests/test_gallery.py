"""The gallery: one page that needs nothing but itself, whatever the images are called."""

from __future__ import annotations

import base64
import html.parser
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import skimage
from browser import Page, browser
from PIL import Image, ImageChops, ImageCms, ImageColor, ImageStat

from clipsearch.display.html.gallery import write_gallery
from clipsearch.errors import ClipsearchError, UsageError
from clipsearch.types import EncoderInfo, Hit, Preprocess, QueryResult, Seen

PHOTOS = Path(skimage.__file__).parent / "data"
CLIP = EncoderInfo("ViT-B-32-256/datacomp_s34b_b86k", "00", 512, 100.0, None, Preprocess(256))
HOSTILE = [
    b'"><img src=x onerror=alert(1)>.png',
    b"<script>alert(1)<&lt;.png",
    b"new\nline\ttab.png",
    b"\x1b[31mred.png",
    b"caf\xe9 % # ? &.png",
    "\u202egnp.exe.png".encode(),
    "犬 🐕 é'.png".encode(),
    b"]]>--><!-- {{}} javascript:alert(1).png",
]


def hit(path: Path | str, number: int = 1, **changes: object) -> Hit:
    name = os.fsdecode(path)
    plain = Hit(number, name, (name,), 0.25, 123_456, "PNG", 40, 30, "2021-05-03T14:02:11", "ok", False)
    return replace(plain, **changes)  # type: ignore[arg-type]


def answer(*hits: Hit, query: str = "a cat", model: EncoderInfo = CLIP, notices: tuple[str, ...] = ()) -> QueryResult:
    return QueryResult(query, model, hits, notices)


def write(result: QueryResult) -> str:
    stream = io.StringIO()
    write_gallery(result, stream)
    return stream.getvalue()


class Outline(html.parser.HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def thumbnail(attributes: dict[str, str | None]) -> Image.Image:
    source = attributes["src"] or ""
    assert source.startswith("data:image/jpeg;base64,")
    return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2], validate=True)))


def photograph(name: str) -> Image.Image:
    """In sRGB, as Pillow's own colour management sees it."""
    photo = Image.open(PHOTOS / name)
    profile = photo.info.get("icc_profile")
    if profile:
        inside, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(photo, inside, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    return photo.convert("RGB")


# What the page says and shows


def test_thumbnails_are_the_pictures_in_the_order_of_the_hits() -> None:
    names = ["chelsea.png", "rocket.jpg", "coffee.png", "astronaut.png", "color.png", "page.png"]
    page = Outline(write(answer(*(hit(PHOTOS / name) for name in names))))
    images = page.all("img")
    assert [image["alt"] for image in images] == names
    for name, image in zip(names, images, strict=True):
        small = thumbnail(image)
        assert max(small.size) <= 320 and small.size == (int(image["width"] or 0), int(image["height"] or 0))
        photo = photograph(name).resize(small.size, Image.Resampling.BICUBIC)
        assert max(ImageStat.Stat(ImageChops.difference(small, photo)).mean) < 8, name


def test_a_hit_shows_what_is_known_of_it() -> None:
    one = hit(
        PHOTOS / "chelsea.png",
        score=0.3125,
        relevance=0.83,
        explain=(Seen("tabby", 0.7), Seen("tiger cat", 0.2)),
        paths=(str(PHOTOS / "chelsea.png"), "/copy/<b>.png", "/copy/c.png"),
        width=4000,
        height=3000,
        bytes=3_210_000,
    )
    page = Outline(write(answer(one, notices=("the text is <too> long",))))
    for text in (
        "a cat",
        CLIP.spec,
        "0.312",
        "strength 0.83",
        "2021-05-03",
        "14:02:11",
        "3.21 MB",
        "4000 × 3000",
        "tabby",
    ):
        assert text in page.text, text
    assert "3 copies" in page.text and "/copy/<b>.png" in page.text
    assert "the text is <too> long" in page.text
    assert page.all("img")[0]["alt"] == "chelsea.png (recognised: tabby, tiger cat)"
    assert "not CLIP" not in page.text
    assert "not CLIP" in write(answer(one, model=replace(CLIP, spec="builtin", is_clip=False)))


def test_relevance_stands_only_where_it_is_known() -> None:
    unknown = Outline(write(answer(hit(PHOTOS / "chelsea.png")))).text.lower()
    assert "score 0.250 ·" in unknown and "strength" not in unknown
    known = Outline(write(answer(hit(PHOTOS / "chelsea.png", relevance=0.5)))).text
    assert "score 0.250 ·\nstrength 0.50\n" in known and "0.50 (how far it stands out" in known


def test_what_cannot_be_shown_has_its_place_and_its_reason(tmp_path: Path) -> None:
    broken, half = tmp_path / "broken.jpg", tmp_path / "half.jpg"
    broken.write_bytes(b"no picture at all")
    half.write_bytes((PHOTOS / "rocket.jpg").read_bytes()[:60_000])
    page = Outline(
        write(
            answer(
                hit(broken),
                hit(tmp_path / "gone.jpg", offline=True),
                hit(half, state="partial"),
                hit(tmp_path / "gone.jpg", paths=(str(tmp_path / "gone.jpg"), str(PHOTOS / "chelsea.png"))),
                hit(tmp_path),
            )
        )
    )
    assert [each["aria-label"] for each in page.all("span") if each.get("role") == "img"] == [
        "broken.jpg, not shown: not a picture in any known format",
        "gone.jpg, not shown: offline",
        f"{tmp_path.name}, not shown: not a regular file",
    ]
    shown = page.all("img")
    assert [image["alt"] for image in shown] == ["half.jpg", "gone.jpg"]
    links = [each["href"] for each in page.all("a") if each.get("class") == "thumb"]
    assert links[3] == (PHOTOS / "chelsea.png").as_uri()  # the copy that is there
    rocket = photograph("rocket.jpg").resize((320, 214))
    top = ImageChops.difference(thumbnail(shown[0]).resize(rocket.size), rocket).crop((0, 0, 320, 60))
    assert max(ImageStat.Stat(top).mean) < 8
    assert "truncated file" in page.text and "offline" in page.text


def test_no_hit_is_said() -> None:
    assert "No pictures found" in Outline(write(answer())).text


def test_no_name_gets_out_of_its_place(tmp_path: Path) -> None:
    paths = [tmp_path / os.fsdecode(name) for name in HOSTILE]
    for path in paths:
        Image.new("RGB", (8, 8), "red").save(path, "PNG")
    plain = Outline(write(answer(*(hit(tmp_path / f"{number}.png") for number in range(len(paths))), notices=("n",))))
    for hits in ([hit(path) for path in paths], [hit(path, explain=(Seen("<i>&\"'", 1),)) for path in paths]):
        text = write(answer(*hits, query="</title><script>alert(1)</script>\udcff", notices=("<b>",)))
        page = Outline(text)
        text.encode()  # No surrogate is left.
        assert len(page.all("script")) == len(plain.all("script")) == 1
        assert {tag for tag, _ in page.elements} <= {tag for tag, _ in plain.elements} | {"img"}
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
        handlers = [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
        assert handlers == []
        links = [each["href"] or "" for each in page.all("a") if each.get("class") == "thumb"]
        assert [os.fsencode(path) for path in paths] == [_path_of(link) for link in links]


def _path_of(link: str) -> bytes:
    from urllib.parse import unquote_to_bytes, urlsplit

    parts = urlsplit(link)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("file", "", "", "")
    return unquote_to_bytes(parts.path)


def test_a_page_refers_to_nothing_but_originals_on_this_machine() -> None:
    page = Outline(write(answer(hit(PHOTOS / "chelsea.png", relevance=1.0))))
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            value = attributes.get(name) or "#"
            assert value == "#" or value.startswith(("data:image/jpeg;base64,", "file:///")), (tag, value)
    assert not re.search(r"url\(|@import|https?:", write(answer(hit(PHOTOS / "chelsea.png"))))


# The file


def test_a_gallery_is_replaced_whole_and_no_other_file_is(tmp_path: Path) -> None:
    page = tmp_path / "cats.html"
    write_gallery(answer(hit(PHOTOS / "chelsea.png")), page)
    before = page.read_bytes()
    write_gallery(answer(hit(PHOTOS / "rocket.jpg")), page)
    assert b"rocket.jpg" in page.read_bytes() != before
    photo = shutil.copy2(PHOTOS / "rocket.jpg", tmp_path / "photo.jpg")
    kept = photo.read_bytes()
    with pytest.raises(UsageError, match=r"photo\.jpg exists and is not a clipsearch gallery"):
        write_gallery(answer(hit(PHOTOS / "chelsea.png")), photo)
    with pytest.raises(UsageError, match="is a folder"):
        write_gallery(answer(), tmp_path)
    assert photo.read_bytes() == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cats.html", "photo.jpg"]


def test_a_stopped_run_leaves_the_former_gallery_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "cats.html"
    write_gallery(answer(hit(PHOTOS / "chelsea.png")), page)
    before = page.read_bytes()

    def stop(written: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_gallery(answer(hit(PHOTOS / "rocket.jpg"), hit(PHOTOS / "rocket.jpg")), page, progress=stop)
    assert page.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["cats.html"]


def test_a_link_to_a_gallery_stays_one_and_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    (tmp_path / "link.html").symlink_to(tmp_path / "real.html")
    before = os.umask(0o027)
    try:
        write_gallery(answer(), tmp_path / "link.html")
    finally:
        os.umask(before)
    assert (tmp_path / "link.html").is_symlink()
    assert (tmp_path / "real.html").stat().st_mode & 0o777 == 0o640


def test_where_it_cannot_be_written_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ClipsearchError, match=r"cannot write the gallery .*none/a\.html: no such file or directory"):
        write_gallery(answer(), tmp_path / "none" / "a.html")
    with pytest.raises(ClipsearchError, match="cannot write the gallery /dev/full: no space left on device"):
        write_gallery(answer(), "/dev/full")


MEMORY = """
import resource, sys
from clipsearch.display.html.gallery import write_gallery
from clipsearch.types import EncoderInfo, Hit, Preprocess, QueryResult
path, count = sys.argv[1], int(sys.argv[2])
model = EncoderInfo("x", "00", 8, 1.0, None, Preprocess(8))
hits = tuple(Hit(n, path, (path,), 0.3, 4, "JPEG", 1, 1, None, "ok", False) for n in range(count))
told = []
write_gallery(QueryResult("q", model, hits), sys.argv[3], progress=told.append)
assert told == list(range(1, count + 1))
sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


def test_memory_does_not_grow_with_the_hits(tmp_path: Path) -> None:
    Image.effect_noise((320, 320), 100).convert("RGB").save(tmp_path / "noise.png")
    peaks = []
    for count in (20, 600):
        page = tmp_path / f"{count}.html"
        command = [sys.executable, "-c", MEMORY, str(tmp_path / "noise.png"), str(count), str(page)]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert page.stat().st_size > 25_000_000
    assert peaks[1] - peaks[0] < 12_000  # KiB


# In a browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of 100 hits: photographs, hostile names, and files that cannot be shown."""
    folder = tmp_path_factory.mktemp("hundred")
    names = ["chelsea.png", "rocket.jpg", "coffee.png", "astronaut.png", "brick.png", "text.png", "camera.png"]
    hits = []
    for number in range(1, 101):
        path = PHOTOS / names[number % len(names)]
        relevance = max(0.0, 1 - number / 80)
        hits.append(hit(path, number, score=0.4 - number / 500, relevance=relevance, explain=(Seen("tabby", 0.5),)))
    for place, name in enumerate(HOSTILE, 10):
        path = folder / os.fsdecode(name)
        Image.new("RGB", (300, 200), (20 * place, 90, 120)).save(path, "PNG")
        hits[place] = hit(path, place + 1, paths=(str(path), str(folder / "copy.png")))
    hits[3] = hit(folder / "gone.jpg", 4, offline=True)
    hits[5] = replace(hits[5], state="partial")
    page = folder / "gallery.html"
    write_gallery(answer(*hits, query="a <cat> & “friends”", notices=("one notice",)), page)
    return page


@pytest.fixture
def opened(chromium: Page, hundred: Path) -> Page:
    chromium.size(1280, 900)
    chromium.open(hundred)
    chromium.requests.clear()
    chromium.complaints.clear()
    chromium.opened.clear()
    return chromium


FOCUS = "[...document.querySelectorAll('.thumb')].indexOf(document.activeElement)"


@pytest.mark.browser
def test_a_hundred_hits_load_without_a_word_and_without_a_request(chromium: Page, hundred: Path) -> None:
    chromium.size(1280, 900)
    chromium.requests.clear()
    chromium.open(hundred)
    shown = chromium.run(
        "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth > 1, () => false)))"
    )
    assert len(shown) == 99 and all(shown)
    asked = [url for url in chromium.requests if not url.startswith("data:image/jpeg;base64,")]
    assert asked == [hundred.as_uri()]
    assert chromium.complaints == []
    assert chromium.run("document.querySelector('h1').textContent") == "a <cat> & “friends”"


@pytest.mark.browser
def test_the_policy_stops_whatever_else_would_run_or_load(opened: Page) -> None:
    opened.run(
        "new Promise(done => { const image = new Image(); image.onerror = done; image.src = 'https://example.org/a.png';"
        "document.body.append(image); const script = document.createElement('script');"
        "script.textContent = 'window.ran = true'; document.body.append(script) })"
    )
    assert opened.run("window.ran") is None
    assert len([text for text in opened.complaints if "Content Security Policy" in text]) == 2


@pytest.mark.browser
@pytest.mark.parametrize("shape", [(100, 300), (300, 100), (200, 200)])
@pytest.mark.parametrize("large", [False, True])
def test_a_picture_is_seen_whole(chromium: Page, tmp_path: Path, shape: tuple[int, int], large: bool) -> None:
    width, height = shape
    image = Image.new("RGB", shape, "white")
    edges = {"red": (0, 0, width, 20), "lime": (0, height - 20, width, height)}
    edges |= {"blue": (0, 20, 20, height - 20), "magenta": (width - 20, 20, width, height - 20)}
    for colour, box in edges.items():
        image.paste(colour, box)
    image.save(tmp_path / "framed.png")
    write_gallery(answer(hit(tmp_path / "framed.png")), tmp_path / "page.html")
    chromium.size(800, 700)
    chromium.open(tmp_path / "page.html")
    if large:
        chromium.press("ArrowRight", " ")
        chromium.wait(lambda: chromium.run("document.querySelector('#stage img').src.startsWith('file:')"))
        chromium.run("document.querySelector('#stage img').decode().then(() => 1)")
    shot = Image.open(io.BytesIO(chromium.screenshot())).convert("RGB")
    counts = dict.fromkeys(edges, 0)
    for count, colour in shot.getcolors(1 << 24) or []:
        for name in edges:
            off = [abs(a - b) for a, b in zip(colour, ImageColor.getrgb(name), strict=False)]
            counts[name] += count if max(off) < 60 else 0
    for name, (left, top, right, bottom) in edges.items():
        share = counts[name] / sum(counts.values())
        frame = 2 * 20 * width + 2 * 20 * (height - 40)
        assert share == pytest.approx((right - left) * (bottom - top) / frame, abs=0.04), name


@pytest.mark.browser
def test_keys_move_through_the_pictures(opened: Page) -> None:
    across = opened.run(
        "(t => t.filter(e => e.getBoundingClientRect().top === t[0].getBoundingClientRect().top).length)"
        "([...document.querySelectorAll('.thumb')])"
    )
    assert across >= 4
    opened.press("ArrowRight")
    assert opened.run(FOCUS) == 0
    steps = {"ArrowRight": 1, "ArrowDown": 1 + across, "ArrowLeft": across, "ArrowUp": 0, "End": 99, "Home": 0}
    for key, place in steps.items():
        opened.press(key)
        assert opened.run(FOCUS) == place, key
    opened.press("ArrowUp", "ArrowLeft")
    assert opened.run(FOCUS) == 0
    opened.press("End", "ArrowDown", "ArrowRight")
    assert opened.run(FOCUS) == 99
    in_view = opened.run("(b => b.top >= 0 && b.bottom <= innerHeight)(document.activeElement.getBoundingClientRect())")
    assert in_view
    assert opened.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert opened.complaints == []


@pytest.mark.browser
def test_a_large_view_shows_the_original_and_all_that_is_known(opened: Page) -> None:
    opened.press("ArrowRight", " ")
    assert opened.run("document.getElementById('large').open")
    opened.wait(lambda: opened.run("document.querySelector('#stage img').naturalWidth") == 640)  # rocket.jpg
    told = "document.getElementById('details').innerText"
    assert "rocket.jpg" in opened.run(told) and str(PHOTOS / "rocket.jpg") in opened.run(told)
    opened.press("ArrowRight")
    assert "coffee.png" in opened.run(told)
    opened.press("ArrowRight", "ArrowRight")
    assert opened.run("document.querySelector('#stage').innerText") == "offline"
    opened.press("Escape")
    assert not opened.run("document.getElementById('large').open")
    opened.wait(lambda: opened.run(FOCUS) == 3)
    opened.click(".hit:nth-child(11) .thumb")
    assert opened.run("document.querySelector('#details h2').textContent") == os.fsdecode(HOSTILE[0])
    opened.click("#large .close")
    opened.wait(lambda: opened.run(FOCUS) == 10)
    assert opened.complaints == []


@pytest.mark.browser
def test_enter_opens_the_original_from_the_grid_and_from_the_large_view(opened: Page) -> None:
    opened.press("ArrowRight", "Enter")
    opened.wait(lambda: opened.run("1") and (PHOTOS / "rocket.jpg").as_uri() in opened.opened)
    opened.press(" ", "ArrowRight", "Enter")
    opened.wait(lambda: opened.run("1") and (PHOTOS / "coffee.png").as_uri() in opened.opened)
    assert opened.run("document.getElementById('large').open")


@pytest.mark.browser
def test_the_keys_are_told(opened: Page) -> None:
    opened.press("?")
    assert opened.run("document.getElementById('keys').open")
    assert "the original file" in opened.run("document.getElementById('keys').innerText")
    opened.press("ArrowRight", "Escape")
    assert not opened.run("document.getElementById('keys').open")
    opened.click("#help")
    assert opened.run("document.getElementById('keys').open")
    opened.press("?")
    assert not opened.run("document.getElementById('keys').open")


CONTRAST = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const part = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const ground = (e) => {
    const own = getComputedStyle(e).backgroundColor;
    return own !== "rgba(0, 0, 0, 0)" ? own : e.parentElement ? ground(e.parentElement) : "rgb(255, 255, 255)";
  };
  const found = {};
  const texts = "h1 .about .name .rank .where .facts .mark.warn .none button";
  for (const s of texts.split(" ")) {
    const e = document.querySelector(s);
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    found[s] = (a + 0.05) / (b + 0.05);
  }
  return found;
})()
"""


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280, 2400])
def test_it_is_readable_light_and_dark_on_any_width(opened: Page, dark: bool, width: int) -> None:
    opened.size(width, 800, dark=dark)
    contrast = opened.run(CONTRAST)
    assert min(contrast.values()) >= 4.5, contrast  # WCAG 2.2, 1.4.3
    assert opened.run("document.documentElement.scrollWidth") <= width
    shot = Image.open(io.BytesIO(opened.screenshot())).convert("L")
    corner = shot.crop((0, 0, 5, 800))
    assert (ImageStat.Stat(corner).mean[0] < 60) == dark
