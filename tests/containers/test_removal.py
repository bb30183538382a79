"""What the guide says to stop and remove all that runs; comes last."""

from tests.containers.load import long_edits
from tests.containers.stack import Stack


def left(stack: Stack, *what: str) -> list[str]:
    return stack.engine.docker(*what, "--filter=label=com.docker.compose.project=tritouch", "--quiet").split()


def test_a_stop_finishes_edits_in_flight(serving: Stack) -> None:
    assert left(serving, "ps")
    with long_edits(serving) as edits:
        serving.compose("--profile", "*", "stop")
    assert [edit.result().status for edit in edits] == [200] * len(edits)
    assert left(serving, "ps") == []
    assert left(serving, "ps", "--all")


def test_down_removes_containers_and_networks_and_with_volumes_all(serving: Stack) -> None:
    serving.compose("--profile", "*", "down")
    assert left(serving, "ps", "--all") == left(serving, "network", "ls") == []
    assert left(serving, "volume", "ls")
    serving.compose("--profile", "*", "down", "--volumes")
    assert left(serving, "volume", "ls") == []
