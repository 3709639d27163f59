"""XMP: which properties are read, in every form that programs write, and what hostile XML is not allowed to do."""

from __future__ import annotations

import tracemalloc

import pytest

from clipsearch.image_facts import Facts
from clipsearch.images.xmp import XmpError, read

NAMESPACES = {
    "exif": "http://ns.adobe.com/exif/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "MicrosoftPhoto": "http://ns.microsoft.com/photo/1.0/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
}


def packet(attributes: str = "", elements: str = "", more: str = "") -> str:
    """A packet with one description of the image, and `more` beside it."""
    spaces = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" {spaces}>'
        f'<rdf:Description rdf:about="" {attributes}>{elements}</rdf:Description>{more}</rdf:RDF></x:xmpmeta>'
    )


def facts(attributes: str = "", elements: str = "", more: str = "") -> Facts:
    return read(packet(attributes, elements, more).encode())


def listed(name: str, *words: str, kind: str = "Bag") -> str:
    items = "".join(f"<rdf:li>{word}</rdf:li>" for word in words)
    return f"<{name}><rdf:{kind}>{items}</rdf:{kind}></{name}>"


FULL = packet(
    'xmp:Rating="4" exif:DateTimeOriginal="2021-05-03T10:20:30.25+02:00" '
    'exif:GPSLatitude="48,51.5N" exif:GPSLongitude="2,21,0W"',
    "<dc:title><rdf:Alt><rdf:li xml:lang='x-default'>Title</rdf:li></rdf:Alt></dc:title>"
    "<dc:description><rdf:Alt><rdf:li xml:lang='de'>Oma</rdf:li><rdf:li xml:lang='x-default'>Grandma</rdf:li></rdf:Alt>"
    "</dc:description>" + listed("dc:subject", "party", "Zoë", "party"),
)
FULL_FACTS = Facts("2021-05-03T10:20:30.25", 120, 48.8583333, -2.35, "Grandma", ("party", "Zoë"), 4)


@pytest.mark.parametrize(
    "data",
    [
        FULL.encode(),
        FULL.encode("utf-8-sig"),
        FULL.encode("utf-16"),
        FULL.encode("utf-16-le"),
        FULL.encode("utf-16-be"),
        FULL.encode("utf-32"),
        FULL.encode("utf-32-be"),
        b'<?xml version="1.0" encoding="UTF-16"?>' + FULL.encode(),
        b'<?xml version="1.0" encoding="ISO-8859-1"?>' + FULL.encode("latin-1"),
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{FULL}\n   \n<?xpacket end="w"?>'.encode(),
        FULL.encode() + b"\0" * 2000 + b"\xff garbage <",
    ],
)
def test_a_packet_is_read_in_every_encoding(data: bytes) -> None:
    assert read(data) == FULL_FACTS


def test_properties_are_known_by_their_namespace_and_not_by_their_prefix() -> None:
    other = packet().replace("xmlns:xmp=", "xmlns:a=").replace("xmlns:dc=", "xmlns:xmp=")
    other = other.replace('rdf:about=""', 'rdf:about="" a:Rating="3" xmp:Rating="5"')
    assert read(other.encode()).rating == 3


def test_properties_may_be_elements_and_in_several_descriptions() -> None:
    found = facts(
        elements="<exif:GPSLatitude>-48.85</exif:GPSLatitude>",
        more="<rdf:Description><exif:GPSLongitude>2.35 E</exif:GPSLongitude></rdf:Description>"
        '<rdf:Description xmp:Rating="-1">' + listed("dc:subject", "one", kind="Seq") + "</rdf:Description>",
    )
    assert (found.lat, found.lon, found.keywords, found.rating) == (-48.85, 2.35, ("one",), -1)


def test_what_describes_other_images_is_not_read() -> None:
    inner = f'<rdf:Description xmp:Rating="1">{listed("dc:subject", "other")}</rdf:Description>'
    elements = f"<xmpMM:Pantry><rdf:Bag><rdf:li>{inner}</rdf:li></rdf:Bag></xmpMM:Pantry>"
    assert facts(elements=elements) == Facts()
    assert facts(elements=f"<xmpMM:X><rdf:RDF>{inner}</rdf:RDF></xmpMM:X>") == Facts()
    assert facts(elements=f"<rdf:RDF>text{inner}</rdf:RDF>") == Facts()
    assert facts(more=f"<rdf:RDF>text{inner}<a>text</a></rdf:RDF>") == Facts()


@pytest.mark.parametrize(
    ("attributes", "taken"),
    [
        ('photoshop:DateCreated="2021-05-03" xmp:CreateDate="2022-01-01"', ("2021-05-03", None)),
        ('xmp:CreateDate="2021-05-03T10:20Z"', ("2021-05-03T10:20:00", 0)),
        ('exif:DateTimeOriginal="2021:05:03 10:20:30.500"', ("2021-05-03T10:20:30.5", None)),
        ('exif:DateTimeOriginal="" photoshop:DateCreated="2021"', ("2021", None)),
        ('exif:DateTimeOriginal="0001-01-01T00:00:00" xmp:CreateDate="2021-05"', ("2021-05", None)),
        ('xmp:ModifyDate="2021-05-03"', (None, None)),
    ],
)
def test_dates(attributes: str, taken: tuple[str | None, int | None]) -> None:
    assert facts(attributes)[:2] == taken


@pytest.mark.parametrize(
    ("lat", "lon", "place"),
    [
        ("48,51.5N", "2,21,0E", (48.8583333, 2.35)),
        ("48,51.5S", "2,21,36W", (-48.8583333, -2.36)),
        ("48.85", "-2.35", (48.85, -2.35)),
        ("48/1,51/1,0/1N", "2/1,42/2,0/1E", (48.85, 2.35)),
        ("48° 51' 0\" N", "2° 21' 0\" E".replace("'", "′").replace('"', "″"), (48.85, 2.35)),
        ("0", "0", (None, None)),
        ("0,0.0N", "0,0.0E", (None, None)),
        ("91", "2", (None, None)),
        ("48,85N", "2,99E", (None, None)),
        ("48.85", "", (None, None)),
        ("here", "there", (None, None)),
        ("1/0", "2", (None, None)),
        ("9" * 90, "9" * 90, (None, None)),
    ],
)
def test_places(lat: str, lon: str, place: tuple[float | None, float | None]) -> None:
    lat, lon = lat.replace('"', "&quot;"), lon.replace('"', "&quot;")
    found = facts(f'exif:GPSLatitude="{lat}" exif:GPSLongitude="{lon}"')
    assert (found.lat, found.lon) == place


@pytest.mark.parametrize(
    ("attributes", "rating"),
    [
        ('xmp:Rating="5"', 5),
        ('xmp:Rating="5.0"', 5),
        ('xmp:Rating="0"', 0),
        ('xmp:Rating="6"', None),
        ('xmp:Rating="-2"', None),
        ('xmp:Rating="NaN"', None),
        ('xmp:Rating="many"', None),
        ('MicrosoftPhoto:Rating="1"', 1),
        ('MicrosoftPhoto:Rating="50"', 3),
        ('MicrosoftPhoto:Rating="99"', 5),
        ('xmp:Rating="2" MicrosoftPhoto:Rating="99"', 2),
    ],
)
def test_ratings(attributes: str, rating: int | None) -> None:
    assert facts(attributes).rating == rating


def test_hierarchical_keywords_count_where_there_are_no_others() -> None:
    tree = listed("lr:hierarchicalSubject", "People|Anna", "Places|Italy|Rome")
    assert facts(elements=tree).keywords == ("Anna", "Rome")
    assert facts(elements=tree + listed("dc:subject", "Anna")).keywords == ("Anna",)


def test_texts_and_keywords_are_bounded_and_printable() -> None:
    words = [f"{number}" + "x" * 1000 for number in range(500)]
    found = facts(elements=f"<dc:description>a\u202e\x07b{'c' * 5000}</dc:description>" + listed("dc:subject", *words))
    assert found.caption is not None and found.caption.startswith("abc") and len(found.caption) == 500
    assert len(found.keywords) == 200 and max(map(len, found.keywords)) == 200


LAUGHS = (
    '<!DOCTYPE lolz [<!ENTITY lol "lol">'
    + "".join(f'<!ENTITY lol{n} "{f"&lol{n - 1 or str()};" * 10}">' for n in range(1, 10))
    + "]>"
)
EXTERNAL = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("start", [LAUGHS, EXTERNAL, "<!doctype x>", '<!ENTITY e "e">', "<!DOC\0TYPE x>"])
def test_document_types_and_entities_are_refused_in_every_encoding(start: str, encoding: str) -> None:
    for document in (start + FULL, '<?xml version="1.0"?>\n' + start + FULL):
        with pytest.raises(XmpError, match=r"refused|declares"):
            read(document.encode(encoding))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<a>" * 10**5, "deep"),
        (b"<a>" + b"<b/>" * 10**5, "elements"),
        (b"<a>" + b" " * 10**6, "1 MB"),
        (b"<a " + b"b" * 10**5, "damaged"),
        (FULL.encode()[:-20], "damaged"),
        (FULL.replace("Grandma", "&undeclared;").encode(), "damaged"),
        (b"<a><b></a>", "damaged"),
        (b"<?xml version='1.0' encoding='UTF-7'?>+ADw-+ACE-DOCTYPE x>", "damaged"),
        (b"", "not XMP"),
        (b"\0" * 1000, "not XMP"),
        (b"no markup", "not XMP"),
        (bytes(range(256)) * 100, "damaged"),
        (b"\xff\xfe<\xd8\0\0", "not XMP"),
    ],
)
def test_what_is_not_read_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(XmpError, match=reason):
        read(data)


def test_a_sidecar_may_be_larger_and_no_more_than_its_limit_is_looked_at() -> None:
    padded = FULL.encode() + b" " * 2_000_000
    with pytest.raises(XmpError):
        read(padded)
    assert read(padded, limit_bytes=8_000_000) == FULL_FACTS
    large = bytes(100_000_000)
    tracemalloc.start()
    with pytest.raises(XmpError, match="8 MB"):
        read(large, limit_bytes=8_000_000)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
