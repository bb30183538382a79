"""Edits in flight together: batched, yet each as if alone."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tests.server.asking import Client, colours

EDITS: list[dict[str, Any]] = [
    {"num_inference_steps": 6, "guidance_scale": 0, "seed": 1, "prompt": "red"},
    {"num_inference_steps": 9, "guidance_scale": 7.5, "seed": 2, "prompt": "the cat"},
    {"num_inference_steps": 12, "guidance_scale": 4, "image_guidance_scale": 1.0, "seed": 3, "prompt": "snow"},
    {"num_inference_steps": 15, "guidance_scale": 0, "seed": 4, "prompt": "make it night"},
    {"num_inference_steps": 6, "guidance_scale": 7.5, "seed": 5, "prompt": "blue"},
    {"num_inference_steps": 9, "guidance_scale": 1, "seed": 6, "prompt": "a vase"},
    {"num_inference_steps": 12, "guidance_scale": 2, "image_guidance_scale": 2.0, "seed": 7, "prompt": "fog"},
    {"num_inference_steps": 15, "guidance_scale": 0, "seed": 8, "prompt": "sepia"},
    {"num_inference_steps": 16, "guidance_scale": 4, "seed": 9, "prompt": "fog", "cache": "balanced"},
    {"num_inference_steps": 14, "guidance_scale": 0, "seed": 10, "model": "ink", "cache": "balanced"},
]


def test_neighbours_do_not_matter(client: Client) -> None:
    pictures = [colours(*((96, 96) if i % 2 else (128, 72)), seed=i) for i in range(len(EDITS))]
    alone = [client.edit(picture, **edit).pixels for picture, edit in zip(pictures, EDITS, strict=True)]
    before = client.denoiser_calls()
    with ThreadPoolExecutor(len(EDITS)) as pool:
        futures = [pool.submit(client.edit, picture, **edit) for picture, edit in zip(pictures, EDITS, strict=True)]
        together = [future.result().pixels for future in futures]
    made = client.denoiser_calls() - before
    for solo, joint in zip(alone, together, strict=True):
        assert np.abs(solo.astype(int) - joint).max() <= 2
    assert made < sum(edit["num_inference_steps"] for edit in EDITS), "they were not batched"
