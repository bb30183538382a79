"""`tritouch`: edits pictures on a Tritouch server."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from tritouch import flags  # noqa: TC001  # typer reads the annotations
from tritouch.batch import Batch, Order
from tritouch.client import AsyncClient, Client
from tritouch.errors import TritouchError, UsageError
from tritouch.files import FORMATS, STANDARD, Job, edit_each, one_edit
from tritouch.form import Options, content_of
from tritouch.requests import RETRIES, TIMEOUT
from tritouch.screen import Screen, say, tell, write_picture
from tritouch.serve import replace_by_server

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERRUPTED: Final = 130
URL: Final = "--url"
_SIZE: Final = re.compile(r"auto|[1-9][0-9]*x[1-9][0-9]*", re.ASCII)

EXAMPLES: Final = """\b
Examples:
  tritouch edit photo.jpg "make it night" -o night.jpg
  tritouch edit photos/ "make it night" --out-dir edited --jobs 8

\b
Exit codes: 0 done, 1 a file could not be written, 2 the command is not right,
3 refused, 4 busy or not reached after all retries, 5 time over, 130 interrupted.
Of several edits that failed, it is the first one's."""

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Edit pictures by text on a Tritouch server.",
    epilog="TRITOUCH_URL is the server's address, TRITOUCH_API_KEY a key where it wants one.",
)


@contextmanager
def _one_line() -> Iterator[None]:
    """Every failure is one line and its exit code."""
    try:
        yield
    except TritouchError as problem:
        tell(f"tritouch: {problem}")
        raise typer.Exit(problem.exit_code) from None
    except OSError as error:  # of names, as one that is too long for a file
        tell(f"tritouch: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
        raise typer.Exit(UsageError.exit_code) from None
    except KeyboardInterrupt:
        tell("tritouch: interrupted")
        raise typer.Exit(INTERRUPTED) from None


@app.command(no_args_is_help=True, epilog=EXAMPLES)
def edit(
    pictures: flags.Pictures,
    prompt: flags.Prompt,
    *,
    output: flags.Output = None,
    out_dir: flags.OutDir = None,
    jobs: flags.Jobs = 4,
    force: flags.Force = False,
    n: flags.Number = 1,
    seed: flags.Seed = None,
    steps: flags.Steps = None,
    guidance: flags.Guidance = None,
    image_guidance: flags.ImageGuidance = None,
    negative_prompt: flags.NegativePrompt = None,
    cache: flags.Cache = None,
    model: flags.Model = None,
    size: flags.Size = None,
    mask: flags.Mask = None,
    file_format: flags.FileFormat = None,
    quality: flags.Quality = None,
    stream: flags.Stream = False,
    low_priority: flags.LowPriority = False,
    retries: flags.Retries = RETRIES,
    timeout: flags.Timeout = TIMEOUT,
    url: flags.Url = None,
    as_json: flags.Json = False,
) -> None:
    """Edit pictures as a sentence says."""
    with _one_line():
        options: Options = {
            "seed": seed,
            "steps": steps,
            "guidance": guidance,
            "image_guidance": image_guidance,
            "negative_prompt": negative_prompt,
            "cache": cache,
            "model": model,
            "size": _checked(size),
            "mask": None if mask is None else content_of(mask),
            "quality": quality,
            "low_priority": low_priority,
        }
        order = Order(prompt, options, n, stream, force)
        planned = _planned(pictures, output, out_dir, file_format, order, as_json=as_json)
        screen = Screen(prompt, None if out_dir is None else len(planned), as_json=as_json, results=output != STANDARD)
        client = AsyncClient(url, url_name=URL, retries=retries, timeout=timeout, on_wait=screen.waits)
        raise typer.Exit(_run(client, order, planned, jobs, screen, counts=out_dir is not None))


def _checked(size: str | None) -> str | None:
    """Raises `UsageError`."""
    if size is not None and not _SIZE.fullmatch(size):
        raise UsageError("--size: give auto, or WIDTHxHEIGHT as 640x480")
    return size


def _planned(
    pictures: list[str], output: str | None, out_dir: Path | None, named: str | None, order: Order, *, as_json: bool
) -> list[Job]:
    """The edits to make, with the folder for them. Raises `UsageError`."""
    chosen = None if named is None else FORMATS[f".{named}"]
    if Path(order.prompt).suffix.lower() in FORMATS and Path(order.prompt).exists():
        raise UsageError(f"{order.prompt} is a picture: the last argument is the sentence that says what to do")
    if (output is None) == (out_dir is None):
        raise UsageError("say where to: -o FILE for one edit, or --out-dir DIR for an edit of each picture")
    if out_dir is None:
        if output == STANDARD and as_json:
            raise UsageError("standard output takes the picture or --json, not both")
        if output == STANDARD and sys.stdout is None:
            raise UsageError("standard output is closed: give -o FILE, or a pipe")
        if output == STANDARD and sys.stdout.isatty():
            raise UsageError("standard output is a terminal, which shows no pictures: give -o FILE, or a pipe")
        return [one_edit(pictures, str(output), chosen, order.n, overwrite=order.overwrite)]
    planned = edit_each(pictures, out_dir, chosen, order.n)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{out_dir} is a file: --out-dir takes a folder") from None
    except OSError as error:
        raise UsageError(f"{out_dir}: {error.strerror or error}") from None
    return planned


def _run(client: AsyncClient, order: Order, jobs: list[Job], at_once: int, screen: Screen, *, counts: bool) -> int:
    """Returns the exit code. Raises `TritouchError`: standard output does not take the picture."""
    batch = Batch(client, order, screen, counts=counts)

    async def work() -> None:
        async with client:
            await batch.run(jobs, at_once)

    with screen:
        try:
            batch.read_pipes(jobs)
            asyncio.run(work())
            if batch.answer is not None:
                write_picture(batch.answer)
        except KeyboardInterrupt:
            rest = f": {batch.tally}; the same command goes on with the rest" if counts else ""
            screen.note(f"tritouch: interrupted{rest}")
            return INTERRUPTED
    if counts:
        screen.note(f"tritouch: {batch.tally}")
    return batch.tally.exit_code


@app.command()
def models(url: flags.Url = None, as_json: flags.Json = False) -> None:
    """List each model, its adapters and its defaults."""
    with _one_line(), Client(url, url_name=URL, retries=0) as client:
        listed = client.models()
        if as_json:
            say(json.dumps(listed))
            return
        for model in (entry for entry in listed if entry.get("parent") is None):
            adapters = [entry["id"] for entry in listed if entry.get("parent") == model["id"]]
            for line in (model["id"], *adapters, *_defaults(model)):
                say(str(line))


def _defaults(entry: dict[str, Any]) -> list[str]:
    """What holds for a model and its adapters, a line for each that it tells."""
    names = {
        "num_inference_steps": "--steps",
        "guidance_scale": "--guidance",
        "image_guidance_scale": "--image-guidance",
        "cache": "--cache",
        "max_images": "most pictures of one edit",
        "max_pixels": "largest picture, width x height",
    }
    return [f"  {text}: {entry[name]}" for name, text in names.items() if entry.get(name) is not None]


@app.command()
def status(url: flags.Url = None, as_json: flags.Json = False) -> None:
    """Tell whether an edit would work now (else exit code 4)."""
    with _one_line(), Client(url, url_name=URL) as client:
        found = client.status()
        ids = [str(entry["id"]) for entry in found.models]
        if as_json:
            record = {"url": client.url, "ready": not found.problem, "problem": found.problem}
            say(json.dumps(record | {"edits_in_flight": found.edits_in_flight, "models": ids}))
        else:
            say(f"server    {client.url}")
            say(f"ready     {'no: ' + found.problem if found.problem else 'yes'}")
            if not found.problem:
                edits = "not told" if found.edits_in_flight is None else f"{found.edits_in_flight} in flight"
                say(f"edits     {edits}")
                models = [str(entry["id"]) for entry in found.models if entry.get("parent") is None]
                say(f"model     {', '.join(models) or 'none'}")
                say(f"adapters  {', '.join(one for one in ids if one not in models) or 'none'}")
        raise typer.Exit(4 if found.problem else 0)


@app.command()
def serve(
    *,
    repository: flags.Repository = None,
    port: flags.Port = None,
    replicas: flags.Replicas = None,
    no_gateway: flags.NoGateway = False,
) -> None:
    """Serve models on this machine, as `python -m embedded`."""
    arguments = ["--no-gateway"] if no_gateway else []
    arguments += [f"--repository={repository}"] if repository else []
    arguments += [f"--port={port}"] if port is not None else []
    arguments += [f"--replicas={replicas}"] if replicas is not None else []
    with _one_line():
        replace_by_server(arguments)


def main() -> None:
    """The console script."""
    app(prog_name="tritouch")
