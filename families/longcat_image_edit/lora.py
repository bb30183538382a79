"""LoRA files for LongCat-Image-Edit: its transformer. Imported by `export`."""

from families.parts.transformer_lora import TransformerLoraReader

READER = TransformerLoraReader(
    {},
    roots=(
        "context_embedder",
        "norm_out",
        "proj_out",
        "single_transformer_blocks",
        "time_embed",
        "transformer_blocks",
        "x_embedder",
    ),
)
PREFIXES, read_lora = READER.prefixes, READER.read_lora
