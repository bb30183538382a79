"""What Qwen2.5-VL is told of an edit: its words around the pictures and the prompt. Imports no torch."""

BEGIN = (
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, texture, objects, "
    "background), then explain how the user's text instruction should alter or modify the image. Generate a new image "
    "that meets the user's requirements while maintaining consistency with the original input where appropriate."
    "<|im_end|>\n<|im_start|>user\n"
)
END = "<|im_end|>\n<|im_start|>assistant\n"
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
DROPPED = 64
"""Tokens at the beginning, which the transformer is not given: those of BEGIN, as Qwen's tokenizer counts them."""


def text(prompt: str, pictures: int, *, numbered: bool) -> str:
    """All of it. `numbered`: each picture has its number before it, as since the checkpoint of 2509."""
    shown = (f"Picture {number}: {PICTURE}" if numbered else PICTURE for number in range(1, pictures + 1))
    return f"{BEGIN}{''.join(shown)}{prompt}{END}"
