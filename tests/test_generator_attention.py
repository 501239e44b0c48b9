"""The text attention of a UNet: watched, painted, put back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny_diffusion import GRID, WIDTH, unet

from simat.errors import QueryError
from simat.generators.attention import (
    Layer,
    Paint,
    choose_layers,
    paint_strength,
    painted,
    resized,
    text_layers,
    watching,
)

TOKENS = 7


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small networks gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def net() -> Any:
    return unet(3)


@pytest.fixture(scope="module")
def given() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, GRID, GRID, generator=generator)
    states = torch.randn(2, TOKENS, WIDTH, generator=generator)
    return {"sample": latents, "timestep": torch.tensor(300), "encoder_hidden_states": states}


def run(net: Any, given: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        output: torch.Tensor = net(**given).sample
    return output


def half_plane() -> torch.Tensor:
    mask = torch.zeros(1, GRID, GRID)
    mask[:, :, GRID // 2 :] = 1
    return mask


def test_text_layers_are_found_by_what_they_attend_to(net: Any) -> None:
    layers = text_layers(net, GRID, GRID)
    assert {(x.resolution, x.part) for x in layers} == {
        (16, "encoder"), (8, "encoder"), (4, "encoder"), (4, "middle"), (4, "decoder"), (8, "decoder"), (16, "decoder"),
    }  # fmt: skip
    both = [x for x in layers if x.resolution == 16 and x.part == "encoder"]
    assert [".attn1." in x.name for x in both] == [True, False]  # without self-attention, both read the text
    assert not any(".attn1." in x.name for x in layers if x.resolution < 16)


def test_grid_of_a_layer_is_rounded_up_as_the_network_does(given: dict[str, torch.Tensor], net: Any) -> None:
    odd = {**given, "sample": torch.randn(2, 4, 12, 20, generator=torch.Generator().manual_seed(1))}
    layers = text_layers(net, 12, 20)
    with watching(net, layers, layers) as watch, watch.on(record=True):
        run(net, odd)
    assert {maps.shape[2:4] for maps in watch.maps.values()} == {(12, 20), (6, 10), (3, 5)}
    assert [*watch.maps] and all(watch.maps[x.name].shape[2:4] == (x.height, x.width) for x in layers)


def test_maps_of_every_layer_and_head_sum_to_one_over_tokens(net: Any, given: dict[str, torch.Tensor]) -> None:
    layers = text_layers(net, GRID, GRID)
    with watching(net, layers, layers) as watch, watch.on(record=True):
        run(net, given)
    assert set(watch.maps) == {x.name for x in layers}
    for maps in watch.maps.values():
        assert maps.shape[0] == 2 and maps.shape[-1] == TOKENS and maps.min() > 0
        torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))


def test_maps_equal_attention_computed_by_hand(net: Any, given: dict[str, torch.Tensor]) -> None:
    module = net.down_blocks[1].attentions[0].transformer_blocks[0].attn2
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.processor"
    seen: list[torch.Tensor] = []
    hook = module.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    chosen = [x for x in text_layers(net, GRID, GRID) if x.name == name]
    with watching(net, chosen, chosen) as watch, watch.on(record=True):
        run(net, given)
    hook.remove()
    width = module.to_q.out_features // module.heads
    for row, head, pixel in ((0, 0, 0), (1, 1, 37)):
        part = slice(head * width, (head + 1) * width)
        query = (module.to_q.weight @ seen[0][row, pixel])[part]
        weights = []
        for token in range(TOKENS):
            key = (module.to_k.weight @ given["encoder_hidden_states"][row, token])[part]
            weights.append(torch.exp((query @ key) / width**0.5))
        expected = torch.stack(weights) / sum(weights)
        torch.testing.assert_close(watch.maps[name][row, head].flatten(0, 1)[pixel], expected.detach())


def test_watching_changes_no_bit_of_the_output(net: Any, given: dict[str, torch.Tensor]) -> None:
    plain, layers = run(net, given), text_layers(net, GRID, GRID)
    with watching(net, layers, layers) as watch:
        assert torch.equal(run(net, given), plain)
        with watch.on(record=True):
            assert torch.equal(run(net, given), plain)
        nothing = Paint(half_plane(), ((1, 2),), 0.0)
        with watch.on(record=True, paint=nothing):
            assert torch.equal(run(net, given), plain)
    assert torch.equal(run(net, given), plain)


def test_paint_without_a_bias_is_the_networks_own_attention(net: Any, given: dict[str, torch.Tensor]) -> None:
    """The arithmetic of the painted path, with a strength that rounds away."""
    plain, layers = run(net, given), text_layers(net, GRID, GRID)
    with watching(net, (), layers) as watch, watch.on(record=False, paint=Paint(half_plane(), ((1,),), 1e-30)):
        torch.testing.assert_close(run(net, given), plain, rtol=1e-4, atol=1e-5)


def test_paint_moves_attention_into_the_segment(net: Any, given: dict[str, torch.Tensor]) -> None:
    layers = text_layers(net, GRID, GRID)
    with watching(net, layers, layers) as watch, watch.on(record=True, paint=Paint(half_plane(), ((2, 3),), 3.0)):
        assert not torch.equal(run(net, given), run(net, {**given, "timestep": torch.tensor(301)}))
    # Maps are kept as they are without the bias; the first layer's input is the same either way.
    first = layers[0].name
    with watching(net, layers, layers) as other, other.on(record=True):
        run(net, {**given, "timestep": torch.tensor(301)})
    torch.testing.assert_close(watch.maps[first], other.maps[first])


def test_painted_follows_its_formula() -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    masks = torch.tensor([[[1.0, 0.0], [0.5, 0.0]], [[0.0, 1.0], [0.0, 0.0]]])
    layer = Layer("x", 2, 2, "middle")
    biased = painted(logits, Paint(masks, ((1, 2), (4,)), 0.7), layer, slice(1, None))
    assert torch.equal(biased[0], logits[0])
    largest = float(logits[1].max())
    for pixel in range(4):
        for token in range(5):
            inside = sum(
                float(m.flatten()[pixel]) for m, ids in zip(masks, ((1, 2), (4,)), strict=True) if token in ids
            )
            expected = logits[1, :, pixel, token] + 0.7 * largest * inside
            torch.testing.assert_close(biased[1, :, pixel, token], expected)


def test_paint_never_pushes_words_out_where_all_logits_are_negative() -> None:
    logits = torch.full((1, 1, 4, 3), -2.0)
    assert torch.equal(painted(logits, Paint(torch.ones(1, 2, 2), ((1,),), 1.0), Layer("x", 2, 2, "middle")), logits)


def test_paint_strength_is_that_of_its_formula() -> None:
    assert paint_strength(1.0, 1 / (1 + 3**2)) == pytest.approx(0.4 * 1.3862943611)  # σ = 3: log 4
    assert paint_strength(0.0, 0.1) == 0
    assert paint_strength(2.0, 0.5) > paint_strength(2.0, 0.9) > paint_strength(2.0, 1.0) == 0


def test_rows_that_are_not_named_are_neither_recorded_nor_painted(net: Any, given: dict[str, torch.Tensor]) -> None:
    plain, layers = run(net, given), text_layers(net, GRID, GRID)
    paint = Paint(half_plane(), ((2, 3),), 3.0)
    with watching(net, layers, layers) as watch, watch.on(record=True, paint=paint, rows=slice(1, 2)):
        output = run(net, given)
    assert all(len(maps) == 1 for maps in watch.maps.values())
    torch.testing.assert_close(output[0], plain[0], rtol=1e-4, atol=1e-5)
    assert (output[1] - plain[1]).abs().max() > 1e-3


def test_processors_are_the_same_objects_afterwards(net: Any, given: dict[str, torch.Tensor]) -> None:
    before, layers = dict(net.attn_processors), text_layers(net, GRID, GRID)
    with watching(net, layers, layers) as watch:
        assert all(net.attn_processors[x.name] is not before[x.name] for x in layers)
        untouched = set(before) - {x.name for x in layers}
        assert untouched and all(net.attn_processors[name] is before[name] for name in untouched)
        with watch.on(record=True):
            run(net, given)
    assert all(net.attn_processors[name] is before[name] for name in before)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_processors_are_put_back_after_an_exception(net: Any, error: type[BaseException]) -> None:
    before, layers = dict(net.attn_processors), text_layers(net, GRID, GRID)
    with pytest.raises(error), watching(net, layers, layers) as watch, watch.on(record=True):
        raise error
    assert all(net.attn_processors[name] is before[name] for name in before)
    assert not watch.record and watch.paint is None


def test_an_encoder_mask_hides_its_tokens(net: Any, given: dict[str, torch.Tensor]) -> None:
    mask = torch.ones(2, TOKENS, dtype=torch.bool)
    mask[:, -2:] = False
    layers = text_layers(net, GRID, GRID)
    with watching(net, layers, layers) as watch, watch.on(record=True):
        run(net, {**given, "encoder_attention_mask": mask})
    masked = [maps for name, maps in watch.maps.items() if ".attn2." in name]
    assert all(maps[..., -2:].max() == 0 for maps in masked)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_maps_are_single_precision_and_carry_gradients(given: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    net = unet(3).to(dtype)
    layers = choose_layers(text_layers(net, GRID, GRID), GRID, [8])
    latents = given["sample"].clone().requires_grad_()
    with watching(net, layers, layers) as watch, watch.on(record=True):
        net(latents.to(dtype), given["timestep"], given["encoder_hidden_states"].to(dtype))
    maps = watch.maps[layers[-1].name]
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps.detach().sum(-1), torch.ones(maps.shape[:-1]))
    (gradient,) = torch.autograd.grad(maps[..., 1].sum(), latents)
    assert gradient.abs().max() > 0 and gradient.isfinite().all()


def test_choose_layers_defaults_to_the_two_finest_below_the_latents(net: Any) -> None:
    layers = text_layers(net, GRID, GRID)
    assert {x.resolution for x in choose_layers(layers, GRID)} == {8, 4}
    fine = [x for x in layers if x.resolution > 4]
    assert {x.resolution for x in choose_layers(fine, GRID)} == {16, 8}
    assert {x.part for x in choose_layers(layers, GRID, [4, 8], "decoder")} == {"decoder"}
    assert {x.resolution for x in choose_layers(layers, GRID, [4])} == {4}


@pytest.mark.parametrize(("resolutions", "part"), [([32], "all"), ([], "all"), ([16, 5], "encoder")])
def test_choose_layers_refuses_resolutions_that_are_not_there(net: Any, resolutions: list[int], part: Any) -> None:
    with pytest.raises(QueryError, match=r"other resolutions.*there are 16, 8, 4"):
        choose_layers(text_layers(net, GRID, GRID), GRID, resolutions, part)


def test_resized_masks_are_the_share_of_each_cell() -> None:
    mask = torch.zeros(1, 4, 4)
    mask[0, 0, :3] = 1
    assert torch.equal(resized(mask, 2, 2), torch.tensor([[[0.5, 0.25], [0.0, 0.0]]]))
    assert resized(mask, 3, 5).shape == (1, 3, 5)
