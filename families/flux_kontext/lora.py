"""LoRA files for FLUX.1 Kontext: its transformer and both text encoders. Imported by `export`."""

from pathlib import Path

from families.parts.flux_lora import DOUBLE, LAST, OUR_DOUBLE, OUR_SINGLE, SINGLE, shared
from families.parts.lora import Layers, Lora
from families.parts.transformer_lora import Text, TransformerLoraReader

ORIGINALS = shared("time_text_embed") | {
    f"{DOUBLE}img_mlp.0": (f"{OUR_DOUBLE}ff.net.0.proj",),
    f"{DOUBLE}img_mlp.2": (f"{OUR_DOUBLE}ff.net.2",),
    f"{DOUBLE}txt_mlp.0": (f"{OUR_DOUBLE}ff_context.net.0.proj",),
    f"{DOUBLE}txt_mlp.2": (f"{OUR_DOUBLE}ff_context.net.2",),
    f"{DOUBLE}img_mod.lin": (f"{OUR_DOUBLE}norm1.linear",),
    f"{DOUBLE}txt_mod.lin": (f"{OUR_DOUBLE}norm1_context.linear",),
    f"{SINGLE}linear1": (*(f"{OUR_SINGLE}attn.to_{name}" for name in "qkv"), f"{OUR_SINGLE}proj_mlp"),
    f"{SINGLE}linear2": (f"{OUR_SINGLE}proj_out",),
    f"{SINGLE}modulation.lin": (f"{OUR_SINGLE}norm.linear",),
    "vector_in.in_layer": ("time_text_embed.text_embedder.linear_1",),
    "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
}
CLIP = Text("text_encoder", ("text_encoders.clip_l.transformer.", "lora_te_", "lora_te1_"), "text_model.")
T5 = Text("text_encoder_2", ("text_encoders.t5xxl.transformer.", "lora_te2_", "lora_te3_"))
READER = TransformerLoraReader(ORIGINALS, frozenset({LAST}), (CLIP, T5))
PREFIXES = READER.prefixes


def read_lora(file: Path, _checkpoint: Path, layers: Layers) -> Lora:
    """A LoRA file's factors by component. Raises BadCheckpointError."""
    return READER.read(file, layers)
