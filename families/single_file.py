"""Checkpoints of one file, as other user interfaces keep them: what such a file is, and how it becomes a folder.

diffusers converts them (`from_single_file`), but takes the configs and tokenizers of the folder from the hub: they are
not in the file. So the export says which command does it, rather than to need a network itself.
"""

from pathlib import Path

from families.parts.weight_files import Stored, read_header

UNET = "model.diffusion_model.input_blocks.0.0.weight"
PICTURE_CHANNELS = 8
"""Of a network that sees the picture beside the noise: (out, 8, 3, 3)."""
SDXL = "conditioner.embedders."
TRANSFORMERS = ("double_blocks.", "model.diffusion_model.double_blocks.", "transformer_blocks.")


def refusal(file: Path) -> str:
    """What the file is, and what to do with it. Raises BadCheckpointError where it is damaged."""
    if file.suffix != ".safetensors":
        return f"{file} is no diffusers folder, and no .safetensors file (no pickles are read)"
    return f"{file} is one file, and the export reads diffusers folders; {_advice(file, read_header(file))}"


def _advice(file: Path, tensors: dict[str, Stored]) -> str:
    first = tensors.get(UNET)
    if first is not None and len(first.shape) == 4 and first.shape[1] == PICTURE_CHANNELS:
        xl = any(name.startswith(SDXL) for name in tensors)
        pipeline = f"StableDiffusion{'XL' if xl else ''}InstructPix2PixPipeline"
        config = ", config='diffusers/sdxl-instructpix2pix-768'" if xl else ""
        target = file.with_suffix("")
        code = f"import diffusers; diffusers.{pipeline}.from_single_file('{file}'{config}).save_pretrained('{target}')"
        return f'make it one, where the hub can be reached, by: python -c "{code}"; then --model {target}'
    if any(name.startswith(TRANSFORMERS) for name in tensors):
        return "it holds a transformer alone: copy a folder of its pipeline, and put these weights into it by diffusers"
    return "its tensors are of no kind that is known here"
