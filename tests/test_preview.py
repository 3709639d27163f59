"""Images in the terminal: which way a terminal gets, and that what is sent draws the image."""

from __future__ import annotations

import base64
import io
import os
import pty
import re
import struct
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
import skimage
from PIL import Image, ImageChops, ImageStat

from clipsearch.display import terminal as preview
from clipsearch.types import Hit

PHOTOS = Path(skimage.__file__).parent / "data"


def hit(path: Path) -> Hit:
    return Hit(1, str(path), (str(path),), 0.3, 4, "JPEG", 1, 1, None, "ok", False)


@pytest.fixture
def nine() -> Image.Image:
    """3 × 3 pixels, so a half block's lower half is missing."""
    image = Image.new("RGB", (3, 3))
    rows = [
        ((255, 0, 0), (255, 0, 0), (0, 0, 255)),
        ((0, 255, 0), (0, 255, 0), (10, 20, 30)),
        ((128, 128, 128), (1, 2, 3), (250, 250, 250)),
    ]
    for y, row in enumerate(rows):
        for x, colour in enumerate(row):
            image.putpixel((x, y), colour)
    return image


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getbbox() is None


# What was recorded

KITTY_NINE = (
    "\x1b_Ga=T,f=100,q=2,c=3,m=0;"
    "iVBORw0KGgoAAAANSUhEUgAAAAMAAAADCAIAAADZSiLoAAAAIUlEQVR4nGP4z8Dwn4GBgeE/FHGJyDE0NDQwMjH/+vULAIFlCaxqiJ5ZAAAAAElFTkSu"
    "QmCC\x1b\\\n"
)
ITERM2_NINE = (
    "\x1b]1337;File=inline=1;size=90;width=3;height=auto;preserveAspectRatio=1:"
    "iVBORw0KGgoAAAANSUhEUgAAAAMAAAADCAIAAADZSiLoAAAAIUlEQVR4nGP4z8Dwn4GBgeE/FHGJyDE0NDQwMjH/+vULAIFlCaxqiJ5ZAAAAAElFTkSu"
    "QmCC\x07\n"
)
BLOCKS_NINE = (
    "\x1b[0;38;2;255;0;0;48;2;0;255;0m▀▀\x1b[0;38;2;0;0;255;48;2;10;20;30m▀\x1b[0m\n"
    "\x1b[0;38;2;128;128;128m▀\x1b[0;38;2;1;2;3m▀\x1b[0;38;2;250;250;250m▀\x1b[0m\n"
)
BLOCKS256_NINE = (
    "\x1b[0;38;5;196;48;5;46m▀▀\x1b[0;38;5;21;48;5;233m▀\x1b[0m\n"
    "\x1b[0;38;5;244m▀\x1b[0;38;5;16m▀\x1b[0;38;5;231m▀\x1b[0m\n"
)


def from_kitty(text: str) -> tuple[dict[str, str], Image.Image]:
    """The keys of the first chunk, and the image; holds the whole of `text` to the protocol."""
    assert text.endswith("\n")
    chunks = re.findall(r"\x1b_G([^;]*);([A-Za-z0-9+/=]*)\x1b\\", text)
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in chunks) == text[:-1]
    assert all(0 < len(data) <= 4096 for _, data in chunks)
    assert all(len(data) % 4 == 0 for _, data in chunks)
    more = [dict(pair.split("=") for pair in keys.split(","))["m"] for keys, _ in chunks]
    assert more == ["1"] * (len(chunks) - 1) + ["0"]
    assert all(keys == f"m={last}" for (keys, _), last in zip(chunks[1:], more[1:], strict=True))
    data = base64.b64decode("".join(data for _, data in chunks), validate=True)
    return dict(pair.split("=") for pair in chunks[0][0].split(",")), Image.open(io.BytesIO(data))


def from_iterm2(text: str) -> tuple[dict[str, str], Image.Image]:
    found = re.fullmatch(r"\x1b\]1337;File=([^:]*):([A-Za-z0-9+/=]*)\x07\n", text)
    assert found is not None
    keys = dict(pair.split("=") for pair in found[1].split(";"))
    data = base64.b64decode(found[2], validate=True)
    assert int(keys["size"]) == len(data)
    return keys, Image.open(io.BytesIO(data))


def xterm_colour(number: int) -> tuple[int, int, int]:
    """Red, green and blue of the palette's colours from 16 on."""
    if number >= 232:
        return (8 + 10 * (number - 232),) * 3
    levels = (0, 95, 135, 175, 215, 255)
    return levels[(number - 16) // 36], levels[(number - 16) // 6 % 6], levels[(number - 16) % 6]


def from_blocks(text: str) -> Image.Image:
    """What a terminal paints: RGBA, two pixels high for each line, transparent where its own ground shows."""
    painted = []
    for line in text.splitlines():
        assert line.endswith("\x1b[0m")
        upper: list[tuple[int, ...]] = []
        lower: list[tuple[int, ...]] = []
        front = back = (0, 0, 0, 0)
        for escape, character in re.findall(r"\x1b\[([0-9;]*)m|([▀▄ ])", line):
            if character:
                upper.append(front if character == "▀" else back)
                lower.append(front if character == "▄" else back)
                continue
            codes = iter([int(code) for code in escape.split(";")])
            for code in codes:
                if code == 0:
                    front = back = (0, 0, 0, 0)
                    continue
                assert code in (38, 48)
                colour = (next(codes), next(codes), next(codes)) if next(codes) == 2 else xterm_colour(next(codes))
                front, back = ((*colour, 255), back) if code == 38 else (front, (*colour, 255))
        painted += [upper, lower]
    assert len({len(row) for row in painted}) == 1
    image = Image.new("RGBA", (len(painted[0]), len(painted)))
    for y, row in enumerate(painted):
        for x, colour in enumerate(row):
            image.putpixel((x, y), colour)
    return image


def test_recorded_sequences_still_draw_the_picture(nine: Image.Image) -> None:
    for protocol, recorded, read in (("kitty", KITTY_NINE, from_kitty), ("iterm2", ITERM2_NINE, from_iterm2)):
        keys, image = read(preview.render(nine, protocol, columns=3, rows=2, cell=(1, 2)))
        kept, _ = read(recorded)
        # Another zlib packs the same pixels otherwise.
        assert keys | {"size": ""} == kept | {"size": ""}
        assert same(image, nine)
    assert preview.render(nine, "blocks", columns=3, rows=2, cell=(1, 2)) == BLOCKS_NINE
    assert preview.render(nine, "blocks256", columns=3, rows=2, cell=(1, 2)) == BLOCKS256_NINE
    assert preview.render(nine, "none", columns=3, rows=2) == ""


def test_half_blocks_paint_the_pixels(nine: Image.Image) -> None:
    painted = from_blocks(BLOCKS_NINE)
    assert painted.size == (3, 4) and same(painted.crop((0, 0, 3, 3)), nine)
    assert {painted.getpixel((x, 3)) for x in range(3)} == {(0, 0, 0, 0)}


# Photographs


@pytest.mark.parametrize("name", ["chelsea.png", "rocket.jpg", "coffee.png"])
def test_a_photograph_arrives_in_chunks_and_in_shape(name: str) -> None:
    photo = Image.open(PHOTOS / name).convert("RGB")
    for protocol, read in (("kitty", from_kitty), ("iterm2", from_iterm2)):
        keys, image = read(preview.render(photo, protocol, columns=40, rows=100))
        assert image.size[0] == 400
        assert image.width / image.height == pytest.approx(photo.width / photo.height, rel=0.01)
        assert (keys.get("c"), keys.get("width")) == (("40", None) if protocol == "kitty" else (None, "40"))
        assert ("r" not in keys) if protocol == "kitty" else (keys["height"] == "auto")
        small = photo.resize(image.size, Image.Resampling.LANCZOS)
        assert max(ImageStat.Stat(ImageChops.difference(small, image)).mean) < 1.5


def test_a_high_picture_is_bounded_by_the_rows() -> None:
    tall = Image.linear_gradient("L").convert("RGB").resize((100, 1000))
    keys, image = from_kitty(preview.render(tall, "kitty", columns=40, rows=10))
    assert (keys["r"], image.size) == ("10", (20, 200)) and "c" not in keys
    keys, _ = from_iterm2(preview.render(tall, "iterm2", columns=40, rows=10))
    assert (keys["width"], keys["height"]) == ("auto", "10")
    assert from_blocks(preview.render(tall, "blocks", columns=40, rows=10)).size == (2, 20)


def test_a_small_picture_is_not_blown_up() -> None:
    icon = Image.new("RGB", (20, 20), "red")
    keys, image = from_kitty(preview.render(icon, "kitty", columns=40, rows=20))
    assert (keys["c"], image.size) == ("2", (20, 20))
    assert from_blocks(preview.render(icon, "blocks", columns=40, rows=20)).size == (20, 20)


def test_half_blocks_of_a_photograph_look_like_it() -> None:
    photo = Image.open(PHOTOS / "chelsea.png").convert("RGB")
    small = photo.resize((60, 40), Image.Resampling.LANCZOS)
    for protocol, tolerance in (("blocks", 1.5), ("blocks256", 24.0)):
        painted = from_blocks(preview.render(photo, protocol, columns=60, rows=40)).convert("RGB")
        assert painted.size == small.size
        assert max(ImageStat.Stat(ImageChops.difference(small, painted)).mean) < tolerance


def test_colours_of_the_palette_come_out_as_they_are() -> None:
    palette = Image.new("RGB", (240, 2))
    for number in range(16, 256):
        for y in range(2):
            palette.putpixel((number - 16, y), xterm_colour(number))
    painted = from_blocks(preview.render(palette, "blocks256", columns=240, rows=1, cell=(1, 2)))
    off = ImageChops.difference(painted.convert("RGB"), palette)
    # Of four greys the palette has two each, 3 levels apart.
    assert max(high for _, high in off.getextrema()) <= 3
    assert sum(any(off.getpixel((x, 0))) for x in range(240)) <= 4


@pytest.mark.parametrize("colour", [(120, 90, 60), (60, 70, 110), (200, 180, 160), (30, 50, 30)])
def test_colours_between_those_of_the_palette_are_mixed(colour: tuple[int, int, int]) -> None:
    plain = Image.new("RGB", (40, 40), colour)
    painted = from_blocks(preview.render(plain, "blocks256", columns=40, rows=20))
    assert ImageStat.Stat(painted.convert("RGB")).mean == pytest.approx(colour, abs=4)


def test_the_ground_shows_where_a_picture_is_transparent() -> None:
    half = Image.new("RGBA", (2, 4), (0, 0, 0, 0))
    half.paste((255, 0, 0, 255), (0, 0, 2, 1))
    half.paste((0, 0, 255, 255), (1, 3, 2, 4))
    painted = from_blocks(preview.render(half, "blocks", columns=2, rows=2, cell=(1, 2)))
    assert painted.tobytes() == half.tobytes()


# Which way a terminal gets

TERMINALS = [
    ({"TERM": "xterm-kitty", "KITTY_WINDOW_ID": "1", "COLORTERM": "truecolor"}, "kitty"),
    ({"TERM": "xterm-kitty"}, "kitty"),  # over ssh
    ({"TERM": "xterm-ghostty", "TERM_PROGRAM": "ghostty"}, "kitty"),
    ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
    ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app", "COLORTERM": "truecolor"}, "iterm2"),
    ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2"),  # over ssh
    ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm2"),
    ({"TERM": "xterm-256color", "WEZTERM_PANE": "0"}, "iterm2"),
    ({"TERM": "xterm-256color", "TERM_PROGRAM": "mintty"}, "iterm2"),
    # An editor that was started from kitty has a terminal of its own.
    ({"TERM": "xterm-256color", "TERM_PROGRAM": "vscode", "KITTY_WINDOW_ID": "1", "COLORTERM": "truecolor"}, "blocks"),
    ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "blocks"),
    ({"TERM": "xterm-256color", "COLORTERM": "24bit", "LANG": "de_DE.UTF-8"}, "blocks"),
    ({"TERM": "xterm-direct"}, "blocks"),
    ({"TERM": "xterm-256color", "WT_SESSION": "1"}, "blocks"),
    ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, "blocks256"),
    ({"TERM": "xterm"}, "blocks256"),
    # Inside a multiplexer, whatever is around it.
    ({"TERM": "tmux-256color", "TMUX": "/tmp/tmux", "KITTY_WINDOW_ID": "1", "COLORTERM": "truecolor"}, "blocks"),
    ({"TERM": "screen-256color", "STY": "1.pts", "TERM_PROGRAM": "iTerm.app"}, "blocks256"),
    ({"TERM": "xterm-kitty", "ZELLIJ": "0", "COLORTERM": "truecolor"}, "blocks"),
    ({"TERM": "tmux-256color", "LC_TERMINAL": "iTerm2"}, "blocks256"),
    # Where nothing can or shall be drawn.
    ({"TERM": "dumb", "COLORTERM": "truecolor"}, "none"),
    ({}, "none"),
    ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, "none"),
    ({"TERM": "xterm-kitty", "NO_COLOR": ""}, "kitty"),  # empty counts as unset (no-color.org)
    ({"TERM": "xterm-256color", "LANG": "de_DE.ISO-8859-1"}, "none"),
    ({"TERM": "xterm-256color", "LANG": "de_DE.ISO-8859-1", "LC_ALL": "C.UTF-8"}, "blocks256"),
]


@pytest.mark.parametrize(("environ", "protocol"), TERMINALS)
def test_each_terminal_gets_what_it_can_show(environ: dict[str, str], protocol: str) -> None:
    assert preview.detect(environ, True) == protocol
    assert preview.detect(environ, False) == "none"


@pytest.fixture
def terminal() -> Iterator[int]:
    """The descriptor of a real terminal of 100 × 40 cells."""
    master, slave = pty.openpty()
    yield slave
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize(("pixels", "cell"), [((900, 720), (9, 18)), ((0, 0), preview.CELL)])
def test_cells_are_as_large_as_the_terminal_says(terminal: int, pixels: tuple[int, int], cell: tuple[int, int]) -> None:
    import fcntl

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, *pixels))
    assert preview.cell_pixels(terminal) == cell


def test_what_is_no_terminal_has_cells_of_the_usual_shape(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        assert preview.cell_pixels(file.fileno()) == preview.CELL


# Strips of hits


def test_hits_stand_side_by_side_with_their_ranks(tmp_path: Path) -> None:
    broken = tmp_path / "bro\x1bken.jpg"
    broken.write_bytes(b"no picture")
    hits = [hit(PHOTOS / name) for name in ("chelsea.png", "rocket.jpg", "coffee.png")] + [hit(broken)]
    first, second = preview.strips(hits, "blocks", columns=80)
    *drawn, caption, empty = first.splitlines(keepends=True)
    assert caption == f"{'1 chelsea.png':41}2 rocket.jpg\n" and empty == "\n"
    painted = from_blocks("".join(drawn))
    assert painted.size[0] == 80 and painted.size[1] <= 32
    for left, name in ((0, "chelsea.png"), (41, "rocket.jpg")):
        area = painted.crop((left, 0, left + 39, painted.height))
        box = area.getbbox()
        assert box is not None and (box[0], box[2], box[3]) == (0, 39, painted.height)
        photo = Image.open(PHOTOS / name).convert("RGB").resize((39, box[3] - box[1]), Image.Resampling.LANCZOS)
        inner = ImageChops.difference(area.crop(box).convert("RGB"), photo).crop((1, 2, 38, photo.height - 1))
        assert max(ImageStat.Stat(inner).mean) < 20
    *drawn, caption, _ = second.splitlines(keepends=True)
    assert caption.startswith("3 coffee.png") and "4 bro\\x1bken.jpg: not a picture" in caption
    assert from_blocks("".join(drawn)).crop((39, 0, 80, 8)).getbbox() is None


def test_strips_are_one_picture_each_where_the_terminal_takes_pictures() -> None:
    hits = [hit(PHOTOS / name) for name in ("chelsea.png", "rocket.jpg", "coffee.png")]
    [strip] = preview.strips(hits, "kitty", columns=80)
    drawn, caption, _ = strip.rsplit("\n", 3)[:3]
    _, image = from_kitty(f"{drawn}\n")
    assert image.mode == "RGBA" and image.width == 10 * (3 * 25 + 2 * 2)
    assert caption.split() == ["1", "chelsea.png", "2", "rocket.jpg", "3", "coffee.png"]


def test_nothing_comes_where_nothing_can_be_drawn_and_no_picture_is_opened(tmp_path: Path) -> None:
    assert list(preview.strips([hit(tmp_path / "none.jpg")], "none", columns=80)) == []


def test_wide_characters_keep_the_captions_in_their_columns(tmp_path: Path) -> None:
    paths = [tmp_path / f"{20 * '犬'}.png", tmp_path / "b.png"]
    for path in paths:
        Image.new("RGB", (30, 30), "red").save(path)
    [strip] = preview.strips([hit(path) for path in paths], "blocks", columns=80)
    assert strip.splitlines()[-2] == f"1 {18 * '犬'}…  2 b.png"
