"""Guidance by a recognition network from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_diffusion import GRID, SIZE

from simat.errors import ModelError, QueryError
from simat.generators.layouts import Layout
from simat.generators.options import ModelOptions
from simat.generators.outside import Recogniser, load_recogniser
from simat.studios import Studio
from simat.types import Query

LABELS = ("sky", "dog", "hot dog", "red bicycle")
KINDS = ("subject dog", "object dog", "object bicycle", "place beach")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def names(labels: tuple[str, ...]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: n for n, label in enumerate(labels)}}


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    folder = tmp_path_factory.mktemp("outside") / "segmenter"
    torch.manual_seed(0)
    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[7, 3], strides=[4, 2],
        num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=16, **names(LABELS),
    )  # fmt: skip
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

    folder = tmp_path_factory.mktemp("outside") / "classifier"
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **names(KINDS))
    ResNetForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(
        folder
    )
    return folder


def layout(*words: str) -> Layout:
    masks = torch.zeros(len(words), GRID, GRID)
    for number in range(len(words)):
        masks[number, 8 * number : 8 * number + 8, 4:12] = 1
    return Layout(words, masks, tuple((n + 1,) for n in range(len(words))))


def pixels(seed: int = 0, rows: int = 2) -> torch.Tensor:
    return torch.rand(rows, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def test_channels_prefer_the_very_words() -> None:
    named = Recogniser(None, True, LABELS, (0.0,), (1.0,), None)
    assert named.channels("Dog") == (1,)
    assert named.channels("hot dog") == (2,)
    assert named.channels("bicycle") == (3,)  # stands in a label
    assert named.channels("blue sky") == (0,)  # a label stands in it
    assert Recogniser(None, False, KINDS, (0.0,), (1.0,), None).channels("dog") == (0, 1)


def test_channels_refuse_words_without_a_label() -> None:
    with pytest.raises(QueryError, match="no label for a segment; got 'cat'; it has sky, dog, hot dog"):
        Recogniser(None, True, LABELS, (0.0,), (1.0,), None).channels("cat")


def test_segmenter_loss_is_the_mean_over_the_segments_pixels(segmenter: Path) -> None:
    recogniser = load_recogniser(segmenter, torch.device("cpu"))
    assert recogniser.segments and recogniser.labels == LABELS and recogniser.edge == 32
    asked, drawn = layout("dog", "red bicycle"), pixels()
    logits = recogniser.logits(drawn)
    assert logits.shape[-2:] == (8, 8)
    for row in range(2):
        losses = []
        for r in range(8):
            for c in range(2, 6):
                wanted = 1 if r < 4 else 3
                losses.append(-float(logits[row, :, r, c].log_softmax(0)[wanted]))
        assert float(recogniser.loss(drawn, asked)[row]) == pytest.approx(np.mean(losses), rel=1e-4)


def test_recogniser_sees_what_its_own_preprocessing_makes(segmenter: Path) -> None:
    from PIL import Image
    from transformers import AutoImageProcessor

    recogniser = load_recogniser(segmenter, torch.device("cpu"))
    smooth = torch.nn.functional.interpolate(pixels(rows=1), (3, 3), mode="area")
    smooth = torch.nn.functional.interpolate(smooth, (SIZE, SIZE), mode="bicubic").clamp(0, 1)
    array = (smooth[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    own = AutoImageProcessor.from_pretrained(segmenter)(Image.fromarray(array), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = recogniser.network(own).logits
        found = recogniser.logits(torch.from_numpy(array).permute(2, 0, 1)[None] / 255)
    torch.testing.assert_close(found, expected, atol=0.05 * float(expected.abs().max()), rtol=0.05)


def test_classifier_loss_sees_each_segment_in_its_box(classifier: Path) -> None:
    recogniser = load_recogniser(classifier, torch.device("cpu"))
    assert not recogniser.segments
    drawn = pixels()
    changed = drawn.clone()
    changed[:, :, 40:, :] = 0  # below the first segment
    assert torch.equal(recogniser.loss(drawn, layout("dog")), recogniser.loss(changed, layout("dog")))
    crop = drawn[:, :, :32, 16:48]
    with torch.no_grad():
        found = recogniser.logits(crop).softmax(1)
        expected = -(found[:, 0] + found[:, 1]).log()
        torch.testing.assert_close(recogniser.loss(drawn, layout("dog")), expected)


def test_classifier_of_many_labels_takes_the_likeliest(classifier: Path) -> None:
    recogniser = load_recogniser(classifier, torch.device("cpu"))
    recogniser.network.config.problem_type = "multi_label_classification"
    drawn = pixels()
    with torch.no_grad():
        logits = recogniser.logits(drawn[:, :, :32, 16:48])[:, :2].amax(1)
        torch.testing.assert_close(recogniser.loss(drawn, layout("dog")), -logits.sigmoid().log())


def test_recognisers_that_cannot_be_loaded_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no recogniser there"):
        load_recogniser(tmp_path / "nothing", torch.device("cpu"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_recogniser(tmp_path, torch.device("cpu"))


@pytest.fixture(scope="module")
def studio(tiny_folder: Path) -> Studio:
    return Studio(ModelOptions(str(tiny_folder), device="cpu", dtype="float32"))


def asked(**given: Any) -> Query:
    mask = np.zeros((SIZE, SIZE))
    mask[:32, 16:48] = 1
    return Query(**{"text": "a dog in snow", "layout": {"dog": mask}, "seed": 1, **given})


@pytest.mark.parametrize("which", ["segmenter", "classifier"])
def test_guidance_lowers_the_recognisers_loss(studio: Studio, which: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(which)
    settings = {"recogniser": str(folder), "steps": 8, "tau": 1.0, "guidance_lr": 0.5}
    extras = studio.answer(asked(), "classifier_guidance", settings=settings).extras
    assert extras["loss"].shape == (8, 1) and np.isfinite(extras["loss"]).all()
    assert extras["loss"][-1] < extras["loss"][0]
    assert extras["models"]["recogniser"].startswith(str(folder))


@pytest.mark.parametrize("settings", [{"guidance_lr": 0}, {"tau": 0}])
def test_without_guidance_it_is_plain_sampling(studio: Studio, segmenter: Path, settings: dict[str, Any]) -> None:
    steps = {"steps": 3, "guidance": 3.0}
    plain = studio.answer(asked(), "zestguide", settings={**steps, "guidance_lr": 0, "pww": 0})
    found = studio.answer(asked(), "classifier_guidance", settings={**steps, **settings, "recogniser": str(segmenter)})
    assert np.array_equal(plain[0].image, found[0].image)


def test_classifier_guidance_needs_a_recogniser_with_the_labels(studio: Studio, segmenter: Path) -> None:
    with pytest.raises(QueryError, match="needs the setting 'recogniser'"):
        studio.answer(asked(), "classifier_guidance", settings={"steps": 2})
    with pytest.raises(QueryError, match="no label for a segment; got 'snow'"):
        studio.answer(
            asked(layout={"snow": np.ones((SIZE, SIZE))}),
            "classifier_guidance",
            settings={"steps": 2, "recogniser": str(segmenter)},
        )
