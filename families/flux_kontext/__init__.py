"""FLUX.1 Kontext: a transformer that sees the picture's tokens beside the noise's, and reads its guidance as a number.

Source: diffusers' `FluxKontextPipeline`, whose results this family reproduces at its own sizes.
"""
