"""Colour spaces that a PNG names without a profile (PNG, 3rd edition, 11.3.2), as profiles.

What cannot be meant, or is not known here, gives no profile.
"""

import contextlib
import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from families.images import icc

Floats = NDArray[np.float64]
Chromaticities = tuple[float, ...]
"""x and y of white, red, green and blue."""

SRGB: Chromaticities = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB,
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    10: (1 / 3, 1 / 3, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
"""By their code in ITU-T H.273."""
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_WHITE_NITS = 203.0
"""Of a white page in pictures with more than white (ITU-R BT.2408); what is brighter becomes white."""
_GAMMA_OF_SRGB = 45455
"""What a PNG writes whose curve is sRGB's, exactly or rounded otherwise."""


def of_gamma(gama: bytes | None, chrm: bytes | None) -> bytes | None:
    """A profile of the chunks gAMA and cHRM; for one that is missing or means nothing, sRGB's."""
    curve = _power(gama) if gama is not None else None
    colorants = _colorants(_chromaticities(chrm)) if chrm is not None else None
    if curve is None and colorants is None:
        return None
    return icc.rgb(_SRGB_COLORANTS if colorants is None else colorants, curve or icc.SRGB_CURVE)


def of_cicp(cicp: bytes, depth: int) -> bytes | None:
    """A profile of the chunk cICP. `depth`: bits of the samples, which tell where a narrow range ends."""
    if len(cicp) != 4 or cicp[2] != 0:
        return None
    primaries, transfer, _, full = cicp
    if primaries not in PRIMARIES or transfer not in TRANSFERS:
        return None
    colorants = np.asarray(_colorants(PRIMARIES[primaries]))
    signal = np.linspace(0.0, 1.0, 4096)
    if not full:
        unit = 2 ** (max(depth, 8) - 8)
        signal = (signal * (256 * unit - 1) - 16 * unit) / (219 * unit)
    light = TRANSFERS[transfer](np.clip(signal, 0.0, 1.0))
    if full and transfer == 13:
        return icc.rgb(colorants, icc.SRGB_CURVE)
    return icc.rgb(colorants, icc.sampled(np.clip(light, 0.0, 1.0)))


def to_light(signal: Floats) -> Floats:
    """sRGB's curve (IEC 61966-2-1), [0, 1] -> [0, 1]."""
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _bt709(signal: Floats) -> Floats:
    return np.where(signal < 0.081, signal / 4.5, ((signal + 0.099) / 1.099) ** (1 / 0.45))


def _pq(signal: Floats) -> Floats:
    """SMPTE ST 2084."""
    root = signal ** (1 / 78.84375)
    light = np.maximum(root - 0.8359375, 0.0) / (18.8515625 - 18.6875 * root)
    return np.asarray(10_000.0 / _WHITE_NITS * light ** (1 / 0.1593017578125))


def _hlg(signal: Floats) -> Floats:
    """ARIB STD-B67 on a display of 1000 nits; its gamma of 1.2 by channel."""
    bright = (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return 1_000.0 / _WHITE_NITS * np.where(signal <= 0.5, signal**2 / 3, bright) ** 1.2


TRANSFERS: dict[int, Callable[[Floats], Floats]] = {
    **dict.fromkeys((1, 6, 14, 15), _bt709),
    4: lambda signal: signal**2.2,
    5: lambda signal: signal**2.8,
    8: lambda signal: signal,
    13: to_light,
    16: _pq,
    18: _hlg,
}
"""Signal -> light, white being 1, by their code in ITU-T H.273."""


def _power(gama: bytes) -> bytes | None:
    """The curve of a gAMA chunk: none unless its exponent is within 1/100 and 100."""
    if len(gama) != 4:
        return None
    (gamma,) = struct.unpack(">I", gama)
    if abs(gamma - _GAMMA_OF_SRGB) <= 5:
        return icc.SRGB_CURVE
    return icc.power(100_000 / gamma) if 1_000 <= gamma <= 10_000_000 else None


def _chromaticities(chrm: bytes) -> Chromaticities:
    return tuple(value / 100_000 for value in struct.unpack(">8I", chrm)) if len(chrm) == 32 else ()


def _colorants(chromaticities: Chromaticities) -> Floats | None:
    """Primaries (3, 3): a row of XYZ, adapted to D50 (Bradford), each. None when they span nothing."""
    with contextlib.suppress(np.linalg.LinAlgError):
        if len(chromaticities) == 8 and all(0.2 < part < 0.5 for part in chromaticities[:2]):  # no white lies elsewhere
            x, y = np.array(chromaticities).reshape(4, 2).T
            columns = np.array([x, y, 1 - x - y])  # (3, 4), each of sum 1
            white, primaries = columns[:, 0] / columns[1, 0], columns[:, 1:]
            colorants = primaries * np.linalg.solve(primaries, white)
            cones = (_BRADFORD @ icc.D50) / (_BRADFORD @ white)
            adapted = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD @ colorants
            if np.abs(adapted).max() < 10:
                return np.asarray(adapted.T)
    return None


_SRGB_COLORANTS = np.asarray(_colorants(SRGB))
