"""Train the demo checkpoint: `python -m demo.train --photos DIR --state DIR`, resumed from where it was stopped.

Stages: `autoencoder` (its decoder), then `denoiser` (UNet and text encoder together).
"""

import argparse
from pathlib import Path

import torch

from demo.train_autoencoder import train_autoencoder
from demo.train_denoiser import train_denoiser


def main() -> None:
    """Run the stages asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder written by demo.photos")
    parser.add_argument("--state", type=Path, required=True, help="where training state, logs and samples go")
    parser.add_argument("--stage", choices=("autoencoder", "denoiser", "all"), default="all")
    parser.add_argument("--autoencoder-steps", type=int, default=860)
    parser.add_argument("--text-steps", type=int, default=600)
    parser.add_argument("--denoiser-steps", type=int, default=6500)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.state.mkdir(parents=True, exist_ok=True)
    if arguments.stage in ("autoencoder", "all"):
        train_autoencoder(arguments.photos, arguments.state, arguments.autoencoder_steps)
    if arguments.stage in ("denoiser", "all"):
        train_denoiser(arguments.photos, arguments.state, arguments.text_steps, arguments.denoiser_steps)


if __name__ == "__main__":
    main()
