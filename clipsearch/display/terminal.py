"""Images in a terminal: through its graphics protocol, or drawn with half blocks.

Sources: kitty's graphics protocol (its documentation, "Terminal graphics protocol"), iTerm2's inline images (its
documentation, "Images"), colours by SGR 38 and 48 (ISO 8613-6; xterm's "ctlseqs" for the palette of 256).
"""

from __future__ import annotations

import base64
import io
import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from clipsearch.display.text import cell_width, cut, printable
from clipsearch.display.thumbnails import thumbnails
from clipsearch.types import Hit

if TYPE_CHECKING:
    from PIL import Image

Protocol = Literal["kitty", "iterm2", "blocks", "blocks256", "none"]
"""How a terminal shows images; "blocks" in 24-bit colour, "blocks256" in the palette of 256."""

CELL = (10, 20)
"""Default width and height of a character's cell in pixels; the shape matters, not the size."""

_KITTY_CHUNK = 4096
"""Characters of base64 in one escape sequence: the protocol's limit."""

_SLOT = (24, 10)
_BLOCK_SLOT = (38, 16)
"""Minimum columns and maximum rows of an image in a strip; half blocks show little in a small one."""

_GAP = 2
"""Empty columns between the images of a strip."""


def detect(environ: Mapping[str, str], is_tty: bool) -> Protocol:
    """What the terminal can show, judging by the environment alone: a query would wait for the answer and swallow keys.

    "none" if it is not a terminal, for TERM=dumb and NO_COLOR, and if the locale's charset is not UTF-8. Inside tmux,
    screen and zellij only half blocks: they drop images or lose track of them.
    """
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if not is_tty or term in ("", "dumb") or environ.get("NO_COLOR"):
        return "none"
    inside = any(environ.get(name) for name in ("TMUX", "STY", "ZELLIJ")) or term.startswith(("tmux", "screen"))
    if not inside:
        # TERM is about this terminal; the other variables may come from one that it was started from.
        if term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
            return "kitty"
        if program in ("iTerm.app", "WezTerm", "mintty") or environ.get("LC_TERMINAL") == "iTerm2":
            return "iterm2"
        if not program and environ.get("KITTY_WINDOW_ID"):
            return "kitty"
        if not program and (environ.get("WEZTERM_PANE") or environ.get("WEZTERM_EXECUTABLE")):
            return "iterm2"
    if not _takes_unicode(environ):
        return "none"
    many = environ.get("COLORTERM") in ("truecolor", "24bit") or environ.get("WT_SESSION") or term.endswith("-direct")
    return "blocks" if many else "blocks256"


def _takes_unicode(environ: Mapping[str, str]) -> bool:
    locale = next((environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(name)), "")
    _, _, charset = locale.partition(".")
    return charset.partition("@")[0].lower().replace("-", "") in ("", "utf8")


def cell_pixels(descriptor: int) -> tuple[int, int]:
    """Width and height of a cell in pixels, as the terminal at `descriptor` reports them; default: CELL."""
    import fcntl
    import struct
    import termios

    try:
        answer = fcntl.ioctl(descriptor, termios.TIOCGWINSZ, b"\0" * 8)
    except OSError:
        return CELL
    rows, columns, width, height = struct.unpack("HHHH", answer)
    if not (rows and columns and width >= columns and height >= rows):
        return CELL
    return width // columns, height // rows


def render(picture: Image.Image, protocol: Protocol, *, columns: int, rows: int, cell: tuple[int, int] = CELL) -> str:
    """Text that draws `image` (RGB or RGBA) within `columns` × `rows` cells and ends the line; "" for "none".

    The image keeps its proportions, and its pixels are never enlarged beyond one of the screen, or beyond half a cell
    with half blocks. Where it is transparent, the terminal's background shows.
    """
    if protocol == "none":
        return ""
    wide, high = _fitted(picture, protocol, max(1, columns), max(1, rows), cell)
    if protocol in ("blocks", "blocks256"):
        across, down = max(1, round(wide / cell[0])), max(1, round(2 * high / cell[1]))
        return _blocks(_scaled(picture, across, down), many=protocol == "blocks")
    # One side is given in cells; the terminal derives the other from the shape of its cells.
    by_width = wide * rows * cell[1] >= high * columns * cell[0]
    count = math.ceil(wide / cell[0] if by_width else high / cell[1])
    data = _png(_scaled(picture, max(1, round(wide)), max(1, round(high))))
    draw = _kitty if protocol == "kitty" else _iterm2
    return draw(data, count, by_width=by_width) + "\n"


def _fitted(
    picture: Image.Image, protocol: Protocol, columns: int, rows: int, cell: tuple[int, int]
) -> tuple[float, float]:
    """Width and height of `image` in screen pixels within `columns` × `rows` cells."""
    largest = 1.0 if protocol in ("kitty", "iterm2") else min(cell[0], cell[1] / 2)
    scale = min(largest, columns * cell[0] / picture.width, rows * cell[1] / picture.height)
    return picture.width * scale, picture.height * scale


def _scaled(picture: Image.Image, width: int, height: int) -> Image.Image:
    from PIL import Image

    return picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3)


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def _kitty(data: bytes, count: int, *, by_width: bool) -> str:
    text = base64.b64encode(data).decode("ascii")
    chunks = [text[start : start + _KITTY_CHUNK] for start in range(0, len(text), _KITTY_CHUNK)]
    # q=2: no response, which the shell would take for keys.
    keys = f"a=T,f=100,q=2,{'c' if by_width else 'r'}={count},"
    parts = []
    for number, chunk in enumerate(chunks):
        more = int(number < len(chunks) - 1)
        parts.append(f"\x1b_G{keys if number == 0 else ''}m={more};{chunk}\x1b\\")
    return "".join(parts)


def _iterm2(data: bytes, count: int, *, by_width: bool) -> str:
    shape = f"width={count};height=auto" if by_width else f"width=auto;height={count}"
    text = base64.b64encode(data).decode("ascii")
    return f"\x1b]1337;File=inline=1;size={len(data)};{shape};preserveAspectRatio=1:{text}\x07"


def _blocks(picture: Image.Image, *, many: bool) -> str:
    """Two pixels per cell: ▀ in the upper one's colour on the lower one's. Transparent pixels have the colour ""."""
    width, height = picture.size
    image, alpha = picture.convert("RGB"), picture.convert("RGBA").getchannel("A").tobytes()
    shades = _true_colours(image) if many else _palette_colours(image)
    colours = [shade if opacity >= 128 else "" for shade, opacity in zip(shades, alpha, strict=True)]
    lines = []
    for top in range(0, height, 2):
        upper = colours[top * width : (top + 1) * width]
        lower = colours[(top + 1) * width : (top + 2) * width] or [""] * width
        lines.append(_line(upper, lower))
    return "".join(f"{line}\n" for line in lines)


def _line(upper: Sequence[str], lower: Sequence[str]) -> str:
    parts = []
    for (above, below), same in itertools.groupby(zip(upper, lower, strict=True)):
        count = len(list(same))
        if above == below:
            # Not every font's block fills its half; the background always does.
            parts.append(f"\x1b[0{f';48;{above}' if above else ''}m" + " " * count)
        elif above:
            parts.append(f"\x1b[0;38;{above}{f';48;{below}' if below else ''}m" + "▀" * count)
        else:
            parts.append(f"\x1b[0;38;{below}m" + "▄" * count)
    return "".join(parts) + "\x1b[0m"


def _true_colours(image: Image.Image) -> list[str]:
    flat = image.tobytes()
    return [f"2;{red};{green};{blue}" for red, green, blue in zip(flat[::3], flat[1::3], flat[2::3], strict=True)]


def _palette_colours(image: Image.Image) -> list[str]:
    """Dithered: the nearest colour alone would turn photographs grey, since the palette has few muted colours."""
    from PIL import Image

    palette = Image.new("P", (1, 1))
    palette.putpalette(_PALETTE)
    dithered = image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    return [f"5;{_FIRST + number}" for number in dithered.tobytes()]


_LEVELS = (0, 95, 135, 175, 215, 255)
_FIRST = 16
_PALETTE = [
    *itertools.chain.from_iterable(itertools.product(_LEVELS, repeat=3)),
    *itertools.chain.from_iterable((grey, grey, grey) for grey in range(8, 239, 10)),
]
"""Red, green and blue of the colours 16 … 255: a cube and greys. The first 16 depend on the user's theme."""


def strips(
    hits: Sequence[Hit],
    protocol: Protocol,
    *,
    columns: int,
    cell: tuple[int, int] = CELL,
) -> Iterator[str]:
    """The hits' images side by side in strips of `columns` cells, numbered by rank from 1.

    Each strip is text to be written unchanged. "none" gives no strips. An image that cannot be read leaves its slot
    empty except for its number and the reason.
    """
    if protocol == "none":
        return
    wanted, rows = _SLOT if protocol in ("kitty", "iterm2") else _BLOCK_SLOT
    across = max(1, (columns + _GAP) // (wanted + _GAP))
    width = max(1, (columns + _GAP) // across - _GAP)
    side = max(width * cell[0], rows * cell[1])
    found = thumbnails(hits, side=side)
    for start in range(0, len(hits), across):
        pictures, captions = [], []
        for number, thumbnail in enumerate(itertools.islice(found, across), start + 1):
            pictures.append(thumbnail.picture)
            name = printable(os.path.basename(thumbnail.hit.path))
            captions.append(f"{number} {name}" if thumbnail.reason is None else f"{number} {name}: {thumbnail.reason}")
        yield _strip(pictures, captions, protocol, width, rows, cell)


def _strip(
    pictures: Sequence[Image.Image | None],
    captions: Sequence[str],
    protocol: Protocol,
    width: int,
    rows: int,
    cell: tuple[int, int],
) -> str:
    from PIL import Image

    step = (width + _GAP) * cell[0]
    whole = Image.new("RGBA", (step * len(pictures) - _GAP * cell[0], rows * cell[1]))
    for place, picture in enumerate(pictures):
        if picture is not None:
            wide, high = _fitted(picture, protocol, width, rows, cell)
            small = _scaled(picture, max(1, round(wide)), max(1, round(high)))
            whole.paste(small, (place * step, whole.height - small.height))
    box = whole.getbbox()
    drawn = ""
    if box is not None:
        # Cut off whole cells at the top, so that a strip of wide images is not padded with empty lines.
        top = box[1] // cell[1] * cell[1]
        whole = whole.crop((0, top, whole.width, whole.height))
        drawn = render(whole, protocol, columns=whole.width // cell[0], rows=whole.height // cell[1], cell=cell)
    line = (" " * _GAP).join(_fit(caption, width) for caption in captions).rstrip()
    return f"{drawn}{line}\n\n"


def _fit(text: str, width: int) -> str:
    """`text` cut or padded to exactly `width` cells."""
    text = cut(text, width)
    return text + " " * (width - cell_width(text))
