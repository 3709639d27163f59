"""Dates in the names that programs and phones give to their pictures; only patterns that nobody writes by chance."""

from __future__ import annotations

import datetime
import re
import unicodedata

from clipsearch.images.dates import Moment, parse

_DAY = r"(?P<day>\d{4}-\d\d-\d\d)"
_COMPACT = r"(?P<year>\d{4})(?P<month>\d\d)(?P<date>\d\d)"
_TIME = r"(?P<hour>\d\d|\d(?=[-.:]))[-.:]?(?P<minute>\d\d)[-.:]?(?P<second>\d\d)"
_FRACTION = r"(?P<fraction>\d{3})?"
_END = r"(?!\d)"
_HALF = r"(?:[ \u00a0\u202f]?(?P<half>[AP]M))?"

_SCREENSHOT = (
    "Screen ?shot|Bildschirmfoto|Capture d.écran|Captura de pantalla|Captura de ecrã|Captura de Tela|Schermata|"
    "Schermafbeelding|Skärmavbild|Skærmbillede|Skjermbilde|Zrzut ekranu|Снимок экрана|スクリーンショット|截屏|截圖"
)
_WHATSAPP = "WhatsApp Image|WhatsApp Bild|Image WhatsApp|Imagen de WhatsApp|Imagem do WhatsApp|Immagine WhatsApp"
_FROM = "from |vom |du |de |del "
_AT = "[-_ ]| (?:at|um|à|às|a las|alle|ore|om|kl[.]|o|в) "
"""What stands before the day and before the time, in several languages."""

_PATTERNS = tuple(
    (re.compile(pattern + _END, re.IGNORECASE), is_utc)
    for pattern, is_utc in (
        (rf"(?:IMG|VID|STK|PTT)-{_COMPACT}-WA\d+", False),  # WhatsApp on Android
        (rf"PXL_{_COMPACT}_{_TIME}(?P<fraction>\d{{3}})", True),  # Pixel phones: UTC
        (rf"signal-{_DAY}-{_TIME}(?:-(?P<fraction>\d{{3}}))?", False),
        (rf"(?:IMG|MVIMG|PANO|BURST|VID)_{_COMPACT}_{_TIME}{_FRACTION}", False),  # Android's cameras
        (rf"{_COMPACT}_{_TIME}{_FRACTION}", False),  # Samsung
        (rf"Screenshot[_ -]{_COMPACT}[-_]{_TIME}", False),  # Android
        # GNOME, macOS, Windows, Xiaomi; WhatsApp's desktop and web clients
        (rf"(?:{_SCREENSHOT}|{_WHATSAPP})[_ ]?(?:{_FROM})?{_DAY}(?:{_AT}){_TIME}{_HALF}", False),
    )
)
"""Patterns at the beginning of a name, and whether their times are in UTC."""

_EARLIEST = "1990"


def date_in(name: str, *, today: datetime.date | None = None) -> Moment | None:
    """The date in a file's name. None where it has none, or one before 1990 or after tomorrow."""
    name = name if name.isascii() else unicodedata.normalize("NFC", name)
    for pattern, is_utc in _PATTERNS:
        if match := pattern.match(name):
            parts = match.groupdict()
            day = parts.get("day") or f"{parts['year']}-{parts['month']}-{parts['date']}"
            time = ""
            if parts.get("hour"):
                hour = int(parts["hour"])
                if half := parts.get("half"):
                    hour = hour % 12 + 12 * (half.upper() == "PM")
                time = f"T{hour:02}:{parts['minute']}:{parts['second']}"
            moment = parse(day + time, fraction=parts.get("fraction") or "")
            tomorrow = (today or datetime.date.today()) + datetime.timedelta(days=1)
            if moment is None or not _EARLIEST <= moment.text[:10] <= tomorrow.isoformat():
                return None
            return Moment(moment.text, 0) if is_utc else moment
    return None
