"""What a mask keeps of a picture while it is denoised: outside, latents are held to the picture's own."""

from dataclasses import dataclass

import torch

from families.schedules import Schedule


@dataclass(frozen=True)
class Hold:
    """Of one edit, all in the shape of its latents. `known`: the picture's, clean, in the schedule's scale; `noise`:
    unit noise, that which the edit begins with; `free`: 1 where a latent may change, of as many axes."""

    known: torch.Tensor
    noise: torch.Tensor
    free: torch.Tensor

    def after(self, place: int, latents: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        """Latents that a step has made, held outside to the noise of the next timestep; clean after the last."""
        return torch.where(self.free > 0, latents, schedule.held(self.known, self.noise, place))

    def clean(self, estimate: torch.Tensor) -> torch.Tensor:
        """An estimate of the denoised latents, the known ones outside."""
        return torch.where(self.free > 0, estimate, self.known)
