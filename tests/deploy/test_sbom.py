"""The bill of materials of an image, made of this machine."""

import json
import subprocess
import sys
from importlib.metadata import version

from .conftest import DEPLOY


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-", *arguments]
    source = (DEPLOY / "sbom.py").read_text()
    return subprocess.run(command, input=source, capture_output=True, text=True, check=False)


def test_it_names_every_package_once_with_its_version():
    done = run("an-image")
    assert done.returncode == 0, done.stderr
    bill = json.loads(done.stdout)
    assert (bill["bomFormat"], bill["specVersion"], bill["metadata"]["component"]["name"]) == (
        *("CycloneDX", "1.6", "an-image"),
    )
    references = [component["bom-ref"] for component in bill["components"]]
    assert f"pkg:pypi/pyyaml@{version('pyyaml')}" in references
    assert len(references) == len(set(references))


def test_without_a_name_it_says_so():
    done = run()
    assert (done.returncode, done.stderr) == (2, "sbom.py: give the image's name\n")
