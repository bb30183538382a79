"""InstructPix2Pix: a Stable Diffusion UNet that sees the input picture's latents as extra channels.

Source: Brooks, Holynski, Efros, "InstructPix2Pix: Learning to Follow Image Editing Instructions" (2023), and diffusers'
`StableDiffusionInstructPix2PixPipeline`, whose results this family reproduces.
"""
