"""What the command line takes: each flag's name and what its help says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from tritouch.requests import DEFAULT_URL

Pictures: TypeAlias = Annotated[
    list[str], typer.Argument(metavar="PICTURE", help="files, folders, or - for standard input")
]
Prompt: TypeAlias = Annotated[str, typer.Argument(metavar="PROMPT", help="the sentence that says what to do")]
Output: TypeAlias = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", help="one edit, of all pictures together; - for standard output"),
]
OutDir: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="DIR", help="an edit of each picture; those already there are skipped")
]
Jobs: TypeAlias = Annotated[int, typer.Option(min=1, metavar="N", help="edits at once, with --out-dir")]
Force: TypeAlias = Annotated[bool, typer.Option("--force", help="overwrite what is there")]
Number: TypeAlias = Annotated[
    int, typer.Option("--n", min=1, metavar="N", help="edits of each picture: night-1.png, night-2.png, ...")
]
Seed: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", help="the same seed gives the same picture (default: drawn)")
]
Steps: TypeAlias = Annotated[int | None, typer.Option(metavar="N", help="denoising steps (default: the model's)")]
Guidance: TypeAlias = Annotated[
    float | None, typer.Option(metavar="X", help="how closely the sentence is followed (default: the model's)")
]
ImageGuidance: TypeAlias = Annotated[
    float | None, typer.Option(metavar="X", help="how closely the picture is kept (default: the model's)")
]
NegativePrompt: TypeAlias = Annotated[str | None, typer.Option(metavar="TEXT", help="what is not wanted")]
Cache: TypeAlias = Annotated[
    str | None, typer.Option(metavar="HOW", help="off, or balanced: sooner, of nearly the same pixels")
]
Model: TypeAlias = Annotated[
    str | None, typer.Option(metavar="ROUTE", help="an adapter, or several: oil:0.7+ink (default: none)")
]
Size: TypeAlias = Annotated[
    str | None, typer.Option(metavar="WxH", help="of the answer (default: auto, which follows the picture's)")
]
Mask: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="PNG", help="edit only where it is transparent; as large as the picture")
]
FileFormat: TypeAlias = Annotated[
    Literal["png", "jpg", "webp"] | None,
    typer.Option("--format", metavar="F", help="png, jpg or webp (default: the name's; with - png)"),
]
Quality: TypeAlias = Annotated[int | None, typer.Option(metavar="N", help="of jpg and webp, 0 to 100")]
Stream: TypeAlias = Annotated[bool, typer.Option("--stream", help="show steps as they are made")]
LowPriority: TypeAlias = Annotated[bool, typer.Option("--low-priority", help="let the edits of others go first")]
Retries: TypeAlias = Annotated[
    int, typer.Option(min=0, metavar="N", help="more tries while the server is busy or away")
]
Timeout: TypeAlias = Annotated[
    float, typer.Option(min=0.001, metavar="SECONDS", help="for one edit, its retries included")
]
Url: TypeAlias = Annotated[
    str | None, typer.Option(metavar="URL", help=f"of the server (default: TRITOUCH_URL, or {DEFAULT_URL})")
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="print JSON")]
Repository: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="DIR", help="model repository (default: TRITOUCH_REPOSITORY, or the checkout's)")
]
Port: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", help="the gateway's port (default: TRITOUCH_PORT; 0 for a free one)")
]
Replicas: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", help="so many Tritons, over which edits are spread (default: 1)")
]
NoGateway: TypeAlias = Annotated[bool, typer.Option("--no-gateway", help="start Triton alone")]

OF_FIELDS = {
    "num_inference_steps": "--steps",
    "guidance_scale": "--guidance",
    "image_guidance_scale": "--image-guidance",
    "negative_prompt": "--negative-prompt",
    "output_compression": "--quality",
    **{name: f"--{name}" for name in ("model", "seed", "size", "mask", "n", "stream", "cache")},
}
"""The API's fields, as the server's messages name them, and the flags that set them."""


def in_flags(message: str) -> str:
    """A server's message about a field, about the flag."""
    name, colon, rest = message.partition(":")
    return f"{OF_FIELDS[name]}{colon}{rest}" if colon and name in OF_FIELDS else message
