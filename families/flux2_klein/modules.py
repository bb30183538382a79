"""The torch modules of FLUX.2 klein. Imported by `export`."""

from pathlib import Path

import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from transformers import Qwen3Model

from families.flux2_klein.table import STATES, TOKENS
from families.interface import Tensor
from families.parts import autoencoder_kl, pretrained
from families.parts.flux_rows import attend_by_row
from families.parts.packing import PATCH
from families.parts.picture_axes import PLACES
from families.parts.rotary import Rotary
from families.parts.samples import sample_latents


def sample(tensor: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Inputs as an edit has them: a mask whose last half is padding, positions below 64."""
    if tensor.name == "attention_mask":
        return (torch.arange(shape[1]) < shape[1] // 2).long().expand(shape).clone()
    if tensor.name in PLACES:
        return torch.randint(0, 64, shape, generator=generator).float()
    return sample_latents(tensor, shape, generator)


class _TextEncoder(torch.nn.Module):
    """`input_ids`, `attention_mask` (rows, 512) -> the joined hidden states (rows, 512, 3 widths).

    Layers after the last state are dropped, and the final norm with them: it comes after layers that are not here.
    """

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = pretrained.load(Qwen3Model, checkpoint / "text_encoder")
        self.model.layers = self.model.layers[: STATES[-1]]
        self.model.config.num_hidden_layers = STATES[-1]
        self.model.norm = torch.nn.Identity()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        encoded = self.model(input_ids, attention_mask=attention_mask, output_hidden_states=True, use_cache=False)
        return torch.cat([encoded.hidden_states[state] for state in STATES], dim=2).float()


class _Encoder(autoencoder_kl.Encoder):
    """`pixels` (1, 3, H, W) in [-1, 1] -> the mode's patches, normalised, (1, C, h, w)."""

    network = AutoencoderKLFlux2

    def scaled(self, means: torch.Tensor) -> torch.Tensor:
        """Patches, normalised."""
        mean, deviation = _statistics(self.model)
        patches: torch.Tensor = (torch.nn.functional.pixel_unshuffle(means, PATCH) - mean) / deviation
        return patches


class _Decoder(autoencoder_kl.Decoder):
    """`latents` (1, C, h, w), normalised patches -> `pixels` (1, 3, H, W), about [-1, 1]."""

    network = AutoencoderKLFlux2

    def unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents of normalised patches."""
        mean, deviation = _statistics(self.model)
        return torch.nn.functional.pixel_shuffle(latents.to(self.model.dtype) * deviation + mean, PATCH)


def _statistics(model: AutoencoderKLFlux2) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of patches, (1, C, 1, 1)."""
    by_channel = (1, -1, 1, 1)
    variance = model.bn.running_var.view(by_channel) + model.config.batch_norm_eps
    return model.bn.running_mean.view(by_channel), torch.sqrt(variance)


class _Transformer(torch.nn.Module):
    """Tokens of noise and of references, with their places -> prediction (rows, target, C).

    `sample` (rows, target, C), `references` (rows, reference, C), `timestep` (rows, 1) of [0, 1000], text (rows, 512,
    3 widths), `sample_ids` (rows, target, 4), `reference_ids` (rows, reference, 4).
    """

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.model = pretrained.load(Flux2Transformer2DModel, checkpoint / "transformer")
        attend_by_row(self.model)
        self.rotary = Rotary(self.model.config.axes_dims_rope, self.model.config.rope_theta)
        places = torch.arange(TOKENS, dtype=torch.float32)[:, None]
        self.register_buffer("text_ids", torch.cat([torch.zeros(TOKENS, 3), places], dim=1), persistent=False)

    def forward(  # noqa: PLR0917 - the table's inputs
        self,
        sample: torch.Tensor,
        references: torch.Tensor,
        timestep: torch.Tensor,
        text: torch.Tensor,
        sample_ids: torch.Tensor,
        reference_ids: torch.Tensor,
    ) -> torch.Tensor:
        model, dtype = self.model, self.model.dtype
        text_ids = self.get_buffer("text_ids").float().expand(sample.shape[0], -1, -1)
        places = self.rotary(torch.cat([text_ids, sample_ids, reference_ids], dim=1))
        now = model.time_guidance_embed((timestep[:, 0] / 1000).to(dtype) * 1000, None)
        pictures = model.x_embedder(torch.cat([sample, references], dim=1).to(dtype))
        words = model.context_embedder(text.to(dtype))
        times = model.double_stream_modulation_img(now), model.double_stream_modulation_txt(now)
        for block in model.transformer_blocks:
            words, pictures = block(pictures, words, *times, places)
        states, of_all = torch.cat([words, pictures], dim=1), model.single_stream_modulation(now)
        for block in model.single_transformer_blocks:
            states = block(states, None, of_all, places)
        made: torch.Tensor = model.proj_out(model.norm_out(states[:, TOKENS : TOKENS + sample.shape[1]], now))
        return made.float()


module = pretrained.by_name(
    text_encoder=_TextEncoder,
    vae_encoder=_Encoder,
    denoiser=_Transformer,
    vae_decoder=_Decoder,
)
