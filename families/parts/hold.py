"""What a mask keeps of a picture while it is denoised: outside, latents are held to the picture's own."""

from dataclasses import dataclass

import numpy as np

from families.interface import Array
from families.schedules import Schedule


@dataclass(frozen=True)
class Hold:
    """Of one edit, all in the shape of its latents. `known`: the picture's, clean, in the schedule's scale; `noise`:
    unit noise, that which the edit begins with; `free`: 1 where a latent may change, of as many axes."""

    known: Array
    noise: Array
    free: Array

    def after(self, place: int, latents: Array, schedule: Schedule) -> Array:
        """Latents that a step has made, held outside to the noise of the next timestep; clean after the last."""
        return np.where(self.free > 0, latents, schedule.held(self.known, self.noise, place))

    def clean(self, estimate: Array) -> Array:
        """An estimate of the denoised latents, the known ones outside."""
        return np.where(self.free > 0, estimate, self.known)
