"""Prints what an image holds as a CycloneDX 1.6 bill of materials: its Python packages and Debian's or Ubuntu's.

Run inside the image, which needs nothing for it:
`docker run --rm -i --entrypoint python3 IMAGE - IMAGE < deploy/sbom.py`.
"""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

QUERY = "${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\n"


def python_packages() -> Iterator[dict[str, Any]]:
    """A component for each distribution that this Python finds."""
    for package in metadata.distributions():
        name, version = package.metadata["Name"].lower().replace("_", "-"), package.version
        purl = f"pkg:pypi/{name}@{quote(version)}"
        component: dict[str, Any] = {"type": "library", "name": name, "version": version, "purl": purl}
        if "License-Expression" in package.metadata:
            component["licenses"] = [{"expression": package.metadata["License-Expression"]}]
        yield component


def system_packages() -> Iterator[dict[str, Any]]:
    """A component for each package that dpkg has installed."""
    release = Path("/etc/os-release").read_text("utf-8").splitlines()
    (distribution,) = (line.removeprefix("ID=").strip('"') for line in release if line.startswith("ID="))
    listed = subprocess.run(["dpkg-query", "-W", "-f", QUERY], capture_output=True, text=True, check=True)  # noqa: S607
    for line in listed.stdout.splitlines():
        status, name, version, architecture = line.split("\t")
        if status.startswith("ii"):
            purl = f"pkg:deb/{distribution}/{quote(name)}@{quote(version)}?arch={architecture}"
            yield {"type": "library", "name": name, "version": version, "purl": purl}


def bill(image: str) -> dict[str, Any]:
    """The bill of materials of the image that this runs in."""
    found = {component["purl"]: component for component in (*python_packages(), *system_packages())}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid4().urn,
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "component": {"type": "container", "name": image, "bom-ref": image},
        },
        "components": [{"bom-ref": purl, **component} for purl, component in sorted(found.items())],
    }


def main() -> int:
    """Prints the bill. Returns the exit code."""
    if len(sys.argv) != 2:
        sys.stderr.write("sbom.py: give the image's name\n")
        return 2
    sys.stdout.write(json.dumps(bill(sys.argv[1]), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
