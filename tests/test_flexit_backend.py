"""The backend flexit: settings, answers, progress, cancellation, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_diffusion import picture
from tiny_flexit import one_thread, saved, tiny_kl, tiny_vq  # noqa: F401

from simat.backends import Generator
from simat.backends.flexit import FlexIt
from simat.errors import Cancelled, EncoderError, ImageError, ModelError, QueryError
from simat.generators.options import ModelOptions
from simat.types import Answer, Query, Step

FAST = {"size": 16, "steps": 4, "keep": 2, "augmentations": 2, "perceptual": "efficientnet"}
EDIT = Query(image=picture(), edits="dog -> cat")


class Bench:
    """Tools of a studio whose diffusion model nobody asks for."""

    diffusion: Any = None
    trajectories: Any = None

    def __init__(self, options: ModelOptions) -> None:
        self.options = options


Edits = Callable[..., Answer]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tiny_vq(), tmp_path_factory.mktemp("flexit") / "vq")


@pytest.fixture(scope="module")
def flexit(folder: Path) -> FlexIt:
    return FlexIt(Bench(ModelOptions(str(folder), device="cpu", networks=("scenes",))))


@pytest.fixture(scope="module")
def edited(flexit: FlexIt) -> Edits:
    """``edited(query, on_step, cancel, **settings)``"""

    def run(query: Query = EDIT, on_step: Any = None, cancel: Any = None, **settings: Any) -> Answer:
        return flexit.answer(query, on_step, cancel, {**FAST, **settings})

    return run


def pixels(image: Image.Image | None) -> np.ndarray:
    assert image is not None
    return np.asarray(image)


def test_flexit_is_a_generator(flexit: FlexIt) -> None:
    assert isinstance(flexit, Generator)


def test_answer_holds_frames_losses_and_who_made_it(edited: Edits) -> None:
    answer = edited()
    (result,) = answer.results
    (frames,), (losses,) = answer.extras["frames"], answer.extras["losses"]
    assert list(frames) == [0, 2, 4]
    assert result.image is frames[4]
    assert frames[4].size == (16, 16)
    assert set(losses) == {"total", "embedding", "perceptual", "latent"}
    assert [len(values) for values in losses.values()] == [5] * 4
    assert losses["latent"][0] == 0 < losses["latent"][-1]
    assert set(answer.extras["models"]) == {"codec", "network scenes", "perceptual"}
    assert "EfficientNet" in answer.extras["models"]["perceptual"]
    assert answer.extras["config"]["steps"] == 4
    assert (answer.extras["reference"], answer.extras["target"], answer.extras["seed"]) == ("dog", "cat", 0)
    assert {"load", "encode", "optimise", "total"} <= set(answer.timings)


def test_total_is_the_weighted_sum_of_the_terms(edited: Edits) -> None:
    answer = edited(perceptual_weight=0.3, latent_weight=0.7)
    losses = answer.extras["losses"][0]
    for total, embedding, perceptual, latent in zip(*(losses[name] for name in losses), strict=True):
        assert total == pytest.approx(embedding + 0.3 * perceptual + 0.7 * latent, abs=1e-5)


def test_strength_is_the_share_of_the_updates(edited: Edits) -> None:
    whole = edited().extras["frames"][0]
    half = edited(Query(image=picture(), edits="dog -> cat", strength=0.5))
    assert list(half.extras["frames"][0]) == [0, 2]
    assert np.array_equal(pixels(half.results[0].image), pixels(whole[2]))


def test_strength_zero_is_plain_autoencoding(edited: Edits, folder: Path) -> None:
    import torch

    from simat.generators.codecs import load_codec
    from simat.generators.masks import fitted

    answer = edited(Query(image=picture(), edits="dog -> cat", strength=0.0))
    codec = load_codec(str(folder))
    rows = torch.from_numpy(np.array(fitted(picture(), 16), np.float32) / 255).permute(2, 0, 1)[None]
    with torch.no_grad():
        plain = codec.decode(codec.encode(rows)).clamp(0, 1)
    expected = (plain[0] * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(pixels(answer.results[0].image), expected)


def test_samples_are_those_of_their_own_seeds(edited: Edits) -> None:
    both = edited(Query(image=picture(), edits="dog -> cat", seed=5, samples=2))
    alone = [edited(Query(image=picture(), edits="dog -> cat", seed=seed)) for seed in (5, 6)]
    for together, single in zip(both.results, alone, strict=True):
        assert np.array_equal(pixels(together.image), pixels(single.results[0].image))
    assert both.extras["losses"][0] != both.extras["losses"][1]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (Query(image=picture(), text="a cat"), ("", "a cat")),
        (Query(image=picture(), edits="+ dog"), ("", "dog")),
        (Query(image=picture(), edits="- dog"), ("dog", "")),
        (
            Query(image=picture(), edits="dog -> cat", reference="a dog on a beach"),
            ("a dog on a beach", "a cat on a beach"),
        ),
    ],
    ids=["text", "addition", "removal", "reference"],
)
def test_words_of_every_kind_of_query(edited: Edits, query: Query, words: tuple[str, str]) -> None:
    answer = edited(query, steps=1)
    assert (answer.extras["reference"], answer.extras["target"]) == words


@pytest.mark.parametrize("name", ["codec", "augmentations", "embedding", "norm", "relative", "image_weight"])
def test_settings_change_the_answer(edited: Edits, name: str) -> None:
    values = {"codec": "pixels", "augmentations": 0, "embedding": "squared", "norm": "l1", "relative": False}
    plain, other = edited(learning_rate=0.2), edited(learning_rate=0.2, **{name: values.get(name, 0.9)})
    assert other.extras["losses"][0]["total"] != plain.extras["losses"][0]["total"]


def test_perceptual_distance_is_loaded_only_where_it_weighs(edited: Edits) -> None:
    assert "perceptual" not in edited(perceptual_weight=0.0, perceptual="vgg:nowhere").extras["models"]


def test_defaults_of_a_model_come_from_its_folder(tmp_path: Path) -> None:
    folder = saved(tiny_kl(), tmp_path / "kl")
    (folder / "simat.json").write_text(json.dumps({"settings": {"flexit": {**FAST, "steps": 3}}}))
    made = FlexIt(Bench(ModelOptions(str(folder), device="cpu", networks=("scenes",)))).answer(EDIT)
    assert made.extras["config"]["steps"] == 3
    assert made.extras["models"]["codec"].startswith("kl ")


def test_progress_has_a_preview_after_every_step(edited: Edits) -> None:
    seen: list[Step] = []
    answer = edited(on_step=seen.append)
    steps = [step for step in seen if step.stage == "optimise"]
    assert [(step.step, step.total) for step in steps] == [(n, 5) for n in range(1, 6)]
    assert np.array_equal(pixels(steps[-1].preview), pixels(answer.results[0].image))


def test_cancellation_ends_the_descent_at_once(edited: Edits) -> None:
    seen: list[Step] = []
    with pytest.raises(Cancelled):
        edited(on_step=seen.append, cancel=lambda: len(seen) >= 2)
    assert len(seen) == 2
    assert edited().extras["losses"] == edited().extras["losses"], "nothing of it is left"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query(image=picture()), "this query needs words"),
        (Query(edits="dog -> cat"), "the backend 'flexit' needs image"),
        (Query(image=3, edits="dog -> cat"), "an id of an index"),
        (Query(image=picture(), edits="dog -> cat", mask=np.ones((4, 4))), "'flexit' would ignore mask"),
        (Query(image=picture(), edits="dog -> cat", reference="a horse"), "'dog' is not in the reference"),
        (Query(image=picture(), edits="dog -> xylophone"), "does not know a word; got 'xylophone'"),
    ],
)
def test_queries_that_cannot_be_answered_are_errors(edited: Edits, query: Query, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        edited(query)


@pytest.mark.parametrize("image", [Image.new("RGB", (0, 5)), Image.new("RGB", (12_000, 12_000)), "nowhere.png"])
def test_images_that_cannot_be_read_are_errors(edited: Edits, image: Any) -> None:
    with pytest.raises(ImageError):
        edited(Query(image=image, edits="dog -> cat"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"speed": 1}, "no such setting; got 'speed'; there are: strength, steps"),
        ({"learning_rate": float("nan")}, "'learning_rate' must be in"),
        ({"learning_rate": -0.1}, "'learning_rate' must be in"),
        ({"size": 17}, "must be a multiple of 2 for this autoencoder; got 17"),
        ({"size": 100_000}, "'size' must be in"),
        ({"embedding": "cosine"}, "'embedding' must be one of dot, squared; got cosine"),
        ({"norm": "l0"}, "'norm' must be one of l21, l1, l2"),
        ({"augmentations": -1}, "'augmentations' must be in"),
        ({"keep": 0}, "'keep' must be at least 1"),
    ],
)
def test_settings_out_of_range_are_errors(edited: Edits, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        edited(**settings)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "no/such/model/here"}, ModelError, "no such model"),
        ({"networks": ("offline",)}, EncoderError, "no gradients pass through this encoder"),
        ({"networks": ("open_clip:ViT-B-32/openai",)}, EncoderError, "use ViT-B-32-quickgelu/openai"),
    ],
)
def test_models_that_cannot_be_had_are_errors(folder: Path, options: Any, error: Any, message: str) -> None:
    wanted = {"model": str(folder), "networks": ("scenes",), "device": "cpu", **options}
    with pytest.raises(error, match=message):
        FlexIt(Bench(ModelOptions(**wanted))).answer(EDIT, settings=FAST)


def test_a_kind_of_codec_that_the_model_has_not_is_an_error(edited: Edits) -> None:
    with pytest.raises(ModelError, match="has no autoencoder of the kind 'kl'; got vq"):
        edited(codec="kl")
