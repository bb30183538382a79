"""InstructPix2Pix on Stable Diffusion XL: two text encoders, pooled text and picture size beside the text.

Source: diffusers' `StableDiffusionXLInstructPix2PixPipeline`, whose results this family reproduces, and with
`--option cosxl_edit` its `is_cosxl_edit`, which checkpoints do not save: the picture's latents are scaled (CosXL).
"""
