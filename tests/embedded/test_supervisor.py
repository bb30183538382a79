"""The supervisor, with small processes in place of Triton."""

import contextlib
import os
import signal
import sys
import time
import uuid
from pathlib import Path

import pytest

from embedded.errors import ServiceFailedError
from embedded.service import Service
from embedded.supervisor import SHM, SHM_PREFIX, hold_shm

# A server that will not end when asked, and whose child left its process group and session.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
print("started", flush=True)
time.sleep(600)
"""
OBEDIENT = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); print(1); time.sleep(600)"


@pytest.fixture
def start(tmp_path, marked):
    """Starts a Python program under a supervisor; what is left of it ends with the test."""
    started = []

    def run(program, **options):
        log = tmp_path / f"{len(started)}.log"
        options = {"env": {**os.environ, **marked.env, "PYTHONUNBUFFERED": "1"}, "grace": 0.2, **options}
        service = Service("toy", [sys.executable, "-c", program], log, cwd=tmp_path, **options)
        started.append(service)
        return service

    yield run
    for service in started:
        service.stop()


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def shm_prefix():
    return f"{SHM_PREFIX}{uuid.uuid4().hex[:12]}-"


def test_an_orderly_stop_lets_the_process_end_by_itself(start):
    service = start(OBEDIENT, grace=10)
    wait_for(service.log.read_text)
    service.stop()
    assert service.exit_code == 7


def test_a_process_that_does_not_stop_is_killed_with_all_it_started(start, marked):
    service = start(STUBBORN)
    wait_for(lambda: len(marked.pids()) == 3 and service.log.read_text())  # the supervisor bears the mark too
    service.stop()
    assert service.exit_code == 128 + signal.SIGKILL
    assert marked.pids() == []


def test_what_a_dead_process_started_dies_too(start, marked):
    service = start(STUBBORN)
    wait_for(lambda: len(marked.pids()) == 3 and service.log.read_text())
    os.kill(service.pid, signal.SIGKILL)
    service.wait()
    assert marked.pids() == []
    with pytest.raises(ServiceFailedError, match=r"toy ended with exit code 137; its log: .*0\.log\n  started"):
        service.check_alive()


def test_the_parents_death_ends_all_at_once(start, marked):
    service = start(STUBBORN, grace=600)
    wait_for(lambda: len(marked.pids()) == 3 and service.log.read_text())
    service._control.close()  # as the kernel does for a killed process
    assert marked.gone_within(5)


def test_the_supervisors_own_death_ends_the_process(start, marked):
    service = start(OBEDIENT, grace=600)
    service._supervisor.kill()
    assert marked.gone_within(5)


def test_shared_memory_goes_with_the_process(start):
    prefix = shm_prefix()
    service = start(f"open('/dev/shm/{prefix}region', 'w'); print(1); import time; time.sleep(600)", shm_prefix=prefix)
    wait_for(service.log.read_text)
    assert len(list(SHM.glob(prefix + "*"))) == 2
    os.kill(service.pid, signal.SIGKILL)
    service.wait()
    assert list(SHM.glob(prefix + "*")) == []


def test_the_next_start_removes_what_a_killed_supervisor_left_and_nothing_in_use(start):
    stale, used = shm_prefix(), shm_prefix()
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [path.unlink() for path in SHM.glob(used + "*")])
        for prefix in (stale, used):
            (SHM / f"{prefix}region").touch()
        os.close(hold_shm(stale))
        stack.callback(os.close, hold_shm(used))
        start("pass").wait()
        assert list(SHM.glob(stale + "*")) == []
        assert len(list(SHM.glob(used + "*"))) == 2


def test_a_program_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(ServiceFailedError, match="toy did not start"):
        Service("toy", ["/no/such/program"], Path(tmp_path / "log"), env={}, cwd=tmp_path, grace=1)
