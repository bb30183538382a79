"""`tritouch` run in this process."""

from pathlib import Path

from typer.testing import CliRunner, Result

from tritouch.cli import app

NIGHT = "make it night"


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    """`tritouch` with these arguments; a crash is the test's."""
    result = CliRunner().invoke(app, [str(one) for one in arguments], input=stdin, catch_exceptions=False)
    assert "Traceback" not in result.stderr
    return result


def edit(*arguments: object, stdin: bytes | None = None) -> Result:
    return run("edit", *arguments, stdin=stdin)


def said(result: Result, waited: bool = False) -> str:
    """The one line of a failure; before it one of the first wait, where a server could not be reached."""
    *told, line = result.stderr.splitlines()
    assert [" Trying again in " in one for one in told] == [True] * waited
    assert line.startswith("tritouch: ")
    return line.removeprefix("tritouch: ")


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
