"""The supervisor, with small processes in place of Triton."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from embedded.command import supervised
from embedded.errors import ServiceFailedError
from embedded.revival import Revival
from embedded.service import Service
from embedded.shared_memory import SHM, SHM_PREFIX, hold_shm

from .asking import looked, until

# A server that will not end when asked, and whose child left its process group and session.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
print("started", flush=True)
time.sleep(600)
"""
# One of which every part is needed, and which does not care.
WHOLE = """
import subprocess, sys, time
parts = [subprocess.Popen(["sleep", str(600 + number)]) for number in range(3)]
print("started", flush=True)
time.sleep(600)
"""
# One that works, holding the lock, until the file `done` is there.
BUSY = """
import fcntl, os, signal, sys, time
file = open(os.environ["TRITOUCH_STOP_FILE"])
fcntl.flock(file, fcntl.LOCK_SH)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("started", flush=True)
while not os.path.exists("done"):
    time.sleep(0.02)
print("stop" if file.read() else "go", flush=True)
fcntl.flock(file, fcntl.LOCK_UN)
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


def wait_for(condition):
    assert until(condition)


def shm_prefix():
    return f"{SHM_PREFIX}{uuid.uuid4().hex[:12]}-"


def test_an_orderly_stop_lets_the_process_end_by_itself(start):
    service = start(OBEDIENT, grace=60)
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
    assert marked.gone()


def test_the_supervisors_own_death_ends_the_process(start, marked):
    service = start(OBEDIENT, grace=600)
    service._supervisor.kill()
    assert marked.gone()


def test_what_it_started_goes_with_a_supervisor_that_is_killed(start, marked):
    service = start(WHOLE, grace=600)
    wait_for(lambda: len(marked.pids("sleep")) == 3)
    service._supervisor.kill()
    wait_for(lambda: service.exit_code is not None)
    service.stop()
    assert marked.gone()


@pytest.mark.slow
def test_a_dead_part_ends_the_whole(start, marked):
    service = start(WHOLE, grace=600, options=["--watch", "sleep"])
    wait_for(lambda: len(marked.pids("sleep")) == 3)
    service.wait_ready(lambda: True, 1)
    pid = sorted(marked.pids("sleep"))[1]
    looked(service._supervisor.pid)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: service.exit_code == 128 + signal.SIGKILL)
    assert marked.pids() == []
    with pytest.raises(ServiceFailedError, match=rf"\n  error: sleep {pid} \(601\) has died, and all is ended$"):
        service.check_alive()


@pytest.mark.slow
def test_what_has_not_started_ends_by_itself(start, marked):
    service = start(WHOLE.replace("time.sleep(600)", "[part.wait() for part in parts]"), options=["--watch", "sleep"])
    wait_for(lambda: len(marked.pids("sleep")) == 3)
    first, *others = marked.pids("sleep")
    os.kill(first, signal.SIGKILL)
    time.sleep(1.2)  # longer than it would take to be noticed
    for pid in others:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: service.exit_code == 0)
    assert "has died" not in service.log.read_text()


def test_a_whole_that_ends_with_its_parts_is_left_to_end(start, marked):
    service = start(WHOLE.replace("time.sleep(600)", "[part.wait() for part in parts]"), options=["--watch", "sleep"])
    wait_for(lambda: len(marked.pids("sleep")) == 3)
    service.stop()
    assert "has died" not in service.log.read_text()


def test_a_stop_waits_for_what_is_under_way(start, tmp_path):
    stop_file = tmp_path / "stop"
    service = start(BUSY, grace=60, options=["--stop-file", str(stop_file)])
    wait_for(lambda: service.log.read_text() == "started\n")
    stopper = threading.Thread(target=service.stop)
    stopper.start()
    wait_for(stop_file.read_text)
    (tmp_path / "done").touch()
    stopper.join(120)
    assert (service.exit_code, service.log.read_text()) == (7, "started\nstop\n")
    assert not stop_file.exists()


@pytest.mark.slow
def test_a_stop_does_not_wait_for_ever(start, tmp_path):
    service = start(BUSY, grace=6, options=["--stop-file", str(tmp_path / "stop")])
    wait_for(lambda: service.log.read_text() == "started\n")
    service.stop()
    assert service.exit_code == 7


def test_nobody_else_can_read_what_it_makes(start, tmp_path):
    start("open('made', 'w')").wait()
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600


def test_shared_memory_goes_with_the_process(start):
    prefix = shm_prefix()
    service = start(
        f"open('/dev/shm/{prefix}region', 'w'); print(1); import time; time.sleep(600)", options=["--shm", prefix]
    )
    wait_for(service.log.read_text)
    assert len(list(SHM.glob(prefix + "*"))) == 2
    os.kill(service.pid, signal.SIGKILL)
    service.wait()
    assert list(SHM.glob(prefix + "*")) == []


def test_the_next_start_removes_what_a_killed_supervisor_left_and_nothing_in_use(start):
    stale, used = shm_prefix(), shm_prefix()
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [path.unlink() for path in SHM.glob(used + "*")])
        stack.callback(os.close, hold_shm(used))
        for prefix in (stale, used):
            (SHM / f"{prefix}region").touch()
        os.close(hold_shm(stale))
        start("pass").wait()
        assert list(SHM.glob(stale + "*")) == []
        assert len(list(SHM.glob(used + "*"))) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_what_another_user_has_put_there_takes_nothing_of_ours(start):
    used = shm_prefix()
    foreign = SHM / f"{used[:-1]}.lock"  # by its name ours would be its regions
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [path.unlink() for path in SHM.glob(used[:-1] + "*")])
        stack.callback(os.close, hold_shm(used))
        (SHM / f"{used}region").touch()
        foreign.touch()
        os.chown(foreign, 65534, 65534)
        start("pass").wait()
        assert len(list(SHM.glob(used + "*"))) == 2


def test_a_program_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(ServiceFailedError, match="toy did not start"):
        Service("toy", ["/no/such/program"], Path(tmp_path / "log"), env={}, cwd=tmp_path, grace=1)


def test_a_folder_that_is_gone_is_an_error_like_others(tmp_path):
    with pytest.raises(ServiceFailedError, match=r"^toy did not start: .*No such file or directory"):
        Service("toy", ["true"], Path(tmp_path / "log"), env={}, cwd=tmp_path / "gone", grace=1)


def test_the_end_of_what_has_no_log_any_more_is_told(start):
    service = start("print(1)")
    service.wait()
    service.log.unlink()
    with pytest.raises(ServiceFailedError, match=r"exit code 0; its log: .*\n  which cannot be read: No such file"):
        service.check_alive()


@pytest.mark.slow
def test_a_dead_part_ends_the_whole_though_nobody_can_be_told(marked):
    command = supervised(["sh", "-c", "sleep 600 & sleep 601"], 1, "--watch", "sleep")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        supervisor = subprocess.Popen(command, env={**os.environ, **marked.env}, stdout=full)
    wait_for(lambda: len(marked.pids("sleep")) == 2)
    looked(supervisor.pid, rounds=4)
    os.kill(marked.pids("sleep")[0], signal.SIGKILL)
    assert supervisor.wait(60) == 128 + signal.SIGKILL
    assert marked.gone()


def failing(*outcomes):
    """A start that goes so each time, and the lines that were told."""
    left = list(outcomes)

    def run():
        outcome = left.pop(0)
        if outcome:
            raise ServiceFailedError(outcome)

    return run


def test_a_server_is_started_again_until_it_runs():
    told = []
    revival = Revival(failing("toy did not start", ""), told.append, waits=(0, 0, 0))
    revival.after(ServiceFailedError("toy ended with exit code 137; its log: x\n  I am well\n  error: it has died"))
    assert told == [
        "toy ended with exit code 137; its log: x (error: it has died): started again in 0 s (1 of 3)",
        "toy did not start: started again in 0 s (2 of 3)",
    ]


def test_a_server_that_does_not_last_is_started_a_bounded_number_of_times():
    told = []
    revival = Revival(failing("", "first", "last"), told.append, waits=(0, 0, 0))
    revival.after(ServiceFailedError("ended"))
    with pytest.raises(ServiceFailedError, match="last"):
        revival.after(ServiceFailedError("ended"))
    assert len(told) == 3


def test_what_has_lasted_has_all_tries_again(monkeypatch):
    monkeypatch.setattr("embedded.revival.LASTING_SECONDS", 0)
    told = []
    revival = Revival(failing("", ""), told.append, waits=(0,))
    for _ in range(2):
        revival.after(ServiceFailedError("ended"))
    assert told == ["ended: started again in 0 s (1 of 1)"] * 2
