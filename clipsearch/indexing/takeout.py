"""The JSON that Google Takeout writes beside each photo: when and where it was taken, and its description."""

from __future__ import annotations

import datetime
import json
import re

from clipsearch.image_facts import Facts
from clipsearch.images import text
from clipsearch.images.places import position

MAX_BYTES = 1_000_000

_EPOCH = datetime.datetime(1970, 1, 1)


def read(data: bytes) -> Facts | None:
    """The facts in a record; None for JSON that is not Takeout's. Raises ValueError for anything else.

    The date is in UTC. A time of 0, and a place of 0, 0, stand for unknown ones.
    """
    try:
        record = json.loads(data)
    except RecursionError as exc:
        raise ValueError("the JSON is nested too deep") from exc
    except ValueError as exc:
        raise ValueError("the JSON is damaged") from exc
    if not isinstance(record, dict):
        return None
    taken, *places = (record.get(name) for name in ("photoTakenTime", "geoData", "geoDataExif"))
    if not any(isinstance(found, dict) for found in (taken, *places)):
        return None
    place = next((at for found in places if (at := _place(found))), None)
    description = record.get("description")
    moment = _moment(taken)
    return Facts(
        taken_at=moment,
        taken_offset=None if moment is None else 0,
        lat=place and place[0],
        lon=place and place[1],
        caption=(text.printable(description) or None) if isinstance(description, str) else None,
    )


def _moment(taken: object) -> str | None:
    """The time of {"timestamp": "1620037230"}, seconds since 1970."""
    value = taken.get("timestamp") if isinstance(taken, dict) else None
    seconds = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    match = re.fullmatch(r"(-?[0-9]{1,12})(?:\.[0-9]*)?", seconds)
    if not match or not int(match[1]):
        return None
    try:
        return (_EPOCH + datetime.timedelta(seconds=int(match[1]))).isoformat()
    except OverflowError:
        return None


def _place(found: object) -> tuple[float, float] | None:
    if not isinstance(found, dict):
        return None
    return position(*(_degrees(found.get(name)) for name in ("latitude", "longitude")))


def _degrees(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if abs(value) <= 360 else None  # A larger one may be too large for a float.
