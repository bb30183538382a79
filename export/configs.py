"""`config.pbtxt` of the models that follow from a family: the ensembles `reference`, `view` and `render`, and `edit`.

Their shape is the same for all families; what their tensors are called and how large they are is not.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from export.component.config import HEADER, parameters, ports
from families import preview_decoder, safety_checker
from families.edit import canvas
from families.interface import PIXELS, PREVIEW, REFERENCE, RENDER, VIEW, VISION_ENCODER, Component, Tensor
from families.settings import Settings

EDIT = "edit"
IMAGE = Tensor("image", "STRING", (1,))
SIZE_RULE = Tensor("size_rule", "STRING", (1,))
RESPONSE_FORMAT = Tensor("response_format", "STRING", (1,))
SIZE = Tensor("size", "INT32", (2,))
FINISHING = (
    RESPONSE_FORMAT,
    Tensor("answer_size", "INT32", (2,)),
    Tensor("original", "STRING", (1,)),
    Tensor("mask", "STRING", (1,)),
)
"""What `postprocess` takes beside the picture, as `families.finishing` gives it."""
SAFETY_RULE = Tensor(safety_checker.RULE, "STRING", (1,))


Step = tuple[str, tuple[Tensor, ...], tuple[Tensor, ...]]
"""A model with its inputs and outputs."""


@dataclass(frozen=True)
class Ensemble:
    """Two models, one after the other, and what goes in and out. Every tensor is called what its models call it."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    steps: tuple[Step, ...]

    def config(self) -> str:
        """The whole file."""
        steps = ",\n".join(_step(*step) for step in self.steps)
        blocks = [
            HEADER,
            f'name: "{self.name}"',
            'platform: "ensemble"',
            "max_batch_size: 0",
            f"input [\n{ports(self.inputs)}\n]",
            f"output [\n{ports(self.outputs)}\n]",
            f"ensemble_scheduling {{\n  step [\n{steps}\n  ]\n}}",
        ]
        return "\n".join(blocks) + "\n"


def ensembles(table: Sequence[Component]) -> tuple[Ensemble, ...]:
    """`reference`, where a picture is encoded, `view`, where it is looked at, and `render`, which with a safety checker
    also says what that sees; `preview`, which is as `render`, where there is a decoder for it."""
    encoders = [c for c in table if c.role == "encoder" and [tensor.name for tensor in c.inputs] == [PIXELS]]
    decoders = [component for component in table if component.role == "decoder"]
    rendering = (_decoded(PREVIEW if c.name == preview_decoder.NAME else RENDER, c, table) for c in decoders)
    return (*map(_encoding, encoders), *rendering)


def _encoding(encoder: Component) -> Ensemble:
    given, name = (IMAGE, SIZE_RULE), VIEW if encoder.name == VISION_ENCODER else REFERENCE
    steps: tuple[Step, ...] = (
        ("preprocess", given, encoder.inputs),
        (encoder.name, encoder.inputs, encoder.outputs),
    )
    return Ensemble(name, given, encoder.outputs, steps)


def _decoded(name: str, decoder: Component, table: Sequence[Component]) -> Ensemble:
    checkers = [c for c in table if c.name == safety_checker.NAME]
    rule = [SAFETY_RULE] * len(checkers)
    prepared = [tensor for c in checkers for tensor in c.inputs]
    seen = [tensor for c in checkers for tensor in c.outputs]
    steps: tuple[Step, ...] = (
        (decoder.name, decoder.inputs, decoder.outputs),
        ("postprocess", (*decoder.outputs, *FINISHING, *rule), (IMAGE, SIZE, *prepared)),
        *((c.name, c.inputs, c.outputs) for c in checkers),
    )
    return Ensemble(name, (*decoder.inputs, *FINISHING, *rule), (IMAGE, SIZE, *seen), steps)


def edit(contract: str, settings: Settings) -> str:
    """`edit`'s file: its contract, written by hand, and as parameters what callers may ask of this export.

    Values are text: numbers, true, false and objects as JSON has them; lists with commas. `max_pixels`: of the
    largest answer. `generation_size`: of a picture from text alone, as in `512x512`, where none is asked for; ""
    where there are none.
    """
    rule = canvas(settings)
    said = {
        "adapters": ",".join(settings.adapters),
        "steps": ",".join(map(str, settings.steps)),
        "num_inference_steps": str(settings.num_inference_steps),
        "guidance_scale": f"{settings.guidance_scale:g}",
        "image_guidance_scale": f"{settings.image_guidance_scale:g}",
        "max_images": str(settings.max_images),
        "max_pixels": str(settings.max_pixels),
        "negative_prompt": str(settings.negative_prompt).lower(),
        "cache": settings.cache,
        "adapter_defaults": json.dumps(settings.adapter_defaults),
        "generation_size": "{}x{}".format(*rule.square) if rule else "",
    }
    return "\n".join([HEADER, contract.rstrip(), *parameters(said)]) + "\n"


def _step(model: str, inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> str:
    maps = [f'      input_map {{ key: "{tensor.name}" value: "{tensor.name}" }}' for tensor in inputs]
    maps += [f'      output_map {{ key: "{tensor.name}" value: "{tensor.name}" }}' for tensor in outputs]
    return "\n".join(["    {", f'      model_name: "{model}"', "      model_version: -1", *maps, "    }"])
