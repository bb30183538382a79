"""What a caller asks for, whichever way it was written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from gateway.triton import Edit, Picture

Source: TypeAlias = str | bytes  # a URL, a data URL or base64; or the encoded picture itself


@dataclass(frozen=True)
class Call:
    """One edit as it was asked for.

    `edit`: all but its images. `sources`: where those come from; emptied as they are loaded, because they are large.
    `answer`: makes the answer's JSON of the picture; slow. `digest`: of all that was sent.
    """

    edit: Edit
    sources: list[Source]
    answer: Callable[[Picture], bytes]
    digest: bytes
