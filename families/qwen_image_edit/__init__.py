"""Qwen-Image-Edit: a transformer that sees the pictures' tokens beside the noise's, and a text that Qwen2.5-VL has read
with the pictures in it.

Source: diffusers' `QwenImageEditPipeline` and `QwenImageEditPlusPipeline` (2509, 2511), but for the places of tokens in
Qwen2.5-VL: those are the ones it was trained with, which the pipelines do not hand on with transformers 5.
"""
