"""How the tests ask running servers, and the command that starts them."""

import re
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

from embedded.shared_memory import SHM_PREFIX

STUB = "triton_python_backend_stub"


def regions(server):
    """A pattern of the names in /dev/shm of the Triton with this process id."""
    (prefix,) = re.findall(r"shm-region-prefix-name=([^\0]+)", Path(f"/proc/{server}/cmdline").read_text())
    assert prefix.startswith(SHM_PREFIX)
    return f"{prefix}*"


def status(url):
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def tensors(module, x, t):
    inputs = [module.InferInput("x", x.shape, "FP32"), module.InferInput("t", t.shape, "INT64")]
    for tensor, array in zip(inputs, (x, t), strict=True):
        tensor.set_data_from_numpy(array)
    return inputs


def arrays(rows, size, t):
    x = np.random.default_rng(t).normal(size=(rows, 4, size, size)).astype(np.float32)
    return x, np.full((rows, 1), t, np.int64)


def right(x, t, y):
    return np.allclose(y, 2 * x + t[:, :, None, None], atol=1e-5)


def addresses(process):
    """Triton's gRPC address, the gateway's and the run folder, once the command says that it serves."""
    found = {}
    while "logs" not in found:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        name, *words = line.split()
        found[name] = words[-1] if name == "gateway" else words[1] if name == "Triton" else words[0]
    return found["Triton"], found.get("gateway", ""), found["logs"]


def looked(supervisor, rounds=2):
    """Wait until a supervisor has gone round that often, and has seen what it is to watch; each time it sleeps once."""

    def slept():
        status = Path(f"/proc/{supervisor}/status").read_text()
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.MULTILINE)[1])

    before = slept()
    assert until(lambda: slept() >= before + rounds)


def until(condition, seconds=120):
    """Whether something comes to hold in time."""
    end = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return true
