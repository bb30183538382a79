"""Small networks of the real classes, random weights from a fixed seed: what tiny checkpoints are put together from."""

import fcntl
import functools
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers import schedulers as diffusers_schedulers
from numpy.typing import NDArray
from PIL import Image
from transformers import (
    BatchFeature,
    CLIPTextConfig,
    CLIPTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    T5Tokenizer,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from bench.full_size import NOISE
from families.parts.qwen_vl import IMAGE_PAD

SEED = 2026
TOKENS = 77


def byte_alphabet() -> list[str]:
    """The 256 printable stand-ins of byte-level BPE, in byte order (GPT-2's `bytes_to_unicode`)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def clip_tokenizer(folder: Path, **options: Any) -> CLIPTokenizer:
    """Writes CLIP's two tokenizer files with a small vocabulary that takes any text, and reads them back."""
    folder.mkdir(parents=True)
    alphabet = byte_alphabet()
    merges = ["t h", "th e</w>", "r e", "re d</w>"]
    tokens = [*alphabet, *(f"{symbol}</w>" for symbol in alphabet), *(merge.replace(" ", "") for merge in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    files = (str(folder / name) for name in ("vocab.json", "merges.txt"))
    return CLIPTokenizer(*files, model_max_length=TOKENS, **options)


CHAT = """{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{%- if add_generation_prompt %}<|im_start|>assistant
{%- if enable_thinking is defined and enable_thinking is false %}
<think>

</think>

{% endif %}{% endif %}"""
"""Qwen3's chat template, as far as one message needs it."""


def chat_tokenizer(folder: Path, special: Sequence[str] = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")) -> Any:
    """Writes Qwen's tokenizer with a vocabulary of bytes and few words, and reads it back."""
    folder.mkdir(parents=True)
    merges = ["t h", "th e", "r e", "re d"]
    tokens = [*byte_alphabet(), *(merge.replace(" ", "") for merge in merges), "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    files = (str(folder / name) for name in ("vocab.json", "merges.txt"))
    made = Qwen2Tokenizer(*files, extra_special_tokens=list(special))
    made.chat_template = CHAT
    return made


def vl_tokenizer(folder: Path) -> Any:
    """The same, which knows pictures."""
    pictures = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    return chat_tokenizer(folder, ("<|im_start|>", "<|im_end|>", *pictures))


def t5_tokenizer(folder: Path) -> Any:
    """T5's tokenizer with a vocabulary of few words and of letters, more than the ids of random samples."""
    folder.mkdir(parents=True)
    words = [(word, -1.0) for word in ("▁the", "▁red", "▁turn", "▁sky")]
    letters = [(chr(code), -4.0) for code in range(33, 400)]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0)]
    made = T5Tokenizer(vocab=[*special, *words, *letters], extra_ids=0)
    made.save_pretrained(folder)
    return made


def clip_config(vocabulary: int, **changed: Any) -> CLIPTextConfig:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    return CLIPTextConfig(
        vocab_size=vocabulary,
        max_position_embeddings=TOKENS,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
        **{**sizes, **changed},
    )


def qwen_vl(vocabulary: int, image_pad: int, width: int = 32) -> Any:
    """Qwen2.5-VL of two blocks, one with windows and one without, in the vision tower, and two in the text model."""
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": width,
            "fullatt_block_indexes": [1],
        },
        image_token_id=image_pad,
        vision_start_token_id=image_pad,
        vision_end_token_id=image_pad,
        video_token_id=image_pad + 1,
    )
    return Qwen2_5_VLForConditionalGeneration(config)


class Processor(SimpleNamespace):
    """`Qwen2VLProcessor` without torchvision: its own PIL image processor, and its own tokenizer."""

    def __init__(self, folder: Path, tokenizer: Any = None) -> None:
        super().__init__(image_processor=Qwen2VLImageProcessorPil.from_pretrained(folder), tokenizer=tokenizer)

    def __call__(self, text: list[str], images: Any, **_options: Any) -> BatchFeature:
        made = self.image_processor(images=images, return_tensors="pt")
        grids = iter(made["image_grid_thw"].prod(dim=1) // self.image_processor.merge_size**2)
        head, *tails = text[0].split(IMAGE_PAD)
        whole = head + "".join(IMAGE_PAD * int(next(grids)) + tail for tail in tails)
        return BatchFeature({**self.tokenizer([whole], return_tensors="pt"), **made})


def mended_qwen_vl(folder: Path) -> Any:
    """Qwen2.5-VL that is told which tokens are of pictures, as diffusers' pull request 14189 does."""
    encoder = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder).eval()
    whole = encoder.forward

    def forward(input_ids: torch.Tensor, **given: Any) -> Any:
        kinds = (input_ids == encoder.config.image_token_id).int()
        return whole(input_ids=input_ids, mm_token_type_ids=kinds, **given)

    encoder.forward = forward
    return encoder


def autoencoder(latent_channels: int = 4, **changed: Any) -> AutoencoderKL:
    """Halves three times."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=latent_channels,
        sample_size=256,
        **changed,
    )


def scheduler(name: str, **config: Any) -> Any:
    """A sampler of diffusers with Stable Diffusion's noise, as far as it knows of it."""
    sampler = getattr(diffusers_schedulers, name)
    known = sampler.__init__.__wrapped__.__code__.co_varnames if hasattr(sampler.__init__, "__wrapped__") else ()
    return sampler(**{key: value for key, value in NOISE.items() if key in known} | config)


def seeded() -> None:
    """What is made next is always the same."""
    torch.manual_seed(SEED)


def adapters(checkpoint: Path, write: Callable[[Path, Path], None]) -> Path:
    """The folder of a checkpoint's LoRA files, which `write(checkpoint, folder)` makes where there is none yet."""
    folder = checkpoint.with_name(f"{checkpoint.name}-adapters")
    unfinished = folder.with_name(f"unfinished-{folder.name}")
    with folder.with_name(f"lock-{folder.name}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            shutil.rmtree(unfinished, ignore_errors=True)
            write(checkpoint, unfinished)
            unfinished.rename(folder)
    return folder


@functools.cache
def pipeline(kind: Any, checkpoint: Path) -> Any:
    """A diffusers pipeline in fp32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = kind.from_pretrained(checkpoint, torch_dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@contextmanager
def adapted(diffusers: Any, adapters: Sequence[tuple[Path, float]]) -> Iterator[Any]:
    """The pipeline with these LoRA files, each at a scale, until the block ends."""
    names = [f"adapter_{place}" for place in range(len(adapters))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns of every adapter beside another
        for name, (file, _) in zip(names, adapters, strict=True):
            diffusers.load_lora_weights(file, adapter_name=name)
    if adapters:
        diffusers.set_adapters(names, [scale for _, scale in adapters])
    yield diffusers
    if adapters:
        diffusers.unload_lora_weights()


def pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3)."""
    return np.asarray(picture)
