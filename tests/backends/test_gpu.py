"""Which GPU this machine has."""

import subprocess

import pytest

from backends.gpu import Gpu, find_gpu


def test_without_a_driver_there_is_no_gpu():
    assert find_gpu("no-such-library.so") is None


def test_a_gpu_is_read_from_the_driver(tmp_path):
    source = tmp_path / "cuda.c"
    source.write_text(
        "#include <string.h>\n"
        "int cuInit(unsigned f) { return 0; }\n"
        "int cuDeviceGet(int *d, int o) { *d = 5; return 0; }\n"
        'int cuDeviceGetName(char *n, int l, int d) { strcpy(n, "NVIDIA L4"); return d != 5; }\n'
        "int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 8 : 9; return 0; }\n"
    )
    library = tmp_path / "cuda.so"
    built = subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(library)], check=False)
    if built.returncode != 0:
        pytest.skip("no C compiler")
    assert find_gpu(str(library)) == Gpu("NVIDIA L4", "8.9")
