"""The preview decoder's engine: no torch."""

from dataclasses import replace
from pathlib import Path

from families.interface import Component
from families.parts.configs import fields_of, read_config, require
from families.preview_decoder import NAME

CLASS = "AutoencoderTiny"
COLOURS = 3
DOUBLES = 2


def component(folder: Path, decoder: Component, factor: int) -> Component:
    """The engine, whose tensors and sizes are those of `decoder`, the family's own. Its `weights` are an absolute path,
    for they are of another checkpoint. `factor`: pixels along one side of a latent.

    Raises BadCheckpointError where `folder` has no such decoder, or one of other latents.
    """
    config, channels = read_config(folder), decoder.inputs[0].axes[1]
    with fields_of(folder):
        kind, latents = config["_class_name"], int(config.get("latent_channels", 4))
        blocks = len(config.get("num_decoder_blocks", (3, 3, 3, 1)))
        colours, doubles = (
            int(config.get("out_channels", COLOURS)),
            int(config.get("upsampling_scaling_factor", DOUBLES)),
        )
    own = doubles ** (blocks - 1)
    require(
        folder,
        (kind != CLASS, f"is a {kind}, and previews are decoded by an {CLASS}"),
        (colours != COLOURS, f"gives pictures of {colours} colours"),
        (latents != channels, f"decodes latents of {latents} channels, and this checkpoint's have {channels}"),
        (own != factor, f"makes {own} pixels of a latent's side, and this checkpoint {factor}"),
    )
    return replace(decoder, name=NAME, weights=str(folder.resolve()))
