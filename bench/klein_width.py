"""Checkpoints of FLUX.2 klein with the widths of 4B and few blocks. Random weights, fixed seed.

`checkpoint`: as wide as 4B wherever engines meet, and next to nothing between them. What its engines take and give is
what those of klein 4B do: 512 x 7680 numbers of text a row, 128 of a token. Inside, one narrow block of each kind
stands for all, so that a processor exports it in a minute.

`blocks`: the transformer's blocks and the autoencoder are those of 4B, but for the number: one double block of 5 and
two single ones of 20, 0.7 of its 3.9 billion weights. The text encoder, which runs once an edit, is narrow.
`whole`: the transformer has all of them.
"""

from pathlib import Path
from typing import Any

SEED = 2026
TEXT_WIDTH = 2560
WORDS = 512
"""Of the tokenizer."""
AUTOENCODER = {"block_out_channels": (128, 256, 512, 512)}
TRANSFORMER: dict[str, Any] = {
    "in_channels": 128,
    "attention_head_dim": 128,
    "joint_attention_dim": 3 * TEXT_WIDTH,
    "axes_dims_rope": (32, 32, 32, 32),
    "guidance_embeds": False,
}
TEXT = {
    "vocab_size": WORDS,
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 28,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "max_position_embeddings": 1024,
}


def checkpoint(folder: Path) -> Path:
    """Writes one that is narrow inside into `folder`, which must not exist, and returns that."""
    autoencoder = {"block_out_channels": (16, 16, 16, 16), "layers_per_block": 1, "norm_num_groups": 8}
    return _write(folder, 1, (1, 1), autoencoder)


def blocks(folder: Path) -> Path:
    """Writes one of few whole blocks into `folder`, which must not exist, and returns that."""
    return _write(folder, 24, (1, 2), AUTOENCODER)


def whole(folder: Path) -> Path:
    """Writes one with all blocks, 8 GB, into `folder`, which must not exist, and returns that."""
    return _write(folder, 24, (5, 20), AUTOENCODER)


def _write(folder: Path, heads: int, blocks: tuple[int, int], autoencoder: dict[str, Any]) -> Path:
    """`heads` of 128 numbers each; `blocks`: double ones, and single ones."""
    import torch  # noqa: PLC0415 - seconds, and not in every process
    from diffusers import (  # noqa: PLC0415
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Flux2KleinPipeline,
        Flux2Transformer2DModel,
    )
    from transformers import Qwen3Config, Qwen3ForCausalLM  # noqa: PLC0415

    torch.manual_seed(SEED)
    double, single = blocks
    layers = {"num_layers": double, "num_single_layers": single}
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        transformer = Flux2Transformer2DModel(num_attention_heads=heads, **layers, **TRANSFORMER)
    Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=AutoencoderKLFlux2(latent_channels=32, **autoencoder),
        text_encoder=Qwen3ForCausalLM(Qwen3Config(**TEXT)),
        tokenizer=_tokenizer(),
        transformer=transformer,
        is_distilled=True,
    ).to(torch.bfloat16).save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    """Qwen's, with a vocabulary of letters."""
    from tokenizers.pre_tokenizers import ByteLevel  # noqa: PLC0415
    from transformers import Qwen2Tokenizer  # noqa: PLC0415

    made = Qwen2Tokenizer(
        vocab={letter: place for place, letter in enumerate(sorted(ByteLevel.alphabet()))},
        merges=[],
        extra_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    made.chat_template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    return made
