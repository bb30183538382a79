"""How the authors of FLUX name the layers that FLUX.1 and FLUX.2 have in common, beside diffusers' names of them."""

DOUBLE, OUR_DOUBLE = "double_blocks.{}.", "transformer_blocks.{}."
SINGLE, OUR_SINGLE = "single_blocks.{}.", "single_transformer_blocks.{}."
LAST = "final_layer.adaLN_modulation.1"
"""Gives (shift, scale), where diffusers' layer gives (scale, shift)."""


def shared(time: str) -> dict[str, tuple[str, ...]]:
    """Attention of the double blocks, what goes in, and what comes out. `time`: diffusers' name of what embeds time."""
    image = tuple(f"{OUR_DOUBLE}attn.{name}" for name in ("to_q", "to_k", "to_v"))
    text = tuple(f"{OUR_DOUBLE}attn.{name}" for name in ("add_q_proj", "add_k_proj", "add_v_proj"))
    return {
        f"{DOUBLE}img_attn.qkv": image,
        f"{DOUBLE}txt_attn.qkv": text,
        f"{OUR_DOUBLE}attn.to_qkv": image,  # diffusers' own, where a model's projections are fused
        f"{OUR_DOUBLE}attn.to_added_qkv": text,
        f"{DOUBLE}img_attn.proj": (f"{OUR_DOUBLE}attn.to_out.0",),
        f"{DOUBLE}txt_attn.proj": (f"{OUR_DOUBLE}attn.to_add_out",),
        "img_in": ("x_embedder",),
        "txt_in": ("context_embedder",),
        "time_in.in_layer": (f"{time}.timestep_embedder.linear_1",),
        "time_in.out_layer": (f"{time}.timestep_embedder.linear_2",),
        "guidance_in.in_layer": (f"{time}.guidance_embedder.linear_1",),
        "guidance_in.out_layer": (f"{time}.guidance_embedder.linear_2",),
        "final_layer.linear": ("proj_out",),
        LAST: ("norm_out.linear",),
    }
