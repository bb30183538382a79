"""A Docker Engine for tests, out of Debian's packages, in namespaces of its own. Needs root and apt, no Docker.

Packages are unpacked into a folder, and nothing is installed. The engine has its own network, mounts and processes: the
machine's tables stay as they are, and when the engine ends, however it ends, every container ends with it. It reaches
the outside through slirp4netns, a process like any other.
"""

import contextlib
import ctypes
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

ENGINE = ("docker.io", "docker-cli", "docker-compose", "docker-buildx", "containerd")
"""Of trixie: bookworm's is too old for this project, and these run on bookworm's libc."""
OWN = (
    *("runc", "libseccomp2", "iptables", "libxtables12", "libnftnl11", "libmnl0", "libip4tc2", "libip6tc2"),
    *("libnfnetlink0", "libnetfilter-conntrack3", "slirp4netns", "libslirp0", "libglib2.0-0", "mmdebstrap"),
)
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
OUTSIDE = "10.0.2.100"
"""The machine's address in the engine's network, by slirp4netns' convention."""
SECONDS = 240.0
UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def unavailable() -> str:
    """Why containers cannot run on this machine, in a line; empty where they can."""
    if os.geteuid() != 0:
        return "root is needed"
    if not (shutil.which("apt-get") and KEYRING.exists()) or codename() != "bookworm" or platform.machine() != "x86_64":
        return "Debian 12 on x86-64 with apt is needed"
    if missing := [name for name in ("unshare", "setpriv", "cc", "git", "perl") if shutil.which(name) is None]:
        return f"{', '.join(missing)}: not installed"
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        return "the kernel allows no namespaces of one's own"
    return ""


def codename() -> str:
    """Of this release of Debian, or of nothing."""
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "")


def mirror() -> str:
    """The archive that this machine's apt takes its packages from."""
    done = run(["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"])
    sites = [line.split() for line in done.splitlines()]
    return next(site for site, release in sites if release == codename()).rstrip("/")


def packages(folder: Path, release: str, names: Sequence[str]) -> list[Path]:
    """Packages of a release of Debian, downloaded into `folder`/`release` by lists of its own, signatures checked."""
    apt = folder / release
    for part in ("lists/partial", "cache/archives/partial"):
        (apt / part).mkdir(parents=True, exist_ok=True)
    (apt / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror()} {release} main\n")
    options = ["APT::Sandbox::User=root", "Acquire::Languages=none", "Dir::Etc::sourceparts=/dev/null"]
    options += [
        f"Dir::Etc::sourcelist={apt}/sources.list",
        f"Dir::State::lists={apt}/lists",
        f"Dir::Cache={apt}/cache",
    ]
    command = ["apt-get", "-qq", *(word for option in options for word in ("-o", option))]
    run([*command, "update"])
    run([*command, "download", *names], cwd=apt)
    return sorted(apt.glob("*.deb"))


def run(command: Sequence[str | Path], env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Engine:
    """The engine in `folder`, whose packages and images stay between runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.usr = folder / "engine" / "usr"
        self._bin, self._config, self._socket = folder / "bin", folder / "config", folder / "docker.sock"
        self._libraries = str(self.usr / "lib" / "x86_64-linux-gnu")
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TRITOUCH_", "COMPOSE_"))},
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "DOCKER_HOST": f"unix://{self._socket}",
            "DOCKER_CONFIG": str(self._config),
        }

    def docker(self, *arguments: str | Path) -> str:
        """The output of a docker command that must succeed."""
        return run([self._bin / "docker", *arguments], self.env)

    def unpack(self) -> None:
        """Lays out the programs, if they are not there."""
        if self.usr.exists():
            return
        unfinished = self.folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        for release, names in {"trixie": ENGINE, codename(): OWN}.items():
            for deb in packages(self.folder / "packages", release, names):
                run(["dpkg-deb", "-x", deb, unfinished])
        unfinished.rename(self.usr.parent)
        programs = [*(self.usr / "bin").iterdir(), *(self.usr / "sbin").iterdir()]
        links = {self._bin / program.name: program for program in programs}
        tables = [f"{ip}tables{end}" for ip in ("ip", "ip6") for end in ("", "-save", "-restore")]
        links |= {self._bin / name: self.usr / "sbin" / "xtables-nft-multi" for name in tables}
        plugins = (self.usr / "libexec" / "docker" / "cli-plugins").iterdir()
        links |= {self._config / "cli-plugins" / plugin.name: plugin for plugin in plugins}
        for link, target in links.items():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The engine, answering; in the end all of its processes and containers are gone."""
        libraries = {**self.env, "LD_LIBRARY_PATH": self._libraries, "XTABLES_LIBDIR": f"{self._libraries}/xtables"}
        command = [*UNSHARE, "dockerd", f"--host=unix://{self._socket}", f"--data-root={self.folder / 'docker'}"]
        command += [f"--exec-root={self.folder / 'run'}", f"--pidfile={self.folder / 'dockerd.pid'}"]
        for stale in (self.folder / "dockerd.pid", self._socket):
            stale.unlink(missing_ok=True)
        log = self.folder / "dockerd.log"
        with contextlib.ExitStack() as stack:
            daemon = stack.enter_context(_process(command, libraries, log))
            inside = eventually(lambda: _only_child(daemon.pid), "the engine does not start")
            self.network = Path(f"/proc/{inside}/ns/net")
            slirp = ["slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", inside, "tap0"]
            stack.enter_context(_process(slirp, libraries, self.folder / "slirp.log"))
            eventually(lambda: self._answers(daemon), "the engine does not answer")
            yield
            os.kill(int(inside), signal.SIGTERM)
            daemon.wait(SECONDS)

    def _answers(self, daemon: subprocess.Popen[bytes]) -> str:
        assert daemon.poll() is None, (self.folder / "dockerd.log").read_text()[-3000:]
        ask = [str(self._bin / "docker"), "version", "--format", "{{.Server.Version}}"]
        return subprocess.run(ask, env=self.env, capture_output=True, text=True, check=False).stdout.strip()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and all threads and processes it starts, in the engine's network."""
        with Path("/proc/thread-self/ns/net").open("rb") as own, self.network.open("rb") as other:
            _enter(other.fileno())
            try:
                yield
            finally:
                _enter(own.fileno())


def _enter(network: int) -> None:
    if _LIBC.setns(network, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "the network namespace cannot be entered")


def _only_child(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()


def eventually(holds: Callable[[], T], what: str, seconds: float = SECONDS) -> T:
    """What `holds` gives, once it is true. Fails with `what` where that takes too long."""
    end = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < end, what
        time.sleep(0.1)
    return value


@contextlib.contextmanager
def _process(command: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the tests, even where they are killed."""
    with log.open("wb") as output:
        kept = ("setpriv", "--pdeathsig", "KILL")
        process = subprocess.Popen([*kept, *command], env=env, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
