"""Dates in the names of files."""

from __future__ import annotations

import datetime

import pytest

from clipsearch.images.dates import Moment
from clipsearch.indexing.names import date_in

TODAY = datetime.date(2026, 11, 28)


@pytest.mark.parametrize(
    ("name", "text", "offset"),
    [
        ("IMG-20210503-WA0001.jpg", "2021-05-03", None),
        ("WhatsApp Image 2021-05-03 at 14.02.11.jpeg", "2021-05-03T14:02:11", None),
        ("WhatsApp Image 2021-05-03 at 2.02.11 PM (1).jpeg", "2021-05-03T14:02:11", None),
        ("PXL_20210503_140211123.jpg", "2021-05-03T14:02:11.123", 0),
        ("PXL_20210503_140211123.PORTRAIT.jpg", "2021-05-03T14:02:11.123", 0),
        ("signal-2021-05-03-14-02-11-123.jpg", "2021-05-03T14:02:11.123", None),
        ("signal-2021-05-03-140211_002.jpeg", "2021-05-03T14:02:11", None),
        ("IMG_20210503_140211.jpg", "2021-05-03T14:02:11", None),
        ("20210503_140211.jpg", "2021-05-03T14:02:11", None),
        ("Screenshot_20210503-140211.png", "2021-05-03T14:02:11", None),
        ("Screenshot_2021-05-03-14-02-11-123_com.app.png", "2021-05-03T14:02:11", None),
        ("Screenshot 2021-05-03 at 14.02.11.png", "2021-05-03T14:02:11", None),
        ("Screenshot 2021-05-03 at 2.02.11 PM.png", "2021-05-03T14:02:11", None),
        ("Screenshot from 2021-05-03 14-02-11.png", "2021-05-03T14:02:11", None),
        ("Screenshot 2021-05-03 at 2.02.11\u202fPM.png", "2021-05-03T14:02:11", None),
        ("Screen Shot 2021-05-03 at 12.02.11 AM.png", "2021-05-03T00:02:11", None),
        ("Screenshot 2021-05-03 140211.png", "2021-05-03T14:02:11", None),
        ("Bildschirmfoto vom 2021-05-03 14-02-11.png", "2021-05-03T14:02:11", None),
        ("Capture d\u2019e\u0301cran 2021-05-03 a\u0300 14.02.11.png", "2021-05-03T14:02:11", None),
        ("Schermata 2021-05-03 alle 14.02.11.png", "2021-05-03T14:02:11", None),
        ("截屏2021-05-03 14.02.11.png", "2021-05-03T14:02:11", None),
        ("WhatsApp Bild 2021-05-03 um 14.02.11_1a2b3c4d.jpg", "2021-05-03T14:02:11", None),
        ("Imagen de WhatsApp 2021-05-03 a las 14.02.11_1a2b3c4d.jpg", "2021-05-03T14:02:11", None),
        ("Bildschirmfoto 2021-05-03 um 14.02.11.png", "2021-05-03T14:02:11", None),
        ("IMG_20210503_140211123.jpg", "2021-05-03T14:02:11.123", None),
    ],
)
def test_known_names_have_dates(name: str, text: str, offset: int | None) -> None:
    assert date_in(name, today=TODAY) == Moment(text, offset)


@pytest.mark.parametrize(
    "name",
    [
        "IMG_1234.jpg",
        "holiday 2021.jpg",
        "20210503.jpg",
        "12345678_123456.jpg",
        "IMG_19890503_140211.jpg",
        "IMG_20270503_140211.jpg",
        "IMG_20211303_140211.jpg",
        "my IMG_20210503_140211.jpg",
        "20210503_12345.jpg",
        "20210503_1234567.jpg",
    ],
)
def test_other_names_have_none(name: str) -> None:
    assert date_in(name, today=TODAY) is None


def test_tomorrow_is_a_date_and_the_day_after_is_none() -> None:
    assert date_in("IMG_20261129_000000.jpg", today=TODAY) == Moment("2026-11-29T00:00:00")
    assert date_in("IMG_20261130_000000.jpg", today=TODAY) is None
