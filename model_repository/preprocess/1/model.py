"""`preprocess`: one `edit` request to the tensors of its engines. The family does the work; Triton is met only here."""

import json
import os
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from families import load
from families.edit import Edit
from families.errors import PARAMETER_INVALID, PROMPT_INVALID, InvalidEditError
from families.picture import RESPONSE_FORMATS, DecodingLimits

PIPELINE = Path(__file__).parent / "pipeline"


class TritonPythonModel:
    """Holds the family's conditioner."""

    def initialize(self, _args: dict[str, str]) -> None:
        """Raises when the export's `pipeline` folder is missing or does not fit."""
        family = json.loads((PIPELINE / "pipeline.json").read_text("utf-8"))["family"]
        self._condition = load(family, "conditioning").Conditioner(
            PIPELINE, DecodingLimits.from_environment(os.environ)
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request; a bad request fails alone."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        try:
            tensors = self._condition(read(request))
        except InvalidEditError as error:
            fault = pb_utils.TritonError(f"tritouch:{error.code} {error}", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse([], error=fault)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in tensors.items()])


def read(request: Any) -> Edit:
    """The request's inputs as an `Edit`. Raises InvalidEditError."""
    if text(request, "response_format", PARAMETER_INVALID) not in RESPONSE_FORMATS:
        raise InvalidEditError(PARAMETER_INVALID, f"response_format must be one of {', '.join(RESPONSE_FORMATS)}")
    return Edit(
        images=tuple(values(request, "image").tolist()),
        prompt=text(request, "prompt", PROMPT_INVALID),
        num_inference_steps=int(values(request, "num_inference_steps")[0]),
        guidance_scale=float(values(request, "guidance_scale")[0]),
        image_guidance_scale=float(values(request, "image_guidance_scale")[0]),
        model=text(request, "model", PARAMETER_INVALID),
    )


def values(request: Any, name: str) -> NDArray[Any]:
    """An input as an array."""
    array: NDArray[Any] = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return array


def text(request: Any, name: str, code: str) -> str:
    """A BYTES [1] input as text. Raises InvalidEditError with `code` when it is not UTF-8."""
    try:
        return bytes(values(request, name)[0]).decode()
    except UnicodeDecodeError as error:
        raise InvalidEditError(code, f"{name} is not UTF-8") from error
