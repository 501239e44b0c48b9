"""FlexIT's objective and descent: the laws of equations 4.1 to 4.5."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_flexit import TinyCodec, TinyNetwork, generator, one_thread, picture, tiny_vq  # noqa: F401

from simat.errors import ModelError, QueryError
from simat.generators.augment import Augmentation
from simat.generators.codecs import PixelCodec, VqCodec, soft_clamp
from simat.generators.flexit import Frame, Losses, Objective, Weights, descend, embed, target
from simat.generators.perceptual import PerceptualDistance

NETWORKS = (TinyNetwork(1), TinyNetwork(2, size=12, dim=4))
WORDS = ("dog", "cat")
PLAIN = Augmentation(0)
BARE = Weights(perceptual=0.0, latent=0.0)


def crude() -> PerceptualDistance:
    """A perceptual distance of two fixed smooth filters."""
    filters = torch.randn(4, 3, 3, 3, generator=generator(9))

    def layers(pictures: torch.Tensor) -> list[torch.Tensor]:
        first = torch.tanh(torch.nn.functional.conv2d(pictures, filters.to(pictures)))
        return [first, first[:, :2] + 1]

    return PerceptualDistance("crude", "0" * 64, layers, [torch.full((4,), 0.5), torch.ones(2)])


def objective(weights: Weights | None = None, codec: Any = None, networks: Any = NETWORKS, **more: Any) -> Objective:
    more = {"picture": picture(), "augmentation": PLAIN, "perceptual": crude(), **more}
    return Objective(codec or TinyCodec(), networks, words=WORDS, weights=weights or Weights(), **more)


def frames(of: Objective, updates: int, rate: float = 0.05, seed: int = 0) -> list[Frame]:
    return list(descend(of, updates, rate, generator(seed)))


def losses(of: Objective, latents: torch.Tensor) -> Losses:
    return of(latents, generator())[0]


# The target, eq. 4.1


def test_target_is_the_sum_of_three_unit_embeddings() -> None:
    network = NETWORKS[0]
    source, wanted = network.embed_texts(["dog"]), network.embed_texts(["cat"])
    image = network.embed_images(network.prepared(picture()))
    expected = wanted + 0.2 * image - 0.4 * source
    assert torch.allclose(target(network, picture(), WORDS, Weights()), expected, atol=1e-6)
    assert target(network, picture(), WORDS, Weights()).norm() != pytest.approx(1, abs=1e-3), "not normalised"


@pytest.mark.parametrize(("words", "signs"), [((None, "cat"), (0, 1)), (("dog", None), (-0.4, 0))])
def test_target_of_an_addition_or_removal_has_one_word(words: Any, signs: tuple[float, float]) -> None:
    network = NETWORKS[0]
    image = network.embed_images(network.prepared(picture()))
    expected = 0.2 * image + signs[0] * network.embed_texts(["dog"]) + signs[1] * network.embed_texts(["cat"])
    assert torch.allclose(target(network, picture(), words, Weights()), expected, atol=1e-6)


# The terms


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_squared_form_is_that_of_the_concatenation(seed: int) -> None:
    of = objective(replace(BARE, embedding="squared"), augmentation=Augmentation(3))
    latents = of.start + 0.3 * torch.randn(of.start.shape, generator=generator(seed))
    shown, draws = soft_clamp(TinyCodec().decode(latents)), generator(7)
    ours, goal = [], []
    for network in NETWORKS:  # one view after another, and one long vector
        maps = Augmentation(3).draw(draws)
        from simat.generators.augment import views

        rows = [network.embed_images(views(shown, one[None], network.size))[0] for one in maps]
        ours.append(sum(rows) / len(rows))
        goal.append(target(network, picture(), WORDS, Weights())[0])
    slow = (torch.cat(ours) - torch.cat(goal)).square().sum()
    assert of(latents, generator(7))[0].embedding.item() == pytest.approx(slow.item(), rel=1e-5)


def test_dot_form_is_minus_the_mean_over_networks() -> None:
    of = objective(BARE)
    shown = soft_clamp(TinyCodec().decode(of.start))
    products = [
        embed(network, shown, PLAIN, generator())[0] @ target(network, picture(), WORDS, Weights())[0]
        for network in NETWORKS
    ]
    assert losses(of, of.start).total.item() == pytest.approx(-sum(products).item() / 2, abs=1e-6)


@pytest.mark.parametrize("count", [0, 1])
def test_gradients_of_both_forms_are_proportional_for_one_view(count: int) -> None:
    slopes = {
        form: objective(replace(BARE, embedding=form), augmentation=Augmentation(count)).gradient(
            TinyCodec().encode(picture(1)), generator()
        )[0]
        for form in ("dot", "squared")
    }
    assert torch.allclose(slopes["squared"], 2 * len(NETWORKS) * slopes["dot"], rtol=1e-3, atol=1e-5)


def test_terms_are_switched_off_by_their_weights() -> None:
    of = objective(BARE, perceptual=None)
    found = losses(of, of.start + 0.1)
    assert found.perceptual == 0
    assert found.total == found.embedding
    with pytest.raises(QueryError, match="a perceptual weight without a perceptual distance"):
        objective(Weights(), perceptual=None)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("norm", ["l21", "l1", "l2"])
def test_regularisers_are_zero_at_the_start_with_a_finite_gradient(norm: Any, relative: bool) -> None:
    # A codec without loss: the perceptual term, too, compares the picture with itself.
    of = objective(Weights(norm=norm, relative=relative), codec=PixelCodec(), picture=picture() * 0.9 + 0.05)
    slope, found, _ = of.gradient(of.start, generator())
    assert found.latent == 0
    assert found.perceptual == pytest.approx(0, abs=1e-10)
    assert slope.isfinite().all()
    assert slope.norm() > 0


@pytest.mark.parametrize("norm", ["l21", "l1", "l2"])
def test_latent_term_is_the_norm_of_the_step(norm: str) -> None:
    weights = replace(BARE, latent=1.0, relative=False, norm=norm)  # type: ignore[arg-type]
    of = objective(weights)
    step = torch.randn(of.start.shape, generator=generator(3))
    slow = 0.0
    for row in range(step.shape[2]):
        for column in range(step.shape[3]):
            cell = step[0, :, row, column].tolist()
            slow += {"l21": sum(x * x for x in cell) ** 0.5, "l1": sum(map(abs, cell)), "l2": sum(x * x for x in cell)}[
                norm
            ]
    slow = slow**0.5 if norm == "l2" else slow
    assert losses(of, of.start + step).latent.item() == pytest.approx(slow, rel=1e-4)


def test_latent_term_relative_is_one_where_the_latents_have_vanished() -> None:
    of = objective(Weights())
    assert losses(of, torch.zeros_like(of.start)).latent.item() == pytest.approx(1, rel=1e-5)


@given(st.integers(0, 1000), st.sampled_from(["dot", "squared"]), st.sampled_from(["l21", "l2"]), st.booleans())
@settings(max_examples=15)
def test_gradient_agrees_with_finite_differences(seed: int, form: Any, norm: Any, relative: bool) -> None:
    weights = Weights(perceptual=0.7, latent=0.6, embedding=form, norm=norm, relative=relative)
    of = objective(weights, picture=picture().double(), augmentation=Augmentation(2))
    draw = generator(seed)
    latents = of.start + 0.2 * torch.randn(of.start.shape, generator=draw, dtype=torch.float64)
    direction = torch.randn(of.start.shape, generator=draw, dtype=torch.float64)
    slope, _, _ = of.gradient(latents, generator(1))
    with torch.no_grad():
        ahead, behind = (of(latents + h * direction, generator(1))[0].total for h in (1e-5, -1e-5))
    assert (slope * direction).sum().item() == pytest.approx((ahead - behind).item() / 2e-5, rel=1e-3, abs=1e-6)


# The descent


@pytest.mark.parametrize("codec", [TinyCodec(), PixelCodec(), VqCodec(tiny_vq(), "tiny")])
def test_no_update_is_plain_autoencoding(codec: Any) -> None:
    (only,) = frames(objective(codec=codec), 0)
    with torch.no_grad():
        assert torch.equal(only.picture, codec.decode(codec.encode(picture())).clamp(0, 1))
    assert frames(objective(codec=codec), 2)[0].picture.equal(only.picture)


@given(st.floats(0.001, 0.5), st.integers(0, 100))
@settings(max_examples=15)
def test_step_has_the_length_that_the_rate_says(rate: float, seed: int) -> None:
    asked: list[torch.Tensor] = []

    class Recording(PixelCodec):
        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            asked.append(latents.detach())
            return latents

    of = objective(codec=Recording())
    frames(of, 2, rate, seed)
    for before, after in pairwise(asked):
        assert (after - before).norm().item() == pytest.approx(rate * of.start.norm().item(), rel=1e-4)


def test_descent_lowers_the_objective() -> None:
    found = frames(objective(codec=PixelCodec()), 40, rate=0.01)
    assert found[-1].losses["total"] < found[0].losses["total"] - 0.1
    assert [frame.step for frame in found] == list(range(41))


def test_descent_towards_the_picture_itself_stays() -> None:
    """λ's zero, and a target that is the picture's own embedding: nothing to gain."""
    weights = Weights(image=1.0, source=0.0, perceptual=0.0, latent=0.0)
    of = Objective(PixelCodec(), NETWORKS, picture() * 0.9 + 0.05, (None, None), weights, None, PLAIN)
    slope, found, _ = of.gradient(of.start, generator())
    assert found.total.item() == pytest.approx(-1, abs=1e-5), "unit vectors that agree"
    assert slope.norm().item() < 1e-5


def test_descent_without_a_gradient_stays() -> None:
    class Blind(TinyNetwork):
        def embed_images(self, pictures: torch.Tensor) -> torch.Tensor:
            return super().embed_images(pictures * 0)

    found = frames(objective(BARE, networks=(Blind(1),)), 3)
    assert torch.equal(found[0].picture, found[-1].picture)


def test_descent_is_seeded_and_shorter_ones_are_prefixes() -> None:
    augmented = {"augmentation": Augmentation(4)}
    long, again = (frames(objective(**augmented), 6, seed=3) for _ in range(2))
    short, other = frames(objective(**augmented), 3, seed=3), frames(objective(**augmented), 6, seed=4)
    assert all(torch.equal(a.picture, b.picture) for a, b in zip(long, again, strict=True))
    assert torch.equal(short[3].picture, long[3].picture)
    assert not torch.equal(other[-1].picture, long[-1].picture)


def test_descent_that_leaves_the_numbers_is_an_error() -> None:
    class Overflowing(TinyCodec):
        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            moved = not torch.equal(latents.detach(), self.encode(picture()))
            return super().decode(latents) * (float("nan") if moved else 1)

    with pytest.raises(ModelError, match=r"a loss of FlexIT is not finite; got .*nan.* at step 1; lower"):
        frames(objective(codec=Overflowing()), 2)


def test_descent_with_a_broken_gradient_is_an_error() -> None:
    class Rooted(TinyNetwork):
        def embed_images(self, pictures: torch.Tensor) -> torch.Tensor:
            return super().embed_images(pictures) + (pictures * 0).sum().sqrt()

    with pytest.raises(ModelError, match="the gradient of FlexIT is not finite; got step 0"):
        frames(objective(BARE, networks=(Rooted(1),)), 2)
