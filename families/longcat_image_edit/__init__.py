"""LongCat-Image-Edit: a transformer that sees the picture's tokens beside the noise's, and a text that Qwen2.5-VL has
read with the picture, at half its size, in it.

Source: diffusers' `LongCatImageEditPipeline`, but for the places of tokens in Qwen2.5-VL: those are the ones it was
trained with, which the pipeline does not hand on with transformers 5.
"""
