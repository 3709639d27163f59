"""XMP: date, place, caption, keywords and rating in the XML that programs embed in images or write beside them.

The XML comes from strangers. It is never parsed if it declares a document type or entities, and only up to limits of
its size, depth and number of elements. Nothing but the properties named here is kept.
"""

from __future__ import annotations

import codecs
import re
from xml.parsers import expat

from clipsearch.image_facts import Facts
from clipsearch.images import text
from clipsearch.images.dates import parse
from clipsearch.images.places import coordinate, position

MAX_EMBEDDED_BYTES, MAX_SIDECAR_BYTES = 1_000_000, 8_000_000

_MAX_ELEMENTS, _MAX_DEPTH = 10_000, 100
_MAX_ITEMS, _MAX_PIECES = 2 * text.MAX_KEYWORDS, 100
"""Texts of a property, and pieces of a text, which comments and such divide."""

_ROOT, _ITEM, _VALUE = (f"http://www.w3.org/1999/02/22-rdf-syntax-ns# {name}" for name in ("RDF", "li", "value"))
_LANGUAGE = "http://www.w3.org/XML/1998/namespace lang"

_NAMESPACES = {
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/lightroom/1.0/": "lr",
    "http://ns.microsoft.com/photo/1.0/": "MicrosoftPhoto",
    "http://ns.microsoft.com/photo/1.0": "MicrosoftPhoto",
}

_DATES = ("exif:DateTimeOriginal", "photoshop:DateCreated", "exif:DateTimeDigitized", "xmp:CreateDate")
"""The first that has a date counts: that of the exposure, of what the image shows, and of its digitising."""

_NAMES = (
    *_DATES,
    *("exif:GPSLatitude", "exif:GPSLongitude", "exif:GPSLatitudeRef", "exif:GPSLongitudeRef"),
    *("dc:description", "dc:title", "dc:subject", "lr:hierarchicalSubject", "xmp:Rating", "MicrosoftPhoto:Rating"),
)
_KEPT = {
    f"{uri} {name.partition(':')[2]}": name
    for uri, prefix in _NAMESPACES.items()
    for name in _NAMES
    if name.startswith(f"{prefix}:")
}
"""The properties that are kept, by their names as expat gives them."""

_BYTE_ORDERS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
_SINGLE_BYTE = re.compile(rb"<\?xml[^>]*encoding\s*=\s*['\"](iso-8859-1|windows-1252|us-ascii|latin-?1)['\"]", re.I)

_NO_XML = bytes((*range(9), 11, 12, *range(14, 32)))
"""Characters that XML does not allow, and that some programs write all the same."""

_DECLARATION = re.compile(rb"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)


class XmpError(ValueError):
    """XMP that is not read. The message tells why."""


def read(data: bytes, *, limit_bytes: int = MAX_EMBEDDED_BYTES) -> Facts:
    """The facts in an XMP packet or sidecar; empty ones where it names none. Raises XmpError, and nothing else."""
    if len(data) > limit_bytes:
        raise XmpError(f"the XMP has more than {limit_bytes / 1e6:g} MB")
    document = _utf8(data).translate(None, _NO_XML)
    if declared := _DECLARATION.search(document):
        raise XmpError(f"the XMP declares {declared[1].upper().decode()}, which is refused")
    start = document.find(b"<")
    if start < 0:
        raise XmpError("the file is not XMP")
    return _facts(_Properties(document[start:]).found)


def _utf8(data: bytes) -> bytes:
    """The text in UTF-8. A byte order mark or the first letter tells its encoding; some say that they are Latin-1."""
    name = next((name for mark, name in _BYTE_ORDERS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(name)
    except UnicodeDecodeError:
        text = data.decode("cp1252" if _SINGLE_BYTE.match(data.lstrip()) else name, "replace")
    return text.encode()


class _Properties:
    """The properties of the image itself: `found` has the (language, text) of each by its name.

    They are attributes and elements of the elements in rdf:RDF. What is deeper describes other things: an image's
    ingredients, its history.
    """

    def __init__(self, document: bytes) -> None:
        self.found: dict[str, list[tuple[str, str]]] = {}
        self._open: list[str] = []
        self._root = _MAX_DEPTH
        """How many elements are open inside rdf:RDF, itself included."""
        self._count = 0
        self._property = ""
        """The name of the property that is being read, if it is kept."""
        self._items: list[tuple[str, list[str]]] = []
        self._parser = parser = expat.ParserCreate("utf-8", namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._refuse
        try:
            parser.Parse(document, True)
        except expat.ExpatError as exc:
            if self._open or not self._count:  # What follows the packet is padding, whatever it is.
                raise XmpError(f"the XMP is damaged: {exc}") from exc
        finally:
            del self._parser  # It refers to this object, and would wait for the garbage collector.

    def _refuse(self, *_: object) -> None:
        raise XmpError("the XMP declares DOCTYPE, which is refused")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > _MAX_ELEMENTS:
            raise XmpError(f"the XMP has more than {_MAX_ELEMENTS} elements")
        if len(self._open) >= _MAX_DEPTH:
            raise XmpError(f"the XMP is nested more than {_MAX_DEPTH} deep")
        level = len(self._open) - self._root
        self._open.append(name)
        if level > 1:
            if self._property and name == _ITEM and len(self._items) < _MAX_ITEMS:
                self._items.append((attributes.get(_LANGUAGE, ""), []))
        elif level == 1:
            self._property, self._items = _KEPT.get(name, ""), [("", [])]
            self._parser.CharacterDataHandler = self._text if self._property else None
        elif level == 0:
            for attribute, value in attributes.items():
                if attribute in _KEPT:
                    self.found.setdefault(_KEPT[attribute], []).append(("", value))
        elif name == _ROOT:
            self._root = len(self._open)

    def _text(self, piece: str) -> None:
        if len(self._open) == self._root + 2 or self._open[-1] in (_ITEM, _VALUE):
            pieces = self._items[-1][1]
            if len(pieces) < _MAX_PIECES:
                pieces.append(piece)

    def _end(self, name: str) -> None:
        self._open.pop()
        level = len(self._open) - self._root
        if level == 1 and self._property:
            items = ((language, "".join(pieces)) for language, pieces in self._items)
            self.found.setdefault(self._property, []).extend(items)
            self._property, self._parser.CharacterDataHandler = "", None
        elif level == -1:
            self._root = _MAX_DEPTH


def _facts(found: dict[str, list[tuple[str, str]]]) -> Facts:
    def texts(name: str) -> list[str]:
        in_order = sorted(found.get(name, ()), key=lambda item: item[0] != "x-default")
        return [printed for _, value in in_order if (printed := text.printable(value))]

    def first(*names: str) -> str:
        return next((value for name in names for value in texts(name)), "")

    moment = next((moment for name in _DATES for value in texts(name) if (moment := parse(value))), None)
    lat, lon = (
        coordinate(first(f"exif:GPS{axis}"), reference=first(f"exif:GPS{axis}Ref"))
        for axis in ("Latitude", "Longitude")
    )
    place = position(lat, lon)
    words = texts("dc:subject") or [word.rpartition("|")[2] for word in texts("lr:hierarchicalSubject")]
    return Facts(
        taken_at=moment and moment.text,
        taken_offset=moment and moment.offset,
        lat=place and place[0],
        lon=place and place[1],
        caption=text.caption(*texts("dc:description"), *texts("dc:title")),
        keywords=text.keywords(words),
        rating=text.rating(first("xmp:Rating"), percent=first("MicrosoftPhoto:Rating")),
    )
