"""LoRA files for transformers: every naming means what diffusers makes of it, and what has no place is refused."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from families import load
from families.errors import BadCheckpointError
from families.interface import DENOISER
from families.parts import lora_weights
from families.parts.flux_lora import LAST
from families.parts.lora_weights import LARGEST_RANK
from tests.families.lora_files import KLEIN, KONTEXT, LAYER, Weights, dotted, layers, one, product, read, theirs

LINEAR1 = "single_blocks.0.linear1"
T5_LAYER = "encoder.block.1.layer.0.SelfAttention.q"
ALPHA = 3.0


@pytest.fixture(scope="module", params=[KLEIN, KONTEXT])
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def pairs(family: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Random factors of rank 2 for every layer that the authors' names know in the tiny checkpoint: down, up."""
    own, generator = layers()[family][DENOISER], torch.Generator().manual_seed(0)
    made = {}
    for name, ours in load(family, "lora").ORIGINALS.items():
        shapes = [own.get(layer.format(0)) for layer in ours]
        if all(shapes) and not name.startswith("transformer_blocks"):
            out, width = sum(shape[0] for shape in shapes if shape), shapes[0][1]  # type: ignore[index]
            down, up = torch.randn(2, width, generator=generator), torch.randn(out, 2, generator=generator)
            made[name.format(0)] = (down, up)
    return made


def underscored(made: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> Weights:
    named = {f"lora_unet_{name.replace('.', '_')}": factors for name, factors in made.items()}
    halves = {
        f"{name}.lora_{half}.weight": factor
        for name, factors in named.items()
        for half, factor in zip(("down", "up"), factors, strict=True)
    }
    return halves | {f"{name}.alpha": torch.tensor(ALPHA) for name in named}


def test_the_authors_names_with_dots_are_diffusers_layers(tmp_path: Path) -> None:
    made = pairs(KLEIN)
    ours = read(tmp_path / "a.safetensors", dotted(made, "diffusion_model."), KLEIN)[DENOISER]
    reference = theirs(KLEIN, dotted(made, "diffusion_model."))
    assert ours.keys() == reference.keys()
    # Of this one layer's checkpoint diffusers swaps the halves, as it must, and of its LoRA it forgets to.
    reference["norm_out.linear"] = torch.cat(reference["norm_out.linear"].chunk(2)[::-1])
    for name, matrix in reference.items():
        torch.testing.assert_close(product(ours[name]), matrix)


def test_kohyas_names_are_diffusers_layers(tmp_path: Path, family: str) -> None:
    unknown = ("double_stream", "single_stream", "guidance_in", LAST) if family == KLEIN else (LINEAR1,)
    """To diffusers' converter: it passes over them, or knows the full checkpoint's width alone."""
    made = {name: factors for name, factors in pairs(family).items() if not name.startswith(unknown)}
    weights = underscored(made)
    for name in weights:
        if name.startswith("lora_unet_final") and name.endswith("alpha"):
            weights[name] = torch.tensor(2.0)  # the rank: of these layers diffusers reads no alpha
    ours = read(tmp_path / "a.safetensors", weights, family)[DENOISER]
    reference = theirs(family, weights)
    assert ours.keys() == reference.keys()
    for name, matrix in reference.items():
        torch.testing.assert_close(product(ours[name]), matrix, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "transformer.", "diffusion_model.", lora_weights.WRAPPED])
def test_every_spelling_is_the_same(tmp_path: Path, family: str, prefix: str) -> None:
    made = pairs(family)
    plain = read(tmp_path / "a.safetensors", dotted(made, prefix), family)[DENOISER]
    alphas = read(tmp_path / "b.safetensors", underscored(made), family)[DENOISER]
    assert plain.keys() == alphas.keys()
    for name, factors in plain.items():
        torch.testing.assert_close(ALPHA / 2 * product(factors), product(alphas[name]))
    own = {f"{prefix}{name}": factors for name, factors in plain.items()}
    ours = dotted({name: (factors.down, factors.up) for name, factors in own.items()}, "")
    again = read(tmp_path / "c.safetensors", ours, family)[DENOISER]
    assert all(torch.equal(product(again[name]), product(factors)) for name, factors in plain.items())


def test_fused_rows_go_to_their_layers(tmp_path: Path) -> None:
    down, up = pairs(KONTEXT)[LINEAR1]
    ours = read(tmp_path / "a.safetensors", dotted({LINEAR1: (down, up)}, "diffusion_model."), KONTEXT)
    block = "single_transformer_blocks.0."
    rows = [product(ours[DENOISER][f"{block}{name}"]) for name in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]
    torch.testing.assert_close(torch.cat(rows), up @ down)


@pytest.mark.parametrize(
    ("name", "component", "layer"),
    [
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1", "text_encoder", "encoder.layers.0.mlp.fc1"),
        ("text_encoder.text_model.encoder.layers.0.mlp.fc1", "text_encoder", "encoder.layers.0.mlp.fc1"),
        ("text_encoder.encoder.layers.0.mlp.fc1", "text_encoder", "encoder.layers.0.mlp.fc1"),
        (
            "lora_te3_encoder_block_1_layer_0_SelfAttention_q",
            "text_encoder_2",
            "encoder.block.1.layer.0.SelfAttention.q",
        ),
    ],
)
def test_text_encoders_are_named(tmp_path: Path, name: str, component: str, layer: str) -> None:
    out, width = layers()[KONTEXT][component][layer] or (0, 0)
    weights = dotted({name: (torch.ones(1, width), torch.ones(out, 1))}, "")
    assert list(read(tmp_path / "a.safetensors", weights, KONTEXT)[component]) == [layer]


def lokr(width: int) -> tuple[Weights, torch.Tensor]:
    parts = {
        "lokr_w1": torch.randn(4, 4),
        "lokr_w2_a": torch.randn(width // 4, 2),
        "lokr_w2_b": torch.randn(2, width // 4),
    }
    return parts, ALPHA / 2 * torch.kron(parts["lokr_w1"], parts["lokr_w2_a"] @ parts["lokr_w2_b"])


def whole_lokr(width: int) -> tuple[Weights, torch.Tensor]:
    parts = {"lokr_w1": torch.randn(2, 2), "lokr_w2": torch.randn(width // 2, width // 2)}
    return parts, torch.kron(parts["lokr_w1"], parts["lokr_w2"])


def loha(width: int) -> tuple[Weights, torch.Tensor]:
    shapes = {"w1_a": (width, 3), "w1_b": (3, width), "w2_a": (width, 2), "w2_b": (2, width)}
    parts = {f"hada_{name}": torch.randn(shape) for name, shape in shapes.items()}
    first, second = parts["hada_w1_a"] @ parts["hada_w1_b"], parts["hada_w2_a"] @ parts["hada_w2_b"]
    return parts, ALPHA / 3 * first * second


@pytest.mark.parametrize("made", [lokr, whole_lokr, loha])
@pytest.mark.parametrize("module", ["lycoris_transformer_blocks_0_attn_to_q", f"diffusion_model.{LAYER}"])
def test_products_become_the_factors_of_the_same_matrix(
    tmp_path: Path, made: Callable[[int], tuple[Weights, torch.Tensor]], module: str
) -> None:
    torch.manual_seed(1)
    parts, matrix = made(32)
    weights = {f"{module}.{name}": tensor for name, tensor in parts.items()} | {f"{module}.alpha": torch.tensor(ALPHA)}
    own = read(tmp_path / "a.safetensors", weights, KLEIN)[DENOISER][LAYER]
    torch.testing.assert_close(product(own), matrix, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("made", [lokr, whole_lokr])
def test_lokr_of_fused_rows_is_split(tmp_path: Path, made: Callable[[int], tuple[Weights, torch.Tensor]]) -> None:
    torch.manual_seed(2)
    parts, matrix = made(32)
    parts["lokr_w1"] = torch.cat([parts["lokr_w1"]] * 3)
    weights = {f"diffusion_model.double_blocks.0.img_attn.qkv.{name}": tensor for name, tensor in parts.items()}
    own = read(tmp_path / "a.safetensors", weights, KLEIN)[DENOISER]
    scale = 1.0 if made is whole_lokr else 2 / ALPHA
    for name in ("to_q", "to_k", "to_v"):
        torch.testing.assert_close(
            product(own[f"transformer_blocks.0.attn.{name}"]), scale * matrix, rtol=1e-4, atol=1e-5
        )


REFUSED: dict[str, tuple[Weights, str]] = {
    "another model's": (
        one("lora_unet_down_blocks_0_attentions_0_proj_in") | one("lora_unet_mid_block_attentions_0_proj_in"),
        "whose layer cannot be told: lora_unet_down_blocks_0_attentions_0_proj_in.lora_A.weight and 1 more",
    ),
    "a block too many": (one("transformer.transformer_blocks.1.attn.to_q"), "cannot be told: .*blocks.1.attn.to_q"),
    "a norm": (one("transformer.transformer_blocks.0.attn.norm_q.x"), "cannot be told"),
    "twice": (one(f"transformer.{LAYER}") | one(f"diffusion_model.{LAYER}"), f"of one layer twice: .*{LAYER}"),
    "one half": (
        {f"transformer.{LAYER}.lora_A.weight": torch.ones(2, 32)},
        f"{LAYER} has no up factor beside transformer.{LAYER}.lora_A.weight",
    ),
    "an alpha alone": ({f"transformer.{LAYER}.alpha": torch.tensor(1.0)}, "has no down factor beside"),
    "other rows": (one("double_blocks.0.img_attn.qkv", out=64), "img_attn.qkv has 64 outputs, and its layers have 96"),
    "half a LoKr": ({f"{LAYER}.lokr_w1": torch.ones(2, 2)}, "is no whole LoHa or LoKr: it has lokr_w1 alone"),
    "half a LoHa": ({f"{LAYER}.hada_w1_a": torch.ones(2, 2)}, "is no whole LoHa or LoKr: it has hada_w1_a alone"),
    "a LoKr that does not fit": (
        {
            f"{LAYER}.lokr_w1": torch.ones(2, 2),
            f"{LAYER}.lokr_w2_a": torch.ones(2, 3),
            f"{LAYER}.lokr_w2_b": torch.ones(2, 2),
        },
        "its factors do not fit together",
    ),
    "LoKr of a convolution": (
        {f"{LAYER}.lokr_w1": torch.ones(2, 2), f"{LAYER}.lokr_w2": torch.ones(16, 16, 3, 3)},
        "is LoHa or LoKr of a convolution",
    ),
    "LoKr of full rank": (
        {f"{LAYER}.lokr_w1": torch.ones(8, 8), f"{LAYER}.lokr_w2": torch.ones(384, 384)},
        f"{LAYER} is of no low rank: of 3072; at most {LARGEST_RANK} is taken",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_place_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    weights, words = REFUSED[kind]
    with pytest.raises(BadCheckpointError, match=words) as error:
        read(tmp_path / "a.safetensors", weights, KLEIN)
    assert "\n" not in str(error.value)
