"""The project's own compose file, run by an engine on this checkout's files, and asked as its users ask it."""

import base64
import json
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from tests.containers.engine import Engine
from tests.server.asking import png

URL = "http://127.0.0.1:8000"
DEFAULTS = {
    "TRITOUCH_MODEL": "/checkpoints/tiny",
    "TRITOUCH_ADAPTERS": "oil=/checkpoints/adapters/oil ink=/checkpoints/adapters/ink:0.7",
    "TRITOUCH_PRECISION": "fp32",
    "TRITOUCH_MAX_PIXELS": "65536",
    "TRITOUCH_MAX_BATCH": "3",
    "TRITOUCH_GUIDANCE_WHEN_ZERO": "1",
    "TRITOUCH_ORPHAN_GRACE_SECONDS": "0.1",
    "HF_HUB_OFFLINE": "1",
}
"""What .env says of a tiny model, next to the folder of its checkpoint."""


@dataclass(frozen=True)
class Answer:
    """To one call through the published port. Status 0: there was nobody."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]
    """Their names in small letters."""
    at: float = field(default_factory=time.monotonic)
    """When it had come."""


@dataclass(frozen=True)
class Stack:
    """One project: `tree` holds its files, `checkpoints` what the export sees as /checkpoints."""

    engine: Engine
    tree: Path
    checkpoints: Path

    def set(self, **settings: str) -> None:
        """Writes .env: the defaults above, changed by these."""
        values = DEFAULTS | {"TRITOUCH_CHECKPOINTS": str(self.checkpoints)} | settings
        (self.tree / ".env").write_text("".join(f'{name}="{value}"\n' for name, value in values.items()))

    def compose(self, *arguments: str) -> str:
        """What a compose command that must succeed says."""
        done = self.attempt(*arguments)
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\n{self.logs()}"
        return done.stdout

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A compose command, run; both of its outputs are in `stdout`."""
        return subprocess.run(self._command(*arguments), **self._options(), check=False)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """A compose command, begun."""
        return subprocess.Popen(self._command(*arguments), **self._options())

    def _command(self, *arguments: str) -> list[str]:
        return ["docker", "compose", "--ansi=never", "--progress=plain", *arguments]

    def _options(self) -> dict[str, Any]:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        return {"cwd": self.tree, "env": self.engine.env, "text": True, **streams}

    def logs(self) -> str:
        """The last lines of every container."""
        return self.attempt("--profile", "*", "logs", "--tail=30").stdout

    def container(self, service: str) -> str:
        """The id of a service's container, running or not; empty where there is none."""
        return self.compose("ps", "--all", "--quiet", service).strip()

    def inspect(self, service: str) -> Any:
        """All that the engine knows of a service's container."""
        return json.loads(self.engine.docker("inspect", self.container(service)))[0]

    def python(self, service: str, source: str, user: str = "1000:1000") -> str:
        """What Python prints in a running container."""
        return self.compose("exec", "--no-TTY", "--user", user, service, "python3", "-c", source).strip()

    def edit(self, picture: Image.Image, prompt: str = "make it red", **fields: Any) -> Answer:
        """One edit through the published port; the same seed unless another is given."""
        image = base64.b64encode(png(picture)).decode()
        return self.ask("/v1/images/edits", {"image": {"image": image}, "prompt": prompt, "seed": 1} | fields)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Answer:
        """A GET, or a POST of JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(URL + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return Answer(answer.status, json.loads(answer.read() or b"{}"), _headers(answer))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.loads(error.read() or b"{}"), _headers(error))
        except OSError as error:
            return Answer(0, {"error": str(error)}, {})


def _headers(answer: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


def tags(engine: Engine) -> dict[str, str]:
    """Tag -> id of the project's images."""
    lines = engine.docker("images", "--format={{.Repository}} {{.ID}}", "--filter=reference=tritouch-*").splitlines()
    return dict(line.split() for line in lines)
