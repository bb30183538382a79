"""LoRA files for FLUX.1 Kontext: its transformer and both text encoders. Imported by `export`."""

from families.parts.flux_lora import DOUBLE, LAST, OUR_DOUBLE, OUR_SINGLE, SINGLE, shared
from families.parts.transformer_lora import Text, TransformerLoraReader

QKV = tuple(f"{OUR_SINGLE}attn.to_{name}" for name in "qkv")
ORIGINALS = shared("time_text_embed") | {
    f"{DOUBLE}img_mlp.0": (f"{OUR_DOUBLE}ff.net.0.proj",),
    f"{DOUBLE}img_mlp.2": (f"{OUR_DOUBLE}ff.net.2",),
    f"{DOUBLE}txt_mlp.0": (f"{OUR_DOUBLE}ff_context.net.0.proj",),
    f"{DOUBLE}txt_mlp.2": (f"{OUR_DOUBLE}ff_context.net.2",),
    f"{DOUBLE}img_mod.lin": (f"{OUR_DOUBLE}norm1.linear",),
    f"{DOUBLE}txt_mod.lin": (f"{OUR_DOUBLE}norm1_context.linear",),
    f"{SINGLE}linear1": (*QKV, f"{OUR_SINGLE}proj_mlp"),
    f"{SINGLE}linear2": (f"{OUR_SINGLE}proj_out",),
    f"{SINGLE}modulation.lin": (f"{OUR_SINGLE}norm.linear",),
    "vector_in.in_layer": ("time_text_embed.text_embedder.linear_1",),
    "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
}
CLIP = Text("text_encoder", ("text_encoders.clip_l.transformer.", "lora_te_", "lora_te1_"), "text_model.")
T5 = Text("text_encoder_2", ("text_encoders.t5xxl.transformer.", "lora_te2_", "lora_te3_"))
XLABS = {
    f"{DOUBLE}processor.qkv_lora1": ORIGINALS[f"{DOUBLE}img_attn.qkv"],
    f"{DOUBLE}processor.qkv_lora2": ORIGINALS[f"{DOUBLE}txt_attn.qkv"],
    f"{DOUBLE}processor.proj_lora1": ORIGINALS[f"{DOUBLE}img_attn.proj"],
    f"{DOUBLE}processor.proj_lora2": ORIGINALS[f"{DOUBLE}txt_attn.proj"],
    f"{SINGLE}processor.qkv": QKV,  # and here `_lora` is of the tensors' names
    f"{SINGLE}processor.proj": (f"{OUR_SINGLE}proj_out",),
}
"""As XLabs' trainer names them, without the words of the tensors; diffusers reads such files for FLUX.1 alone."""
READER = TransformerLoraReader(ORIGINALS | XLABS, frozenset({LAST}), (CLIP, T5))
PREFIXES, read_lora = READER.prefixes, READER.read_lora
