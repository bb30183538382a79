"""Which GPU this machine has."""

import re
import subprocess

import pytest

from backends.gpu import Gpu, chosen, find_gpu, find_gpus


def test_without_a_driver_there_is_no_gpu():
    assert find_gpu("no-such-library.so") is None


@pytest.mark.parametrize(("name", "kind"), [("NVIDIA L4", "GPU"), ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", "MIG")])
def test_a_gpu_or_a_part_of_one_is_read_from_the_driver(tmp_path, name, kind):
    source = tmp_path / "cuda.c"
    source.write_text(
        "#include <string.h>\n"
        "int cuInit(unsigned f) { return 0; }\n"
        "int cuDeviceGet(int *d, int o) { *d = 5 + o; return 0; }\n"
        "int cuDeviceGetCount(int *n) { *n = 2; return 0; }\n"
        "int cuDeviceGetUuid_v2(char *u, int d) { memset(u, d, 16); return 0; }\n"
        "int cuDeviceGetName(char *n, int l, int d) { strcpy(n, NAME); return d < 5; }\n"
        "int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 8 : 9; return 0; }\n"
    )
    library = tmp_path / "cuda.so"
    built = subprocess.run(["cc", f'-DNAME="{name}"', "-shared", "-fPIC", str(source), "-o", str(library)], check=False)
    if built.returncode != 0:
        pytest.skip("no C compiler")
    first, second = find_gpus(str(library))
    assert first == find_gpu(str(library)) == Gpu(name, "8.9", f"{kind}-05050505-0505-0505-0505-050505050505")
    assert second.uuid == f"{kind}-06060606-0606-0606-0606-060606060606"


L4, A10 = [Gpu("NVIDIA L4", "8.9", f"GPU-{number}") for number in range(3)], Gpu("NVIDIA A10", "8.6", "GPU-3")


@pytest.mark.parametrize(
    ("asked", "gpus", "serving"),
    [
        ("all", L4, L4),
        ("all", [], []),
        (" 2, 0", [*L4, A10], [L4[2], L4[0]]),
        ("3", [*L4, A10], [A10]),
    ],
)
def test_which_gpus_serve(asked, gpus, serving):
    assert chosen(asked, lambda: gpus) == serving


@pytest.mark.parametrize(
    ("asked", "gpus", "told"),
    [
        ("0,x", L4, "'0,x' is neither all nor numbers of GPUs with commas between, as in 0,2"),
        ("0,", L4, "'0,' is neither all nor numbers"),
        ("-1", L4, "'-1' is neither all nor numbers"),
        ("3", L4, "GPU 3 is not there: this machine has 0 to 2"),
        ("0", [], "GPU 0 is not there: this machine has none"),
        ("1,1", L4, "GPU 1 is there twice"),
        (
            "all",
            [*L4[:2], A10],
            "engines fit one model of GPU, and these are several: choose those of one "
            "(0,1 for NVIDIA L4 (compute capability 8.9); 2 for NVIDIA A10 (compute capability 8.6))",
        ),
    ],
)
def test_gpus_that_cannot_serve_together_are_told(asked, gpus, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        chosen(asked, lambda: gpus)
