"""A small CMYK profile (ICC version 2) whose cyan ink is another colour, so that a test sees whether it is heeded."""

import itertools
import struct

PAPER = (255, 128, 128)
OTHER_CYAN = (153, 128, 204)
"""Lab as ICC's 8 bits write it: L of 100 / 255, a and b with 128 added. So the other cyan is Lab (60, 0, 76)."""
OTHER_CYAN_RGB = (167, 143, 0)
"""The same in sRGB, by the formulas of CIE 1976 and IEC 61966-2-1 (out of gamut in blue)."""


def profile() -> bytes:
    """Every patch with full cyan is OTHER_CYAN, every other one paper, mixtures in between."""
    identity = bytes(range(256))
    colours = b"".join(bytes(OTHER_CYAN if cyan else PAPER) for cyan, *_ in itertools.product((0, 1), repeat=4))
    matrix = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + identity * 4 + colours + identity * 3
    text = b"a test's CMYK\0"
    description = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags = {b"desc": description, b"wtpt": white, b"cprt": b"text" + bytes(4) + text, b"A2B0": lut}
    return _file(tags)


def _file(tags: dict[bytes, bytes]) -> bytes:
    offset = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", offset + len(data), len(content))
        data += padded
    header = struct.pack(">I4sI4s4s4s", offset + len(data), bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(4 * 7)
    header += struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + data
