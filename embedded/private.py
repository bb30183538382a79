"""Becomes another program, none of whose files other users of the machine can read, its shared memory neither.

Started as a script: `private.py PROGRAM ARGUMENT...`, with the standard library alone. The umask would be enough, did
Boost, by which Triton makes its shared memory, not open each region to all readers once it has made it, by `fchmod`.
So the kernel is told to say yes to this one call, and to do nothing.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from pathlib import Path

# By machine: its number in seccomp's data, and those of the system calls fchmod and seccomp.
_NUMBERS = {"x86_64": (0xC000003E, 91, 317), "aarch64": (0xC00000B7, 52, 277)}
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # of BPF: a word of the data, a comparison, the verdict
_AT_NUMBER, _AT_MACHINE = 0, 4
_SAY_YES, _ALLOW = 0x00050000, 0x7FFF0000
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4  # no slower branches for the engines, as older kernels have it else
_DRIVER, _DEVICE = Path("/proc/driver/nvidia"), Path("/dev/nvidia-uvm")


class _Program(ctypes.Structure):
    """A filter: how many instructions, and where."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _filter(machine: int, fchmod: int) -> bytes:
    """BPF that says yes to `fchmod`, and lets all else through."""
    instructions = [
        (_LOAD, 0, 0, _AT_MACHINE),
        (_JUMP_IF_EQUAL, 0, 3, machine),
        (_LOAD, 0, 0, _AT_NUMBER),
        (_JUMP_IF_EQUAL, 0, 1, fchmod),
        (_RETURN, 0, 0, _SAY_YES),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *one) for one in instructions)


def keep_private() -> None:
    """Let nothing that this process and its children make be opened to others. Raises OSError where that cannot be."""
    os.umask(0o077)
    if _DRIVER.exists() and not _DEVICE.exists():
        raise OSError(0, "NVIDIA's driver has yet to make its devices, for which programs must be able to gain rights")
    if platform.machine() not in _NUMBERS:
        raise OSError(0, f"system calls of {platform.machine()} are not known")
    machine, fchmod, seccomp = _NUMBERS[platform.machine()]
    instructions = _filter(machine, fchmod)
    program = _Program(len(instructions) // 8, instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(
        seccomp, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_SPEC_ALLOW, ctypes.byref(program)
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main(command: list[str]) -> None:
    """Become `command`; where it cannot be private, with one line that says so."""
    try:
        keep_private()
    except OSError as error:
        sys.stdout.write(f"warning: other users of this machine can read Triton's shared memory: {error.strerror}\n")
        sys.stdout.flush()
    os.execvp(command[0], command)  # noqa: S606 - in this process's place, so that it is the supervisor's child


if __name__ == "__main__":
    main(sys.argv[1:])
