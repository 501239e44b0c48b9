"""DiffEdit on the scene world, with the model that comes with the package."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import simat
from data.scenes.captions import captions
from data.scenes.render import SUBJECT, render
from data.scenes.scene import sample
from simat.backends.settings import settings_of
from simat.generators.model import DEFAULTS
from simat.generators.pipelines import SCENES
from simat.studios import Studio
from simat.types import Query

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE, CELL = 128, 4


@pytest.fixture(scope="module")
def studio() -> Studio:
    return simat.studio("scenes", device="cpu", dtype="float32")


def test_settings_that_come_with_the_model_are_those_of_backends(studio: Studio) -> None:
    defaults = studio.diffusion.defaults
    assert (SCENES / DEFAULTS).is_file()
    assert defaults["diffedit"]["fill"] is True
    for name, values in defaults.items():
        made: Any = settings_of(studio.backend(name).Settings, values)
        told = json.loads(json.dumps({key: getattr(made, key) for key in values}))
        assert told == dict(values)


def test_the_model_knows_the_autoencoding_of_its_world(studio: Studio) -> None:
    picture = render(sample(500, 1), SIZE).image
    made = studio.answer(Query(image=picture), "encode")[0].image
    error = (np.asarray(made, np.float64) - np.asarray(picture, np.float64)) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 24  # dB, of one picture


def test_the_mask_lies_on_the_subject_that_changes(studio: Studio) -> None:
    """Its cells are in the mask several times as often as the others; nothing is decoded."""
    recall, elsewhere = [], []
    for number in range(2):
        scene = sample(500, number, ("cat", "riding", "skateboard"))
        rendered = render(scene, SIZE)
        query = Query(image=rendered.image, edits="cat -> dog", reference=captions(scene)[1], strength=0.0)
        mask = studio.answer(query, settings={"noises": 3}).extras["mask"][0]
        truth = rendered.mask(SUBJECT).reshape(SIZE // CELL, CELL, SIZE // CELL, CELL).mean((1, 3)) > 0.5
        recall.append(mask[truth].mean())
        elsewhere.append(mask[~truth].mean())
    assert np.mean(recall) > 2.5 * np.mean(elsewhere)
    assert np.mean(recall) > 0.6
