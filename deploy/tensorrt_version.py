"""Prints the version of this image's TensorRT, asked of the library itself; or holds the Python bindings to it.

Prints as in 11.4.0.106; `--same-as-bindings` exits with 1, saying why, where they differ or cannot be loaded. For image
builds; needs the standard library alone.
"""

import argparse
import ctypes
import ctypes.util
import importlib
import sys

PARTS = ("Major", "Minor", "Patch", "Build")


def library_version(library: str) -> str:
    """Version of a TensorRT library. Raises OSError where it cannot be loaded."""
    functions = ctypes.CDLL(library)
    return ".".join(str(getattr(functions, f"getInferLib{part}Version")()) for part in PARTS)


def main() -> int:
    """Prints or compares. Returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", default=ctypes.util.find_library("nvinfer"))
    parser.add_argument("--same-as-bindings", action="store_true")
    parser.add_argument("--bindings", default="tensorrt_bindings")
    options = parser.parse_args()
    if options.library is None:
        sys.stderr.write("TensorRT's library (libnvinfer) is not in this image\n")
        return 1
    found = library_version(options.library)
    if not options.same_as_bindings:
        sys.stdout.write(f"{found}\n")
        return 0
    try:
        bindings = importlib.import_module(options.bindings).__version__
    except ImportError as error:
        sys.stderr.write(f"the Python bindings of TensorRT {found} cannot be loaded: {error}\n")
        return 1
    if bindings != found:
        sys.stderr.write(f"the Python bindings are of TensorRT {bindings}, and the image has {found}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
