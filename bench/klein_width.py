"""A checkpoint of FLUX.2 klein with the widths of 4B wherever engines meet, and next to nothing between them.

What its engines take and give is what those of klein 4B do: 512 x 7680 numbers of text a row, 128 of a token. Inside,
one narrow block of each kind stands for all, so that a processor exports it in a minute. Random weights, fixed seed.
"""

from pathlib import Path
from typing import Any

SEED = 2026
TEXT_WIDTH = 2560
WORDS = 512
"""Of the tokenizer."""


def checkpoint(folder: Path) -> Path:
    """Writes it into `folder`, which must not exist, and returns that."""
    import torch  # noqa: PLC0415 - seconds, and not in every process
    from diffusers import (  # noqa: PLC0415
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Flux2KleinPipeline,
        Flux2Transformer2DModel,
    )
    from transformers import Qwen3Config, Qwen3ForCausalLM  # noqa: PLC0415

    torch.manual_seed(SEED)
    transformer = Flux2Transformer2DModel(
        in_channels=128,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=128,
        num_attention_heads=1,
        joint_attention_dim=3 * TEXT_WIDTH,
        axes_dims_rope=(32, 32, 32, 32),
        guidance_embeds=False,
    )
    text = Qwen3Config(
        vocab_size=WORDS,
        hidden_size=TEXT_WIDTH,
        intermediate_size=64,
        num_hidden_layers=28,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=1024,
    )
    autoencoder = AutoencoderKLFlux2(
        block_out_channels=(16, 16, 16, 16), layers_per_block=1, norm_num_groups=8, latent_channels=32
    )
    Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=autoencoder,
        text_encoder=Qwen3ForCausalLM(text),
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
