"""LoRA files for FLUX.2 klein: its transformer. Imported by `export`."""

from families.parts.flux_lora import DOUBLE, LAST, OUR_DOUBLE, OUR_SINGLE, SINGLE, shared
from families.parts.transformer_lora import TransformerLoraReader

ORIGINALS = shared("time_guidance_embed") | {
    f"{DOUBLE}img_mlp.0": (f"{OUR_DOUBLE}ff.linear_in",),
    f"{DOUBLE}img_mlp.2": (f"{OUR_DOUBLE}ff.linear_out",),
    f"{DOUBLE}txt_mlp.0": (f"{OUR_DOUBLE}ff_context.linear_in",),
    f"{DOUBLE}txt_mlp.2": (f"{OUR_DOUBLE}ff_context.linear_out",),
    f"{SINGLE}linear1": (f"{OUR_SINGLE}attn.to_qkv_mlp_proj",),
    f"{SINGLE}linear2": (f"{OUR_SINGLE}attn.to_out",),
    "double_stream_modulation_img.lin": ("double_stream_modulation_img.linear",),
    "double_stream_modulation_txt.lin": ("double_stream_modulation_txt.linear",),
    "single_stream_modulation.lin": ("single_stream_modulation.linear",),
}
CUT = {
    layer.replace("transformer_blocks", "sformer_blocks"): (layer,)
    for layers in ORIGINALS.values()
    for layer in layers
    if layer.startswith(OUR_DOUBLE)
}
"""As some programs write what begins with `transformer_blocks`."""
READER = TransformerLoraReader(ORIGINALS | CUT, swapped=frozenset({LAST}))
PREFIXES, read_lora = READER.prefixes, READER.read_lora
