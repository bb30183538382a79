"""How near every family's pictures are with step caching to those without; torch stands in the place of engines.

Random networks say that a family's loop bears it, with its guidance, masks and samplers, and no more: of what a trained
one loses `python -m bench cache` tells. `--log-cli-level=INFO` prints the figures.
"""

import logging
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from families import PIPELINES, finishing
from families.alone import denoise_alone
from families.interface import DENOISER, PIXELS, PREDICTION, Tensors
from families.picture import from_tensor
from families.step_cache import BALANCED, OFF, cached
from tests.families import tiny
from tests.families.alone import DECODING, planned
from tests.families.test_sizes_and_masks import asked, holed
from tests.server.asking import colours, psnr

FAMILIES = sorted(set(PIPELINES.values()))
STEPS, LEAST_DB = 20, 45.0

pytestmark = pytest.mark.families
each_family = pytest.mark.parametrize("family", FAMILIES)
log = logging.getLogger(__name__)


def edited(family: str, cache: str, given: Tensors) -> tuple[NDArray[Any], list[int]]:
    """The picture, (H, W, 3) uint8, and the rows of each call."""
    edit, plan, engines = planned(family, given)
    rows = []

    def denoiser(inputs: Tensors) -> NDArray[Any]:
        rows.append(len(inputs["timestep"]))
        assert {len(array) for array in inputs.values()} == {rows[-1]}
        made: NDArray[Any] = engines(DENOISER, inputs)[PREDICTION]
        return made

    pixels = engines(engines.decoder, denoise_alone(cached(plan, cache), denoiser))[PIXELS]
    return finishing.finished(from_tensor(pixels), finishing.inputs(edit), DECODING), rows


@each_family
def test_pictures_are_near_to_those_of_computed_steps(family: str) -> None:
    for name, guidance in tiny.module(family).GUIDANCE.items():
        given = asked(colours(64, 64), guidance, num_inference_steps=[STEPS])
        (whole, all_rows), (ours, rows) = (edited(family, cache, given) for cache in (OFF, BALANCED))
        found = psnr(ours, whole)
        log.info("%s, guidance %s: %.1f dB, %d of %d rows", family, name, found, sum(rows), sum(all_rows))
        assert all_rows == [all_rows[0]] * STEPS
        assert sum(rows) <= 0.85 * sum(all_rows)
        assert found >= LEAST_DB, name


@each_family
def test_a_mask_keeps_what_it_keeps(family: str) -> None:
    mask, hole = holed((64, 64), (16, 16, 48, 48))
    guidance = next(iter(tiny.module(family).GUIDANCE.values()))
    given = asked(colours(64, 64), guidance, num_inference_steps=[STEPS], mask=[mask])
    (whole, _), (ours, rows) = (edited(family, cache, given) for cache in (OFF, BALANCED))
    assert len(rows) < STEPS
    assert np.array_equal(ours[~hole], np.asarray(colours(64, 64))[~hole])
    assert psnr(ours, whole) >= LEAST_DB
