"""From UTC to local time: that of the place where an image was taken, or else that of this machine."""

from __future__ import annotations

import datetime
import functools

from clipsearch.catalog.facts import is_utc


def local_text(
    taken_at: str, offset: int | None, source: str | None, *, lat: float | None = None, lon: float | None = None
) -> str:
    """A date as local time. Only those in UTC change (`facts.is_utc`), unless they are a day or less."""
    moment, _, fraction = taken_at.partition(".")
    if "T" not in moment or not is_utc(source, offset):
        return taken_at
    try:
        zone = None if lat is None or lon is None else _zone_at(lat, lon)
        local = datetime.datetime.fromisoformat(f"{moment}+00:00").astimezone(zone)
    except (ValueError, OverflowError, OSError):  # Beyond the years 1 to 9999, or the machine's own range.
        return taken_at
    return local.replace(tzinfo=None).isoformat(timespec="seconds") + f".{fraction}" * bool(fraction)


def _zone_at(lat: float, lon: float) -> datetime.tzinfo | None:
    try:
        import tzfpy  # 2 ms and 30 MB, which few queries need.
    except ImportError:
        return None
    return _zone(tzfpy.get_tz(lon, lat))


@functools.lru_cache(maxsize=512)
def _zone(name: str) -> datetime.tzinfo | None:
    """The time zone of this name; None, which means the machine's, where the system does not know it."""
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None
