"""A small decoder for previews, beside any family's own: diffusers' `AutoencoderTiny`, as TAESD is one.

It was distilled from one autoencoder, and decodes its latents as the noise schedule scales them, less exactly and in a
fraction of the time. Finished pictures are of the family's own decoder.
"""

NAME = "preview_decoder"
"""Of the engine."""
