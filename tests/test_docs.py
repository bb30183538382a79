"""Every page against the checkout: links lead to files, and commands name what there is. No command is run here."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "demo" / "README.md"])
MODULE = re.compile(r"python3? -m (\S+)(.*)")
FOREIGN = {"pytest", "pip"}
"""Modules that commands run and that are not ours."""
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def commands(page: Path) -> Iterator[str]:
    """Each command of a page: lines of indented and fenced blocks, continued ones joined, and code within a line."""
    text = re.sub(r"```(?:python|json).*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for block in re.findall(r"```\w*\n(.*?)```|((?:^ {4}\S[^\n]*\n)+)", text, re.DOTALL | re.MULTILINE):
        joined = re.sub(r"\\\n", " ", "".join(block))
        yield from (line.split("#")[0].strip() for line in joined.splitlines())
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text))


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def file_of(module: str) -> Path | None:
    """The file that `python -m` runs, where it is one of ours."""
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__main__.py") if file.is_file()), None)


def flags_of(file: Path) -> set[str]:
    """The flags that a module's parser takes, and those of the modules of its room that it imports."""
    room = file.relative_to(ROOT).parts[0]
    names = {
        name
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == room
        for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
    }
    files = {file, *filter(None, map(file_of, names))}
    text = "".join(file.read_text("utf-8") for file in files)
    return set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', text))


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in slugs(file), target


def test_every_page_is_reached_from_the_readme() -> None:
    reached, left = set[Path](), [ROOT / "README.md"]
    while left:
        page = left.pop()
        reached.add(page)
        linked = re.findall(r"\]\(([^)\s#:]+\.md)", page.read_text("utf-8"))
        left += {(page.parent / name).resolve() for name in linked} & set(PAGES) - reached
    assert set(PAGES) - reached == set()


@pages
def test_make_targets_exist(page: Path) -> None:
    named = [
        word
        for command in commands(page)
        if (call := re.match(r"(?:[A-Z_]+=\S+ )*make\b(.*)", command))
        for word in call[1].split()
        if "=" not in word and not word.startswith("-")
    ]
    assert set(named) <= targets()


@pages
def test_modules_and_their_flags_exist(page: Path) -> None:
    for command in commands(page):
        if not (call := MODULE.search(command)) or call[1] in FOREIGN:
            continue
        module, flags = call[1], shlex.split(call[2].split("|")[0]) if call[2] else []
        if module == "bench" and flags and not flags[0].startswith("-"):
            module = f"bench.{flags[0]}"
        file = file_of(module)
        assert file, command
        given = {word.partition("=")[0] for word in flags if word.startswith("--")}
        assert given <= flags_of(file) | {"--help"}, command


def test_the_readme_has_commands_to_check() -> None:
    found = list(commands(ROOT / "README.md"))
    assert {"make demo", "make up", "make test", "docker compose up"} <= set(found)
    assert any("-m export" in command for command in found)
    assert flags_of(ROOT / "export" / "__main__.py") >= {"--model", "--precision", "--option"}


def test_the_listed_flags_are_the_exports() -> None:
    text = (ROOT / "docs" / "export.md").read_text("utf-8")
    table = text.split("| flag | default | meaning |")[1].split("\n\n")[0]
    listed = {flag for line in table.splitlines() for flag in re.findall(r"`(--[a-z-]+)`", line.split(" | ")[0])}
    assert listed == flags_of(ROOT / "export" / "__main__.py")


def test_the_readmes_families_are_the_registrys() -> None:
    from families import PIPELINES

    text = (ROOT / "README.md").read_text("utf-8")
    table = text.split("| model family |")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+Pipeline)`", table)) == set(PIPELINES)


@pages
def test_files_of_ours_that_are_named_exist(page: Path) -> None:
    rooms = "gateway|model_repository|families|export|backends|embedded|tritouch|bench|deploy"
    named = re.findall(rf"`((?:{rooms})/[\w/.-]+\.(?:py|pbtxt|yaml|md|sh|Dockerfile))`", page.read_text("utf-8"))
    assert [name for name in named if not (ROOT / name).is_file() and "NAME" not in name] == []


def test_what_the_page_on_faults_names_is_tested() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    written = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 20
    assert not [name for name in named if f"def {name}(" not in written]
