"""The Jobs of the chart that export: where their engines lie, and what a Job is called."""

from typing import Any

from tests.fleet.conftest import CHART
from tests.fleet.test_chart import environment, pods
from tests.fleet.tools import Tools


def test_engines_are_read_only_for_triton_and_belong_to_what_they_were_made_of(tools: Tools) -> None:
    def folder(*flags: str) -> str:
        documents = tools.render(CHART, "--set", "images.tag=v1", *flags)
        ((_, job),) = ((name, pod) for name, pod in pods(documents) if "-export-" in name)
        ((_, triton),) = ((name, pod) for name, pod in pods(documents) if name == "tritouch-triton-gpu")
        containers = [*job["spec"]["containers"], *triton["spec"]["containers"], *triton["spec"]["initContainers"]]
        (repository,) = {environment(container)["TRITOUCH_REPOSITORY"] for container in containers}
        assert all(
            mount["readOnly"]
            for container in containers[1:]
            for mount in container["volumeMounts"]
            if mount["name"] == "models"
        )
        return repository

    folders = [
        folder(),
        folder("--set", "model.TRITOUCH_MAX_PIXELS=1048576"),
        folder("--set", "pools[0].name=gpu,pools[0].model.TRITOUCH_MAX_PIXELS=589824"),
        folder("--set", "pools[0].name=gpu,pools[0].engine=openvino"),
        folder("--set", "images.tag=v2"),
    ]
    assert len(set(folders)) == len(folders)
    assert folder("--set", "pools[0].name=gpu,pools[0].replicas=3,editTimeoutSeconds=60") == folders[0]


def test_a_job_that_would_be_another_has_another_name(tools: Tools) -> None:
    """Kubernetes refuses to change one, and with it the whole upgrade."""

    def job(*flags: str) -> tuple[str, dict[str, Any]]:
        documents = tools.render(CHART, "--set", "images.tag=v1", *flags)
        ((name, pod),) = ((name, pod) for name, pod in pods(documents) if "-export-" in name)
        return name, pod["spec"]

    first, same = job(), job("--set", "gateway.replicas=3")
    assert first == same
    others = [
        job("--set", changed)
        for changed in (
            "pools[0].name=gpu,pools[0].nodeSelector.kind=l4",
            "storage.models.existingClaim=other",
            "hubToken.existingSecret=token",
            "export.resources.limits.memory=64Gi",
            "model.TRITOUCH_MAX_PIXELS=1048576",
        )
    ]
    assert all(spec != first[1] for _, spec in others)
    assert len({first[0], *(name for name, _ in others)}) == 1 + len(others)
