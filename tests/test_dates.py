"""Dates: what can be read of them is kept."""

from __future__ import annotations

import pytest

from clipsearch.images.dates import Moment, offset, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2021:05:03 14:02:11", "2021-05-03T14:02:11"),
        ("2021:05:03 24:08:19", "2021-05-04T00:08:19"),
        ("2021:12:31 23:59:60", "2022-01-01T00:00:00"),
        ("2021:05:03", "2021-05-03"),
        ("2021:05:03   :  :  ", "2021-05-03"),
        ("2021:05:03 00:00", "2021-05-03T00:00:00"),
        ("2021:5:3 7:8:9", "2021-05-03T07:08:09"),
        ("2021.05.03 14.02.11", "2021-05-03T14:02:11"),
        ("2021-05-03T14:02:11.250", "2021-05-03T14:02:11.25"),
        ("2021-05-03T14:02", "2021-05-03T14:02:00"),
        ("2021-05", "2021-05"),
        ("2021", "2021"),
        ("2021:00:00 00:00:00", "2021"),
        ("2021:05:03 77:00:00", "2021-05-03"),
        ("20210503T140211", "2021-05-03T14:02:11"),
        ("20210503140211.5", "2021-05-03T14:02:11.5"),
        ("20210503 1402", "2021-05-03T14:02:00"),
        ("20210503", "2021-05-03"),
        ("20210500", "2021-05"),
    ],
)
def test_what_can_be_read_of_a_date_is_kept(text: str, expected: str) -> None:
    moment = parse(text)
    assert moment is not None and moment.text == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "    :  :     :  :  ",
        "0000:00:00 00:00:00",
        "2021:13:03",
        "yesterday",
        "2021:02:30",
        "12345678",
        "202105031",
        "0001-01-01",
    ],
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert parse(text) is None


def test_fractions_and_offsets_are_kept() -> None:
    assert parse("2021:05:03 14:02:11", fraction="10") == Moment("2021-05-03T14:02:11.1")
    assert parse("2021:05:03 14:02:11", fraction="  ") == Moment("2021-05-03T14:02:11")
    assert parse("2021-05-03T14:02:11+02:00") == Moment("2021-05-03T14:02:11", 120)
    assert parse("20210503T140211+0200") == Moment("2021-05-03T14:02:11", 120)
    assert parse("2021-05-03T14:02:11Z") == Moment("2021-05-03T14:02:11", 0)
    assert [offset(text) for text in ("-05:30", "+0900", "+15:00", "CET", "")] == [-330, 540, None, None, None]


def test_the_order_of_dates_as_text_is_their_order_in_time() -> None:
    texts = ["2021", "2021-05", "2021-05-03", "2021-05-03T14:02:11", "2021-05-03T14:02:11.1", "2021-05-03T14:02:11.9"]
    assert sorted(texts, reverse=True)[::-1] == texts
