"""Nothing of ours calls home: no process of an export, nor of a served edit, asks for the address of any other host."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from embedded.server import serve
from tests.conftest import ROOT, export_command
from tests.server.asking import Client, colours

WATCH = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void note(const char *file, const char *line) {
    FILE *out = file ? fopen(file, "a") : NULL;
    if (out) { fprintf(out, "%s\n", line); fclose(out); }
}
__attribute__((constructor)) static void begun(void) {
    char line[4096] = "";
    FILE *own = fopen("/proc/self/cmdline", "r");
    if (own) { line[fread(line, 1, sizeof line - 1, own)] = 0; fclose(own); }
    note(getenv("TEST_WATCHED"), line);
}
typedef int (*lookup)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    lookup real = (lookup)dlsym(RTLD_NEXT, "getaddrinfo");
    if (node && !(hints && hints->ai_flags & AI_NUMERICHOST)) note(getenv("TEST_ASKED"), node);
    return real(node, service, hints, found);
}
struct hostent *gethostbyname(const char *name) {
    struct hostent *(*real)(const char *) = dlsym(RTLD_NEXT, "gethostbyname");
    note(getenv("TEST_ASKED"), name);
    return real(name);
}
"""
"""Stands before the C library's own, in every process: it notes which there are, and what addresses they ask for."""
OWN = {"127.0.0.1", "::1", "localhost", "0.0.0.0"}


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with `asked`, what addresses were asked for, and `watched`, the programs that would have been seen."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to watch with")
    folder = tmp_path / "watch"
    folder.mkdir()
    source, library = folder / "watch.c", folder / "watch.so"
    source.write_text(WATCH)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    for name in ("asked", "watched"):
        (folder / name).touch()
        monkeypatch.setenv(f"TEST_{name.upper()}", str(folder / name))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.delenv("HF_HUB_OFFLINE")  # as for a user, who does not set it
    monkeypatch.setenv("HOME", str(folder))  # whoever was asked before may have noted the answer there
    return folder


def programs(folder: Path, name: str) -> int:
    """How many processes of a program were watched."""
    return sum(name in line for line in (folder / "watched").read_text().splitlines())


def asked(folder: Path) -> set[str]:
    return set((folder / "asked").read_text().splitlines()) - OWN


@pytest.mark.slow
@pytest.mark.long
def test_an_export_asks_for_no_address(repository: Path, checkpoint: Path, tmp_path: Path, watched: Path) -> None:
    target = tmp_path / "repository"
    shutil.copytree(repository, target, symlinks=True)
    shutil.rmtree((target / "text_encoder").resolve())
    done = subprocess.run(export_command(checkpoint, target), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("up to date") == 3, "one component was made"
    assert programs(watched, "python") >= 2, "the export, and what makes components"
    assert asked(watched) == set()


@pytest.mark.long
def test_a_served_edit_asks_for_no_address(repository: Path, watched: Path) -> None:
    with serve(repository, port=0, env=dict(os.environ)) as running:
        assert Client(running).edit(colours(64, 64), num_inference_steps=1).status == 200
    assert programs(watched, "python_backend_stub") >= 7
    assert programs(watched, "python") >= 8, "the gateway too"
    assert asked(watched) == set()


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.lock")), ids=lambda file: file.name)
def test_what_calls_home_by_itself_is_not_installed(lock: Path) -> None:
    """ONNX Runtime's builds for Linux ask for a host of their maker's, below Python, where nobody sees it here."""
    assert not [line for line in lock.read_text().splitlines() if line.startswith("onnxruntime")]
