"""The table's two rows of an autoencoder of pictures: `vae_encoder`, `vae_decoder`. Imports no torch."""

from families.interface import PIXELS, Component, Tensor
from families.parts.picture_axes import LATENT_HEIGHT, LATENT_WIDTH, PICTURE, PictureAxes


def vae_components(axes: PictureAxes, channels: int, precisions: tuple[str, ...]) -> tuple[Component, Component]:
    """Picture to `image_latents`, `latents` to picture; (1, `channels`, h, w) both."""
    latents, picture = (1, channels, LATENT_HEIGHT, LATENT_WIDTH), Tensor(PIXELS, "FP32", PICTURE)
    encoder = Component(
        name="vae_encoder",
        role="encoder",
        weights="vae",
        inputs=(picture,),
        outputs=(Tensor("image_latents", "FP32", latents),),
        **axes.pixels(),
        precisions=precisions,
    )
    decoder = Component(
        name="vae_decoder",
        role="decoder",
        weights="vae",
        inputs=(Tensor("latents", "FP32", latents),),
        outputs=(picture,),
        **axes.latents(),
        precisions=precisions,
    )
    return encoder, decoder
