"""The contrastive loss against torch's own cross-entropy and gradient, at every temperature and memory."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.losses import Workspace, info_nce


def rows(seed: int, n: int, d: int = 8) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def slow(image: torch.Tensor, text: torch.Tensor, tau: float) -> torch.Tensor:
    image, text = (torch.nn.functional.normalize(rows.double(), dim=1) for rows in (image, text))
    logits, own = image @ text.T / tau, torch.arange(len(image))
    return (torch.nn.functional.cross_entropy(logits, own) + torch.nn.functional.cross_entropy(logits.T, own)) / 2


def gradients(loss: torch.Tensor, *leaves: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, leaves))


@settings(max_examples=40)
@given(
    st.integers(0, 99), st.integers(2, 40), st.sampled_from([0.005, 0.01, 0.03, 0.1, 1.0, 30.0]),
    st.sampled_from([1, 700, 2**31]),
)  # fmt: skip
def test_loss_and_gradient_are_those_of_cross_entropy(seed: int, n: int, tau: float, memory: int) -> None:
    image, text = rows(seed, n), rows(seed + 1, n)
    ours, theirs = info_nce(image, text, tau, workspace=Workspace(memory)), slow(image, text, tau)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-4, abs=1e-5)
    for mine, exact in zip(gradients(ours, image, text), gradients(theirs, image, text), strict=True):
        torch.testing.assert_close(mine, exact, rtol=1e-3, atol=1e-5 / tau)


def test_many_slices_and_blocks_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    image, text = rows(0, 70), rows(1, 70)
    whole = [(loss := info_nce(image, text, tau)), *gradients(loss, image, text)] if (tau := 0.1) else []
    monkeypatch.setattr("finetune.losses.SLICE_BYTES", {"cpu": 3 * 70 * 4})
    for memory in (10 * 70 * 4, 2**31):
        loss = info_nce(image, text, tau, workspace=Workspace(memory))
        for ours, expected in zip([loss, *gradients(loss, image, text)], whole, strict=True):
            torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("tau", [0.01, 0.1])
def test_gradient_is_scaled_by_what_follows_the_loss(tau: float) -> None:
    image, text = rows(0, 9), rows(1, 9)
    once, thrice = (gradients(info_nce(image, text, tau) * scale, image)[0] for scale in (1, 3))
    torch.testing.assert_close(thrice, once * 3)


@pytest.mark.parametrize("tau", [0.001, 0.01, 0.1, 1.0])
def test_equal_vectors_cost_the_logarithm_of_their_number(tau: float) -> None:
    same = rows(0, 1).detach().repeat(50, 1)
    assert info_nce(same, same, tau).item() == pytest.approx(math.log(50), abs=1e-2 if tau < 0.01 else 1e-3)


@pytest.mark.parametrize("tau", [0.001, 0.01, 0.024, 0.026])
def test_sharp_temperatures_neither_overflow_nor_vanish(tau: float) -> None:
    image = torch.eye(30).requires_grad_()
    opposite = (-torch.eye(30)).requires_grad_()
    assert info_nce(image, torch.eye(30), tau).item() == pytest.approx(0, abs=1e-5)
    worst = info_nce(image, opposite, tau)
    assert worst.item() == pytest.approx(1 / tau + math.log(29), rel=1e-4)
    assert all(torch.isfinite(g).all() for g in gradients(worst, image, opposite))


@pytest.mark.parametrize(("tau", "close"), [(0.01, 1e-4), (0.1, 1e-2), (1.0, 1e-2)])
def test_half_precision_is_close(tau: float, close: float) -> None:
    image, text = rows(0, 200, 64), rows(1, 200, 64)
    whole, half = info_nce(image, text, tau), info_nce(image, text, tau, half=True)
    assert half.item() == pytest.approx(whole.item(), rel=close)
    for a, b in zip(gradients(whole, image, text), gradients(half, image, text), strict=True):
        assert torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.999
        assert b.norm() == pytest.approx(a.norm().item(), rel=0.01)


def test_workspace_of_another_batch_changes_nothing() -> None:
    space = Workspace(10_000)
    for seed, n, tau, half in ((0, 60, 0.1, False), (1, 9, 0.1, False), (2, 60, 0.01, False), (3, 70, 0.1, True)):
        image, text = rows(seed, n), rows(seed + 1, n)
        loss, fresh = info_nce(image, text, tau, half, space), info_nce(image, text, tau, half, Workspace(10_000))
        for ours, expected in zip(
            [loss, *gradients(loss, image, text)], [fresh, *gradients(fresh, image, text)], strict=True
        ):
            assert (ours == expected).all()


def test_row_without_direction_gets_no_gradient_that_is_not_a_number() -> None:
    image, text = rows(0, 5).detach(), rows(1, 5)
    image[2] = 0
    loss = info_nce(image.requires_grad_(), text, 0.1)
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients(loss, image, text))
