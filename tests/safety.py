"""A tiny safety checker of diffusers' real class, with random weights, and its picture processor."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from transformers import CLIPConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

SIDE = 32
PROCESSOR = {
    "crop_size": {"height": SIDE, "width": SIDE},
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": {"shortest_edge": SIDE},
}
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def build(folder: Path, **processor: Any) -> Path:
    """Writes `safety_checker` and `feature_extractor` as a diffusers checkpoint has them, and returns `folder`.

    Its thresholds are beyond any cosine, so that it refuses nothing.
    """
    torch.manual_seed(2026)
    config = CLIPConfig(projection_dim=16, vision_config={**VISION, "image_size": SIDE, "patch_size": 8})
    save(StableDiffusionSafetyChecker(config), folder)
    (folder / "feature_extractor").mkdir()
    file = folder / "feature_extractor" / "preprocessor_config.json"
    file.write_text(json.dumps(PROCESSOR | processor), "utf-8")
    return folder


def save(checker: Any, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checker.save_pretrained(folder / "safety_checker")


def load(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return StableDiffusionSafetyChecker.from_pretrained(folder / "safety_checker").eval()


def prepared(folder: Path, picture: Image.Image) -> torch.Tensor:
    """As transformers' own processor does it."""
    processor = CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor")
    made: torch.Tensor = processor(picture, return_tensors="pt").pixel_values
    return made


def tell_apart(folder: Path, refused: Image.Image, passed: Image.Image) -> None:
    """Turns one concept of the checker in `folder` towards the one picture, and away from the other."""
    checker = load(folder)
    with torch.no_grad():
        views = [
            torch.nn.functional.normalize(
                checker.visual_projection(checker.vision_model(prepared(folder, picture))[1])
            )[0]
            for picture in (refused, passed)
        ]
        checker.concept_embeds.copy_((views[1] - views[0]).expand_as(checker.concept_embeds))
        checker.concept_embeds_weights.fill_(1.0)
        checker.concept_embeds[5] = views[0] - views[1]
        checker.concept_embeds_weights[5] = 0.0
    save(checker, folder)


def refuses(folder: Path, picture: Image.Image) -> bool:
    """What diffusers' own forward says."""
    _, refused = load(folder)(clip_input=prepared(folder, picture), images=[torch.zeros(3, 2, 2)])
    return bool(refused[0])
