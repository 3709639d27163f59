"""Small ICC profiles written by hand, for pictures whose colours are wrong unless the profile is used (ICC.1:2022)."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

D50 = np.array([0.9642, 1.0, 0.8249])
D65 = (0.3127, 0.3290)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
ADOBE_CURVE = (563 / 256,)

INK_POWER = 1.4
"""Our ink: what the paper reflects is ((1 − C)(1 − K)) to this power, in sRGB's coded values."""


def rgb_profile(name: str, primaries: tuple[tuple[float, float], ...], curve: tuple[float, ...]) -> bytes:
    """A matrix profile with D65 white; `curve` is a power, or the five parameters of sRGB's kind of curve."""
    columns = to_xyz(primaries)
    tags = {
        b"desc": _text(name),
        b"cprt": _text("Public domain"),
        b"wtpt": _xyz(D50),
        **{f"{channel}XYZ".encode(): _xyz(columns[:, i]) for i, channel in enumerate("rgb")},
        **{f"{channel}TRC".encode(): _curve(curve) for channel in "rgb"},
    }
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def cmyk_profile(grid: int = 7) -> bytes:
    """A printer's profile with one table, from the ink of `INK_POWER` to Lab."""
    axis = np.linspace(0, 1, grid)
    cyan, magenta, yellow, black = np.meshgrid(axis, axis, axis, axis, indexing="ij")
    inks = np.stack([cyan, magenta, yellow], axis=-1)
    rgb = ((1 - inks) * (1 - black[..., None])) ** INK_POWER
    lab = _lab(rgb.reshape(-1, 3))
    # The 16-bit Lab of lut16Type: 0xFF00 is 100, 0x8000 is zero (ICC.1:2022, 10.10).
    coded = np.stack([lab[:, 0] * 652.8, (lab[:, 1] + 128) * 256, (lab[:, 2] + 128) * 256], axis=-1)
    table = np.clip(np.rint(coded), 0, 65535).astype(">u2").tobytes()
    ramp = struct.pack(">HH", 0, 65535)
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut = b"mft2\0\0\0\0" + struct.pack(">BBBB", 4, 3, grid, 0) + identity + struct.pack(">HH", 2, 2)
    tags = {
        b"desc": _text("Ink of the golden set"),
        b"cprt": _text("Public domain"),
        b"wtpt": _xyz(D50),
        b"A2B0": lut + ramp * 4 + table + ramp * 3,
    }
    return _profile(b"prtr", b"CMYK", b"Lab ", tags)


def to_xyz(primaries: tuple[tuple[float, float], ...]) -> NDArray[np.float64]:
    """Linear RGB with D65 white → XYZ relative to D50, shape (3, 3)."""
    corners = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([D65[0] / D65[1], 1, (1 - D65[0] - D65[1]) / D65[1]])
    matrix = corners * np.linalg.solve(corners, white)
    adapt = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ white)) @ BRADFORD
    return np.asarray(adapt @ matrix)


def linear(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB's coded values, 0 … 1 → linear light."""
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def _lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio = linear(rgb) @ to_xyz(SRGB).T / D50
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1)


def _text(text: str) -> bytes:
    coded = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">LL2s2sLL", 1, 12, b"en", b"US", len(coded), 28) + coded


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*(float(value) for value in values))


def _curve(parameters: tuple[float, ...]) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH", 0 if len(parameters) == 1 else 3, 0) + _fixed(*parameters)


def _profile(device: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body = struct.pack(">L", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sLL", name, start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    size = 128 + len(table) + len(body)
    date = struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
    head = struct.pack(">L4sL4s4s4s12s4s", size, b"\0" * 4, 0x04300000, device, space, connection, date, b"acsp")
    head += b"\0" * 28 + _fixed(*(float(value) for value in D50))
    return head.ljust(128, b"\0") + table + body
