"""``simat finetune train | sweep``: what is printed, drawn, written and refused."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from building import contents, here
from features import write_features
from PIL import Image

from finetune.commands import parse_taus
from finetune.config import TrainConfig, TrainError
from finetune.curves import plot_curve
from finetune.pairs import open_features
from finetune.sweep import folder_name, sweep
from simat.errors import StorageError
from simat.heads import load_heads

QUICK = ("--batch", "50", "--dim", "16", "--epochs", "2", "--lr", "0.02")
CONFIG = TrainConfig(0.1, epochs=2, batch=50, lr=0.02, dim=16)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 images of 3 captions, a fifth of them for validation."""
    return write_features(tmp_path_factory.mktemp("features"), 100)


def test_train_prints_what_came_out(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = here(capsys, "finetune", "train", cache, tmp_path / "heads", "--tau", "0.05", *QUICK, "--json")
    heads = load_heads(tmp_path / "heads")
    assert (heads.tau, heads.dim) == (0.05, 16)
    assert ran.json == {
        "heads": str(tmp_path / "heads"), "fingerprint": heads.fingerprint, "tau": 0.05, "dim": 16,
        **heads.details["curve"][2],
    }  # fmt: skip
    assert ran.progress[-1]["note"].startswith("epoch 2/2: loss ")
    again = here(capsys, "finetune", "train", cache, tmp_path / "heads", "--tau", "0.05", *QUICK)
    first, second, third = again.out.splitlines()
    assert first.startswith(f"heads at τ = 0.05 in {tmp_path / 'heads'} · 16-d · epoch 2 · loss ")
    assert second.startswith("image retrieval  R@1 ")
    assert third.startswith("text retrieval   R@1 ")


def test_train_hands_every_option_to_the_training(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {
        "tau": 0.2, "epochs": 1, "batch": 40, "lr": 0.003, "head": "mlp", "dim": 7, "hidden": 9, "optimizer": "adam",
        "weight_decay": 0.5, "schedule": "constant", "warmup": 0.25, "clip": 2.0, "precision": "bf16",
        "validation": "train", "patience": 4, "seed": 3,
    }  # fmt: skip
    options = [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    folder = write_features(tmp_path / "cache", 200, splits=("all", "all", "all", "train"))
    here(capsys, "finetune", "train", folder, tmp_path / "heads", *options, "--json").json  # noqa: B018
    identity = load_heads(tmp_path / "heads").details["identity"]
    assert identity == {"recipe": "heads", "cache": open_features(folder).fingerprint, **given}


def test_plot_is_a_picture_beside_the_heads(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    arguments = ("finetune", "train", cache, tmp_path / "heads", *QUICK)
    assert here(capsys, *arguments, "--plot", "--json").json["plot"] == str(tmp_path / "heads" / "curves.png")
    with Image.open(tmp_path / "heads" / "curves.png") as picture:
        assert picture.format == "PNG"
        colours = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)
    assert [31, 119, 180] in colours.tolist()  # the first curve of recall
    assert here(capsys, *arguments).code == 0  # the picture is no stranger's file


def test_curve_without_recall_is_drawn_too(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_curve(tmp_path / "c.png", [{"epoch": 0, "loss": None}, {"epoch": 1, "loss": 2.0}], "τ")
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.width > 500


def test_plot_without_its_library_says_what_to_install(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for command in ("train", "sweep"):
        ran = here(capsys, "finetune", command, cache, tmp_path / "out", *QUICK, "--plot")
        assert ran.error == "plots need matplotlib; install it with: pip install 'simat[plot]'"
    assert not (tmp_path / "out").exists()


def test_sweep_trains_every_temperature(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "sweep"
    ran = here(capsys, "finetune", "sweep", cache, out, "--tau", "1,0.01,0.1", *QUICK, "--plot", "--json")
    assert sorted(path.name for path in out.iterdir()) == ["sweep.parquet", "sweep.png", "tau=0.01", "tau=0.1", "tau=1"]
    rows = pq.read_table(out / "sweep.parquet").to_pylist()
    assert ran.json["rows"] == rows
    assert [row["tau"] for row in rows] == [0.01, 0.1, 1.0]
    for row in rows:
        heads = load_heads(out / row["heads"])
        last = heads.details["curve"][-1]
        assert (heads.tau, heads.fingerprint) == (row["tau"], row["fingerprint"])
        assert (row["loss"], row["image_to_text_r5"]) == (last["loss"], last["image_to_text"]["5"])
    assert len({row["fingerprint"] for row in rows}) == 3


def test_sweep_prints_a_row_per_temperature(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = here(capsys, "finetune", "sweep", cache, tmp_path / "s", "--tau", "0.3,0.1", *QUICK).out.splitlines()
    assert lines[0].split()[:3] == ["τ", "epoch", "loss"]
    assert [line.split()[:2] for line in lines[1:]] == [["0.1", "2"], ["0.3", "2"]]
    assert all(len(line.split()) == 9 for line in lines[1:])


def test_sweep_of_one_temperature_is_its_training(cache: Path, tmp_path: Path) -> None:
    from finetune.train import train

    features = open_features(cache)
    (row,) = sweep(features, tmp_path / "sweep", [0.1], CONFIG)
    assert train(features, tmp_path / "alone", CONFIG).fingerprint == row["fingerprint"]


def test_repeated_sweep_trains_only_what_is_new(cache: Path, tmp_path: Path) -> None:
    features = open_features(cache)
    sweep(features, tmp_path, [0.1, 0.3], CONFIG)
    before = contents(tmp_path / "tau=0.1")
    rows = sweep(features, tmp_path, [0.03, 0.1, 0.3], CONFIG)
    assert [row["tau"] for row in rows] == [0.03, 0.1, 0.3]
    assert contents(tmp_path / "tau=0.1") == before


def test_sweep_leaves_a_folder_of_something_else_alone(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match="something else here already"):
        sweep(open_features(cache), tmp_path, [0.1], CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_temperatures_are_read_and_named() -> None:
    assert parse_taus("0.01, 0.1,1") == [0.01, 0.1, 1.0]
    assert [folder_name(tau) for tau in (0.01, 1.0, 0.1)] == ["tau=0.01", "tau=1", "tau=0.1"]
    for text in ("", "a", "0.1,,1"):
        with pytest.raises(TrainError, match="not a list of temperatures"):
            parse_taus(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "CACHE", "OUT", "--tau", "0"), "τ must be a positive number; got 0.0"),
        (("train", "CACHE", "OUT", "--tau", "nan"), "τ must be a positive number; got nan"),
        (("sweep", "CACHE", "OUT", "--tau", "0.1,-1", *QUICK), "τ must be a positive number; got -1.0"),
        (("sweep", "CACHE", "OUT", "--tau", "0.1,0.1", *QUICK), "a sweep needs temperatures, each once"),
        (("train", "CACHE", "OUT"), "the batch is larger than the training images; got a batch of 4096 for 80"),
        (("train", "NOWHERE", "OUT"), "no features here; got NOWHERE"),
        (("resnet", "CACHE", "OUT"), "the recipe is for a ResNet of torchvision's; got features of unknown:16"),
    ],
)
def test_bad_input_is_one_line(
    arguments: tuple[str, ...], message: str, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"CACHE": cache, "OUT": tmp_path / "out"}
    assert here(capsys, "finetune", *(places.get(a, a) for a in arguments)).error.startswith(message)
    assert not (tmp_path / "out").exists()
