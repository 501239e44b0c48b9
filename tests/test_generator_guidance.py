"""ZestGuide's equations against slow exact loops, finite differences, and what they must do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simat.generators.guidance import (
    BEST,
    DEAD_ZONE,
    SMOOTH,
    decay,
    descent,
    inside,
    layout_loss,
    overlap,
    segment_maps,
)

TOKENS = ((1, 2), (4,))
FORMS: tuple[Any, ...] = ("thesis", "bce", "sd", "sdxl")


def random_layers(seed: int = 0) -> list[torch.Tensor]:
    """Softmax maps of three layers with different heads and resolutions, two samples, six tokens."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, 2, 4, 4, 6), (2, 3, 2, 2, 6), (2, 1, 4, 4, 6))
    return [(3 * torch.randn(shape, generator=generator)).softmax(-1) for shape in shapes]


def random_masks(segments: int = 2, edge: int = 4, seed: int = 1) -> torch.Tensor:
    return (torch.rand(segments, edge, edge, generator=torch.Generator().manual_seed(seed)) > 0.5).float()


def random_maps(groups: int = 1, segments: int = 2, edge: int = 4, seed: int = 2) -> torch.Tensor:
    drawn = torch.rand(2, groups, segments, edge, edge, generator=torch.Generator().manual_seed(seed))
    return 0.02 + 0.5 * drawn


def bilinear(grid: np.ndarray, size: int) -> np.ndarray:
    """Bilinear resizing with aligned pixel areas, cell by cell."""
    edge = len(grid)
    out = np.zeros((size, size))
    for r in range(size):
        for c in range(size):
            y, x = ((v + 0.5) * edge / size - 0.5 for v in (r, c))
            y, x = max(y, 0.0), max(x, 0.0)
            r0, c0 = int(y), int(x)
            r1, c1 = min(r0 + 1, edge - 1), min(c0 + 1, edge - 1)
            top = grid[r0, c0] * (1 - (x - c0)) + grid[r0, c1] * (x - c0)
            bottom = grid[r1, c0] * (1 - (x - c0)) + grid[r1, c1] * (x - c0)
            out[r, c] = top * (1 - (y - r0)) + bottom * (y - r0)
    return out


def slow_maps(layers: list[torch.Tensor], size: int) -> list[list[list[np.ndarray]]]:
    """Eq. 6.3 for every sample, (layer, head) and segment, not averaged."""
    every = []
    for sample in range(2):
        rows = []
        for maps in layers:
            for head in range(maps.shape[1]):
                rows.append(
                    [bilinear(sum(maps[sample, head, :, :, n].double().numpy() for n in ids), size) for ids in TOKENS]
                )
        every.append(rows)
    return every


def test_segment_maps_equal_the_slow_loop_of_eq_6_3() -> None:
    layers = random_layers()
    found, every = segment_maps(layers, TOKENS, (4, 4)), slow_maps(layers, 4)
    assert found.shape == (2, 1, 2, 4, 4)
    for sample in range(2):
        for segment in range(2):
            expected = sum(row[segment] for row in every[sample]) / 6  # L: six heads in all
            np.testing.assert_allclose(found[sample, 0, segment], expected, atol=1e-6)


def test_segment_maps_by_head_and_by_layer_equal_the_slow_loop() -> None:
    layers = random_layers(3)
    every = slow_maps(layers, 4)
    heads, means = (segment_maps(layers, TOKENS, (4, 4), average) for average in ("head", "layer"))
    assert (heads.shape[1], means.shape[1]) == (6, 3)
    for sample in range(2):
        for group in range(6):
            np.testing.assert_allclose(heads[sample, group, 1], every[sample][group][1], atol=1e-6)
        by_layer = [every[sample][0:2], every[sample][2:5], every[sample][5:6]]
        for group, rows in enumerate(by_layer):
            np.testing.assert_allclose(means[sample, group, 0], sum(r[0] for r in rows) / len(rows), atol=1e-6)


def test_segment_maps_of_all_tokens_are_one_everywhere() -> None:
    (ones,) = segment_maps(random_layers(), [range(6)], (4, 4)).unbind(2)
    torch.testing.assert_close(ones, torch.ones_like(ones))


def slow_cross_entropy(p: float, s: float) -> float:
    p = (p + SMOOTH) / (1 + 2 * SMOOTH)
    return -(s * math.log(p) + (1 - s) * math.log(1 - p))


def slow_loss(maps: np.ndarray, masks: np.ndarray, form: str) -> float:
    """The losses of one sample, pixel by pixel; maps [groups, segments, h, w]."""
    total = 0.0
    for i in range(maps.shape[1]):
        of_groups, fits = [], []
        for group in maps[:, i]:
            top, errors, fit = group.max(), [], []
            for p, s in zip(group.flatten().tolist(), masks[i].flatten().tolist(), strict=True):
                q = p / top
                fit.append((q - s) ** 4)
                if form in {"thesis", "bce"}:
                    errors.append(slow_cross_entropy(p, s) + (slow_cross_entropy(q, s) if form == "thesis" else 0))
                elif form == "sd":
                    both = [x for x in (min(10 * p, 1.0), q) if abs(x - s) >= DEAD_ZONE]
                    errors.append(sum(slow_cross_entropy(x, s) for x in both))
                else:
                    errors.append((q - s) ** 4 if abs(q - s) >= DEAD_ZONE else 0.0)
            of_groups.append(sum(errors) / len(errors))
            fits.append(sum(fit) / len(fit))
        if form == "sdxl":
            best = sorted(range(len(fits)), key=fits.__getitem__)[:BEST]
            of_groups = [of_groups[k] for k in best]
        total += sum(of_groups) / len(of_groups)
    return total


@pytest.mark.parametrize("groups", [1, BEST + 5])
@pytest.mark.parametrize("form", FORMS)
def test_layout_loss_equals_the_slow_loop(form: Any, groups: int) -> None:
    maps, masks = random_maps(groups), random_masks()
    found = layout_loss(maps, masks, form)
    expected = [slow_loss(m.double().numpy(), masks.double().numpy(), form) for m in maps]
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_layout_loss_of_eq_6_4_by_hand() -> None:
    """One segment of two pixels, Ŝ = (0.4, 0.1), S = (1, 0): −ln 0.4 − ln 0.9 − ln 1 − ln 0.75, over two pixels."""
    maps, masks = torch.tensor([[[[[0.4, 0.1]]]]]), torch.tensor([[[1.0, 0.0]]])
    assert float(layout_loss(maps, masks)) == pytest.approx((0.9163 + 0.1054 + 0.0 + 0.2877) / 2, abs=5e-3)


def near_a_kink(maps: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Maxima, and pixels at the edge of the dead zone or of the clipping."""
    normalised = maps / maps.amax((-2, -1), keepdim=True)
    edges = [(x - masks).abs() - DEAD_ZONE for x in (normalised, 10 * maps)]
    return (normalised == 1) | (torch.stack([*edges, 10 * maps - 1]).abs() < 0.1).any(0)


@pytest.mark.parametrize("form", FORMS)
def test_layout_loss_gradients_equal_finite_differences(form: Any) -> None:
    masks = random_masks(seed=5)
    maps = random_maps(3, seed=6).double().requires_grad_()

    def loss(x: torch.Tensor) -> torch.Tensor:  # the loss works in single precision: the steps are wide
        return layout_loss(x, masks, form).sum().double()

    (gradient,) = torch.autograd.grad(loss(maps), maps)
    generator, step, fixed = torch.Generator().manual_seed(7), 1e-3, near_a_kink(maps.detach(), masks)
    for _ in range(5):
        along = torch.randn(maps.shape, generator=generator, dtype=torch.float64)
        along[fixed] = 0
        along /= along.norm()
        difference = (loss(maps.detach() + step * along) - loss(maps.detach() - step * along)) / (2 * step)
        expected = float((gradient * along).sum())
        assert float(difference) == pytest.approx(expected, rel=0.05, abs=0.02), form


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_layout_loss_of_extreme_maps_is_finite_with_finite_gradients(form: Any, value: float) -> None:
    maps = torch.full((1, 1, 2, 4, 4), value, requires_grad=True)
    loss = layout_loss(maps, torch.stack([torch.ones(4, 4), torch.zeros(4, 4)]), form)
    (gradient,) = torch.autograd.grad(loss.sum(), maps)
    assert loss.isfinite().all() and gradient.isfinite().all()


def test_second_term_leaves_the_maximum_alone() -> None:
    """A maximum outside of the segment: normalised it is one whatever it is, so rounding must not pull it."""
    maps = random_maps(edge=8, segments=1).requires_grad_()
    masks = (maps.detach()[0, 0] < maps.detach()[0, 0].amax()).float()
    thesis, first = (layout_loss(maps, masks, form).sum() for form in ("thesis", "bce"))
    (gradient,) = torch.autograd.grad(thesis - first, maps)
    assert gradient.abs().max() < 10


def test_loss_is_lower_where_the_maps_fit() -> None:
    masks = random_masks()
    good = (0.02 + 0.3 * masks)[None, None]
    for form in FORMS:
        assert float(layout_loss(good, masks, form)) < float(layout_loss(0.34 - good, masks, form))


@given(st.integers(0, 10_000), st.floats(1e-20, 1e20))
def test_descent_is_at_most_one_and_ignores_scale(seed: int, scale: float) -> None:
    gradient = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(seed))
    moved = descent(gradient * scale)
    torch.testing.assert_close(moved.abs().amax((1, 2, 3)), torch.ones(2))
    torch.testing.assert_close(moved, descent(gradient), rtol=1e-4, atol=1e-6)


def test_descent_of_a_zero_gradient_moves_nothing() -> None:
    gradient = torch.zeros(2, 4, 3, 3)
    gradient[1, 2, 1, 1] = -1e-30
    moved = descent(gradient)
    assert torch.equal(moved[0], torch.zeros(4, 3, 3)) and float(moved[1].min()) == -1


def test_decay_falls_from_one() -> None:
    assert decay("linear", 0.0, 0.01) == 1 and decay("linear", 0.75, 0.5) == 0.25
    assert decay("sigma", 0.3, 0.19) == pytest.approx(0.9)
    assert decay("constant", 0.9, 0.9) == 1


def test_overlap_is_that_of_half_the_maximum_with_the_covered_cells() -> None:
    maps = torch.tensor([[[[[0.2, 0.11], [0.09, 0.01]]]]])
    masks = torch.tensor([[[1.0, 0.0], [0.6, 0.4]]])
    assert inside(maps)[0, 0, 0].tolist() == [[True, True], [False, False]]
    assert float(overlap(maps, masks)) == pytest.approx(1 / 3)
