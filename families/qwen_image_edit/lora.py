"""LoRA files for Qwen-Image-Edit: its transformer. Imported by `export`."""

from families.parts.transformer_lora import TransformerLoraReader

READER = TransformerLoraReader(
    {}, roots=("img_in", "norm_out", "proj_out", "time_text_embed", "transformer_blocks", "txt_in")
)
PREFIXES, read_lora = READER.prefixes, READER.read_lora
