"""Model families: everything that is peculiar to one kind of editing model, one folder each.

`families.interface` says what a family offers. Adding one means a folder here, a line of `PIPELINES`, and a tiny
checkpoint under `tests/families/`; nothing outside this package names one.
"""

from importlib import import_module
from types import ModuleType

PIPELINES = {
    "Flux2KleinPipeline": "flux2_klein",
    "FluxKontextPipeline": "flux_kontext",
    "LongCatImageEditPipeline": "longcat_image_edit",
    "QwenImageEditPipeline": "qwen_image_edit",
    "QwenImageEditPlusPipeline": "qwen_image_edit",
    "StableDiffusionInstructPix2PixPipeline": "instruct_pix2pix",
    "StableDiffusionXLInstructPix2PixPipeline": "sdxl_instruct_pix2pix",
}
"""diffusers pipeline class, as `model_index.json` names it -> folder here."""


def load(family: str, module: str) -> ModuleType:
    """A module of a family: `table`, `modules`, `lora`, `conditioning` or `denoising`.

    Raises ValueError when the family is not one of ours, so that a name from a file is never used as a path, and
    ModuleNotFoundError when it has no such module.
    """
    if family not in PIPELINES.values():
        raise ValueError(f"unknown model family {family!r}; known: {', '.join(sorted(set(PIPELINES.values())))}")
    return import_module(f"families.{family}.{module}")
