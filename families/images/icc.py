"""ICC profiles as bytes: the tags of one, and new ones of curves and primaries. What they mean is lcms's business."""

import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

D50 = (0.9642, 1.0, 0.8249)
"""The white of ICC's connection space, XYZ."""
LINEAR = b"curv" + bytes(8)
"""The curve that changes nothing."""
SRGB_CURVE = b"para" + bytes(4) + struct.pack(">HH5i", 3, 0, *(round(v * 65536) for v in
    (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))  # fmt: skip
"""IEC 61966-2-1."""
_HEADER, _ENTRY = 128, 12
_LOOKUP_TABLES = {b"A2B0", b"A2B1", b"D2B0", b"D2B1"}


def space(profile: bytes) -> bytes:
    """What its numbers are: `RGB `, `GRAY`, `CMYK` and others."""
    return profile[16:20]


def tags(profile: bytes) -> dict[bytes, bytes]:
    """Name -> content. Raises struct.error when the table is cut off."""
    (count,) = struct.unpack_from(">I", profile, _HEADER)
    found = {}
    for at in range(_HEADER + 4, _HEADER + 4 + _ENTRY * min(count, 100), _ENTRY):
        name, offset, size = struct.unpack_from(">4sII", profile, at)
        found[name] = profile[offset : offset + size]
    return found


def is_curves_and_matrix(profile: bytes) -> bool:
    """Whether an RGB profile is three curves and three primaries, and no table that lcms would prefer."""
    names = tags(profile).keys()
    wanted = {channel + part for channel in (b"r", b"g", b"b") for part in (b"TRC", b"XYZ")}
    return profile[20:24] == b"XYZ " and wanted <= names and not names & _LOOKUP_TABLES


def power(exponent: float) -> bytes:
    """The curve signal ** exponent -> light. Raises struct.error above 32767."""
    return b"para" + bytes(4) + struct.pack(">HHi", 0, 0, round(exponent * 65536))


def sampled(light: NDArray[np.float64]) -> bytes:
    """The curve through these values in [0, 1], at equal distances of the signal; at most 4096 of them."""
    return b"curv" + struct.pack(">4xI", len(light)) + (light * 65535).round().astype(">u2").tobytes()


def rgb(colorants: NDArray[np.float64], curve: bytes) -> bytes:
    """A profile of three times the same curve, and of primaries (3, 3): a row of XYZ, adapted to D50, each."""
    table = {name + b"XYZ": _xyz(row) for name, row in zip((b"r", b"g", b"b"), colorants.tolist(), strict=True)}
    return _profile(b"RGB ", table | {name + b"TRC": curve for name in (b"r", b"g", b"b")})


def grey(curve: bytes) -> bytes:
    """A profile of one curve."""
    return _profile(b"GRAY", {b"kTRC": curve})


def _xyz(values: tuple[float, ...] | list[float]) -> bytes:
    return b"XYZ " + struct.pack(">4x3i", *(round(value * 65536) for value in values))


def _profile(kind: bytes, content: Mapping[bytes, bytes]) -> bytes:
    content = {b"wtpt": _xyz(D50), **content}
    start = _HEADER + 4 + _ENTRY * len(content)
    table, data = struct.pack(">I", len(content)), b""
    for name, tag in content.items():
        table += name + struct.pack(">II", start + len(data), len(tag))
        data += tag + bytes(-len(tag) % 4)
    header = (
        struct.pack(">I4xI4s4s4s", start + len(data), 0x02400000, b"mntr", kind, b"XYZ ").ljust(36, b"\0") + b"acsp"
    )
    header = header.ljust(68, b"\0") + _xyz(D50)[8:]
    return header.ljust(_HEADER, b"\0") + table + data
