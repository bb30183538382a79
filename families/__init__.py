"""Model families: everything that is peculiar to one kind of editing model, one folder each.

A family offers three modules, imported by three different processes and so never by one another:

- `components`: torch wrappers, the tensor table, LoRA files (read by `export`);
- `conditioning`: one request to the tensors of its engines (read by the `preprocess` model);
- `denoising`: the rows of one step and how predictions combine (read by the `edit` model).

Adding a family means adding a folder and a line to `PIPELINES`; nothing outside this package names one. But the `edit`
model names the denoiser `unet`, its prediction and what `condition` gives it, and the ensemble `render` names
`vae_decoder`: a family whose components or tensors are called otherwise changes those two as well.
"""

from importlib import import_module
from types import ModuleType

PIPELINES = {"StableDiffusionInstructPix2PixPipeline": "instruct_pix2pix"}
"""diffusers pipeline class, as `model_index.json` names it -> folder here."""


def load(family: str, module: str) -> ModuleType:
    """The module (`components`, `conditioning` or `denoising`) of a family.

    Raises ValueError when the family is not one of ours, so that a name from a file is never used as a path.
    """
    if family not in PIPELINES.values():
        raise ValueError(f"unknown model family {family!r}; known: {', '.join(sorted(set(PIPELINES.values())))}")
    return import_module(f"families.{family}.{module}")
