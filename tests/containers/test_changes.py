"""Settings, models and images are changed under callers, or fail to be, as the guide says to do it."""

import time

import pytest

from tests.containers.engine import eventually
from tests.containers.load import load, long_edits
from tests.containers.stack import Stack, tags
from tests.server.asking import colours

PICTURE = colours(96, 128)
EXPORT = ("run", "--rm", "export-cpu")
UP = ("up", "--no-build", "--detach", "gateway-cpu")


def serves(stack: Stack) -> None:
    eventually(lambda: stack.edit(PICTURE).status == 200, "it does not serve again")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"TRITOUCH_MAX_BATCH": "0"}, "export: --max-batch must be 1 to 256"),
        ({"TRITOUCH_MODEL": "/checkpoints/missing"}, "/checkpoints/missing is neither a folder nor a hub id"),
    ],
)
def test_an_export_that_fails_beside_what_serves_disturbs_nobody(
    serving: Stack, settings: dict[str, str], said: str
) -> None:
    serving.set(**settings)
    with load(serving) as answers:
        done = serving.attempt(*EXPORT)
    serving.set()
    assert (done.returncode, said in done.stdout) == (2, True), done.stdout
    assert {answer.status for answer in answers} == {200}


def test_a_checkpoint_that_only_its_owner_may_read_is_named(serving: Stack) -> None:
    model = serving.checkpoints / "tiny"
    model.chmod(0o700)
    done = serving.attempt(*EXPORT)
    model.chmod(0o755)
    assert done.returncode == 2
    said = "export: /checkpoints/tiny must be readable by uid 1000: chmod -R a+rX /checkpoints/tiny"
    assert said in done.stdout.splitlines(), done.stdout


def test_up_serves_what_is_installed_where_the_export_fails(serving: Stack) -> None:
    before = serving.edit(PICTURE)
    serving.set(TRITOUCH_MODEL="/checkpoints/missing")
    said = serving.compose(*UP)
    assert 'optional dependency "export-cpu" didn\'t complete successfully: exit 2' in said
    serves(serving)
    assert serving.edit(PICTURE).body["image"] == before.body["image"]
    serving.set()


def test_up_ends_where_the_export_fails_and_nothing_is_installed(serving: Stack) -> None:
    serving.set(TRITOUCH_MAX_BATCH="0")
    first = ("--project-name", "first")
    done = serving.attempt(*first, "up", "--no-build", "--detach", "gateway-cpu")
    said = serving.compose(*first, "--profile", "*", "logs")
    serving.compose(*first, "--profile", "*", "down", "--volumes")
    serving.set()
    assert done.returncode != 0
    assert "--max-batch must be 1 to 256" in said
    assert "nothing is installed in /models: no export has succeeded yet, and its log says why" in said


def export_other_steps(stack: Stack) -> int:
    """Exports beside what serves with another number of steps, which is served from the next start on; returns it."""
    steps = stack.edit(PICTURE).body["num_inference_steps"]
    wanted = 2 if steps == 3 else 3
    stack.set(TRITOUCH_DEFAULT_STEPS=str(wanted))
    with load(stack) as answers:
        stack.compose(*EXPORT)
        assert stack.edit(PICTURE).body["num_inference_steps"] == steps, "what is loaded serves on"
    assert {answer.status for answer in answers} == {200}
    return wanted


def test_settings_are_changed_under_load(serving: Stack) -> None:
    wanted = export_other_steps(serving)
    with load(serving) as answers:
        serving.compose(*UP)
        serves(serving)
    assert {answer.status for answer in answers} <= {0, 200, 503}, "0: compose starts the gateway anew as well"
    assert serving.edit(PICTURE).body["num_inference_steps"] == wanted


def test_a_restart_of_triton_alone_is_503_meanwhile(serving: Stack) -> None:
    before = serving.inspect("gateway-cpu")["State"]["StartedAt"]
    wanted = export_other_steps(serving)
    with load(serving) as answers:
        serving.compose("restart", "triton-cpu")
        serves(serving)
    assert {answer.status for answer in answers} == {200, 503}
    assert all("retry-after" in answer.headers for answer in answers if answer.status == 503)
    assert serving.edit(PICTURE).body["num_inference_steps"] == wanted
    assert serving.inspect("gateway-cpu")["State"]["StartedAt"] == before


def test_an_upgrade_loses_no_edit_in_flight(serving: Stack) -> None:
    old = tags(serving.engine)
    for file in ("gateway/__init__.py", "embedded/supervisor.py"):
        with (serving.tree / file).open("a") as source:
            source.write("\n# a new version\n")
    serving.compose("--profile", "cpu", "build")
    new = tags(serving.engine)
    assert all(new[f"tritouch-{name}-cpu"] != old[f"tritouch-{name}-cpu"] for name in ("gateway", "triton"))
    with long_edits(serving) as edits:
        with serving.begin(*UP) as up:
            assert up.stdout is not None
            begun = [time.monotonic() for line in up.stdout if "triton-cpu" in line and "Recreate" in line]
        assert up.returncode == 0
        ended = [edit.result() for edit in edits]
    assert [answer.status for answer in ended] == [200] * len(edits)
    assert max(answer.at for answer in ended) > begun[0], "none was in flight when Triton was told to stop"
    for name in ("gateway", "triton"):
        assert serving.inspect(f"{name}-cpu")["Image"].startswith(f"sha256:{new[f'tritouch-{name}-cpu']}")
    serves(serving)
