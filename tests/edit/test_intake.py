"""The file by which a supervisor stops the taking in, and waits for what is in flight."""

from pathlib import Path

import pytest

from embedded.supervisor import StopFile
from intake import Intake
from jobs import StoppingError


@pytest.fixture
def stop_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StopFile:
    monkeypatch.setenv("TRITOUCH_STOP_FILE", "")  # so that it is put back
    return StopFile(str(tmp_path / "stop"))


def test_a_stop_waits_for_what_is_in_flight_and_lets_nothing_new_in(tmp_path: Path, stop_file: StopFile) -> None:
    intake = Intake(str(tmp_path / "stop"))
    intake.enter()
    assert not stop_file.idle()
    intake.leave()
    intake.enter()
    stop_file.begin()
    with pytest.raises(StoppingError):
        intake.enter()
    assert not stop_file.idle(), "the first one goes on"
    intake.leave()
    assert stop_file.idle()


def test_an_edit_that_comes_just_when_none_is_in_flight_is_not_begun(tmp_path: Path, stop_file: StopFile) -> None:
    intake = Intake(str(tmp_path / "stop"))
    assert stop_file.idle()
    with pytest.raises(StoppingError):
        intake.enter()


def test_without_a_supervisor_edits_are_taken_in() -> None:
    intake = Intake("")
    intake.enter()
    intake.leave()
    intake.enter()
