"""FLUX.2 klein: a transformer that sees the reference pictures' tokens beside the noise's, and Qwen3's hidden states.

Source: diffusers' `Flux2KleinPipeline`, whose results this family reproduces at sizes that are multiples of 16.
Pictures of other sizes are scaled to the nearest, where the pipeline would crop a few pixels.
"""
