"""Training of heads: what is learnt, what is refused, and that an interruption changes nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from building import Interrupted, Recorder, contents, here, same_contents, start
from features import write_features
from torch.nn.functional import cross_entropy, normalize

from finetune.config import TrainConfig, TrainError
from finetune.modules import HeadPair
from finetune.pairs import Features, open_features, split_pairs
from finetune.report import best_epoch, lasting
from finetune.train import train
from simat.errors import BuildError, StorageError
from simat.files import locked
from simat.heads import load_heads

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = TrainConfig(0.1, epochs=6, batch=100, lr=0.02, dim=16)
COMMAND = ("--batch", "100", "--lr", "0.02", "--dim", "16", "--epochs")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 images of 3 captions, a fifth of them for validation."""
    return write_features(tmp_path_factory.mktemp("features"), 500)


@pytest.fixture(scope="module")
def features(cache: Path) -> Features:
    """The cache, opened."""
    return open_features(cache)


def test_training_learns_what_there_is_to_learn(features: Features, tmp_path: Path) -> None:
    heads = train(features, tmp_path, replace(QUICK, epochs=20))
    curve = heads.details["curve"]
    assert [point["epoch"] for point in curve] == [*range(21)]
    assert curve[0]["text_to_image"]["10"] < 0.2  # the texts are turned away from their images
    assert curve[-1]["text_to_image"]["10"] > 0.85
    assert curve[-1]["image_to_text"]["10"] > 0.85
    assert curve[-1]["loss"] < curve[1]["loss"] - 2
    again = load_heads(tmp_path)
    assert again.fingerprint == heads.fingerprint
    assert again.details["corpus"] == "c" * 64
    assert again.details["pairs"] == {"images": 400, "captions": 1200}
    assert set(again.details["versions"]) == {"simat", "python", "torch", "numpy"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "heads.json", "heads.safetensors"]


def reference(features: Features, config: TrainConfig) -> HeadPair:
    """The same training written down plainly: torch's cross-entropy, autograd, AdamW and schedulers."""
    pairs, _, _ = split_pairs(features, config.validation, config.seed)
    module = HeadPair(16, 16, config)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1.0, weight_decay=config.weight_decay)
    steps = len(pairs) // config.batch
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: config.rate(step, steps * config.epochs))
    own = torch.arange(config.batch)
    for epoch in range(config.epochs):
        images, captions = (rows[: steps * config.batch].reshape(steps, -1) for rows in pairs.draw(config.seed, epoch))
        for i, t in zip(images, captions, strict=True):
            a, b = (
                normalize(torch.tensor(f.astype(np.float32)), dim=1) for f in (features.images[i], features.texts[t])
            )
            logits = normalize(module.image(a), dim=1) @ normalize(module.text(b), dim=1).T / config.tau
            loss = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), config.clip)
            optimizer.step()
            rate.step()
    return module


@pytest.mark.parametrize("tau", [0.02, 0.1])
def test_training_is_what_a_plain_loop_gives(tau: float, features: Features, tmp_path: Path) -> None:
    config = replace(QUICK, tau=tau, epochs=3, clip=0.5, weight_decay=0.1)
    heads, plain = train(features, tmp_path, config), reference(features, config)
    for head, layers in ((heads.image, plain.image), (heads.text, plain.text)):
        torch.testing.assert_close(torch.from_numpy(head.layers[0].weight), layers[0].weight, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(torch.from_numpy(head.layers[0].bias), layers[0].bias, atol=2e-4, rtol=1e-3)


class Stop(Recorder):
    """Interrupts a training at a step."""

    limit: int = 0

    def advance(self, count: int) -> None:
        super().advance(count)
        if self.advanced.get("training", 0) >= self.limit:
            raise Interrupted


@pytest.mark.parametrize("config", [QUICK, replace(QUICK, head="mlp", hidden=8, patience=9)], ids=["linear", "mlp"])
@pytest.mark.parametrize("step", [2, 4, 9, 23])
def test_interrupted_training_ends_with_the_same_bytes(
    step: int, config: TrainConfig, features: Features, tmp_path: Path
) -> None:
    train(features, tmp_path / "whole", config)
    stop = Stop.new()
    stop.limit = step
    with pytest.raises(Interrupted):
        train(features, tmp_path / "resumed", config, progress=stop)
    assert not (tmp_path / "resumed" / "heads.json").exists()
    recorder = Recorder.new()
    train(features, tmp_path / "resumed", config, progress=recorder)
    done = (step - 1) // 4  # a step reports before its epoch's checkpoint is written
    assert recorder.advanced == {"training": 24 - 4 * done}
    assert (f"going on after epoch {done}" in recorder.notes) == (done > 0)
    assert same_contents(tmp_path / "whole", tmp_path / "resumed")


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_killed_training_ends_with_the_same_bytes(cache: Path, tmp_path: Path, capsys: Any) -> None:
    arguments = ("finetune", "train", cache, tmp_path / "killed", *COMMAND, "60")
    with start(*arguments, extra={"OMP_NUM_THREADS": "1"}) as process:
        wait_for(tmp_path / "killed" / "checkpoint.safetensors", process)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "heads.json").exists()
    resumed = here(capsys, *arguments, "--json")
    assert any("going on after epoch" in line.get("note", "") for line in resumed.progress)
    assert resumed.json["epoch"] == 60
    train(open_features(cache), tmp_path / "whole", replace(QUICK, epochs=60))
    assert same_contents(tmp_path / "whole", tmp_path / "killed")


def test_finished_training_is_left_alone(features: Features, tmp_path: Path) -> None:
    first, before = train(features, tmp_path, QUICK), contents(tmp_path)
    recorder = Recorder.new()
    assert train(features, tmp_path, QUICK, progress=recorder).fingerprint == first.fingerprint
    assert recorder.notes == [f"{tmp_path} is trained already"]
    assert contents(tmp_path) == before
    with pytest.raises(StorageError, match="there are heads here already"):
        train(features, tmp_path, replace(QUICK, tau=0.2))
    assert contents(tmp_path) == before


def interrupted(features: Features, folder: Path, step: int = 9) -> Path:
    stop = Stop.new()
    stop.limit = step
    with pytest.raises(Interrupted):
        train(features, folder, QUICK, progress=stop)
    return folder / "checkpoint.safetensors"


def test_checkpoint_of_other_settings_is_refused(features: Features, tmp_path: Path) -> None:
    before = interrupted(features, tmp_path).read_bytes()
    with pytest.raises(
        TrainError, match=r"other settings was begun in .*got tau 0\.1, now 0\.2; lr 0\.02, now 0\.01; rep"
    ):
        train(features, tmp_path, replace(QUICK, tau=0.2, lr=0.01))
    with pytest.raises(TrainError, match=r"got cache '[0-9a-f]{64}', now 'another'"):
        train(replace(features, fingerprint="another"), tmp_path, QUICK)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def cut_to(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(len(data) * share)]


def flipped(data: bytes) -> bytes:
    return data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]


@pytest.mark.parametrize("damage", [cut_to(0.0), cut_to(0.01), cut_to(0.5), cut_to(0.999), flipped])
def test_damaged_checkpoint_is_refused(damage: Callable[[bytes], bytes], features: Features, tmp_path: Path) -> None:
    path = interrupted(features, tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(TrainError, match=r"the checkpoint is cut short or damaged; got .*; remove it to train anew"):
        train(features, tmp_path, QUICK)
    path.unlink()
    assert train(features, tmp_path, QUICK).details["epoch"] == 6


def test_batch_larger_than_the_corpus_is_refused(features: Features, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"got a batch of 401 for 400 images; use --batch 400 or less"):
        train(features, tmp_path / "heads", replace(QUICK, batch=401))
    assert not (tmp_path / "heads").exists()
    assert train(features, tmp_path / "heads", replace(QUICK, batch=400, epochs=1)).details["epoch"] == 1


def test_folder_of_something_else_is_left_alone(features: Features, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"something else here already.*thesis\.txt"):
        train(features, tmp_path, QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_trainings_of_one_folder_are_one_too_many(features: Features, tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(BuildError, match="another process"):
        train(features, tmp_path, QUICK)


def test_loss_that_explodes_ends_the_training(features: Features, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"the loss of epoch \d is not finite; got nan; lower --lr"):
        train(features, tmp_path, replace(QUICK, lr=3e37, warmup=0.0, schedule="constant", optimizer="adam"))


def test_unknown_device_is_refused(features: Features, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no such device; got 'tpu'"):
        train(features, tmp_path, QUICK, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(TrainError, match="no CUDA device here"):
            train(features, tmp_path, QUICK, device="cuda")


def test_early_stop_keeps_the_best_epoch(features: Features, tmp_path: Path) -> None:
    config = replace(QUICK, epochs=60, patience=3, schedule="constant", warmup=0.0, lr=0.05)
    heads = train(features, tmp_path / "stopped", config)
    curve = heads.details["curve"]
    best = best_epoch(curve)
    assert best == heads.details["epoch"] == curve[-1]["epoch"] - 3 < 57
    short = train(features, tmp_path / "short", replace(config, epochs=best, patience=None))
    assert heads.fingerprint == short.fingerprint  # a constant rate does not know how long the training is


def test_half_precision_learns_the_same(features: Features, tmp_path: Path) -> None:
    whole = train(features, tmp_path / "whole", replace(QUICK, epochs=15)).details["curve"][-1]
    half = train(features, tmp_path / "half", replace(QUICK, epochs=15, precision="bf16")).details["curve"][-1]
    assert half["loss"] == pytest.approx(whole["loss"], rel=0.03)
    assert half["text_to_image"]["10"] == pytest.approx(whole["text_to_image"]["10"], abs=0.05)


def test_mlp_has_four_layers_after_the_image_encoder(features: Features, tmp_path: Path) -> None:
    heads = train(features, tmp_path, replace(QUICK, head="mlp", hidden=24, dim=8, epochs=1))
    shapes = [layer.weight.shape for layer in heads.image.layers]
    assert shapes == [(24, 16), (24, 24), (24, 24), (8, 24)]
    assert [layer.weight.shape for layer in heads.text.layers] == [(8, 16)]
    module = HeadPair(16, 16, replace(QUICK, head="mlp", hidden=24, dim=8))
    rows = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for layer, saved in zip(module.image[::2], heads.image.layers, strict=True):
            layer.weight.copy_(torch.from_numpy(saved.weight))
            layer.bias.copy_(torch.from_numpy(saved.bias))
        torch.testing.assert_close(torch.from_numpy(heads.image(rows.numpy())), module.image(rows))


def test_square_heads_begin_near_the_identity_and_others_keep_angles() -> None:
    square, wide = HeadPair(64, 64, replace(QUICK, dim=64)), HeadPair(96, 32, replace(QUICK, dim=64))
    assert (square.image[0].weight - torch.eye(64)).norm(dim=1).max() < 0.02
    assert (square.image[0].weight != torch.eye(64)).any()
    for weight, side in ((wide.image[0].weight, 0), (wide.text[0].weight, 1)):
        product = weight @ weight.T if side == 0 else weight.T @ weight
        torch.testing.assert_close(product, torch.eye(len(product)), atol=1e-5, rtol=0)
    assert all(not parameter.any() for name, parameter in wide.named_parameters() if name.endswith("bias"))


def test_first_weights_follow_the_seed_and_nothing_else() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = HeadPair(16, 16, QUICK).state_dict()
    assert (torch.get_rng_state() == state).all()
    torch.manual_seed(2)
    again, other = HeadPair(16, 16, QUICK).state_dict(), HeadPair(16, 16, replace(QUICK, seed=1)).state_dict()
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["image.0.weight"] != other["image.0.weight"]).any()


def test_time_is_told_after_a_few_steps(features: Features, tmp_path: Path) -> None:
    recorder = Recorder.new()
    train(features, tmp_path, QUICK, progress=recorder)
    assert recorder.stages == [("training", 24, "steps")]
    assert recorder.notes[0].startswith("400 images with 1,200 captions; recall is measured on the 100 images")
    assert sum("for 24 steps" in note for note in recorder.notes) == 1
    assert [note.split(":")[0] for note in recorder.notes if note.startswith("epoch")] == [
        f"epoch {n}/6" for n in range(1, 7)
    ]
    assert (lasting(99.0), lasting(300.0)) == ("99 seconds", "5 minutes")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tau": 0.0}, "τ must be a positive number; got 0.0"),
        ({"tau": -0.1}, "τ must be a positive number"),
        ({"tau": float("nan")}, "τ must be a positive number; got nan"),
        ({"tau": float("inf")}, "τ must be a positive number"),
        ({"lr": float("nan")}, "learning rate must be a positive number"),
        ({"epochs": 0}, "epochs must be at least 1; got 0"),
        ({"batch": 1}, "batch must be at least 2"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"head": "deep"}, "no such head; got 'deep'; use linear or mlp"),
        ({"precision": "f16"}, "no such precision"),
        ({"warmup": 1.0}, r"warmup must lie in \[0, 1\)"),
        ({"clip": float("nan")}, "must not be negative"),
    ],
)
def test_settings_that_no_training_can_have_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainError, match=message):
        replace(QUICK, **values)


def test_rate_rises_then_falls_to_nothing() -> None:
    rates = [replace(QUICK, warmup=0.1, lr=1.0).rate(step, 100) for step in range(100)]
    assert rates[:11] == pytest.approx([*np.arange(1, 11) / 10, 1.0])
    assert rates[55] == pytest.approx(0.5)
    assert (np.diff(rates[10:]) < 0).all()
    assert 0 < rates[-1] < 1e-3
    assert {replace(QUICK, schedule="constant", warmup=0.0).rate(step, 9) for step in range(9)} == {QUICK.lr}


def test_heads_say_what_they_were_asked_for(features: Features, tmp_path: Path) -> None:
    train(features, tmp_path, QUICK)
    identity = json.loads((tmp_path / "heads.json").read_bytes())["details"]["identity"]
    assert identity == {"recipe": "heads", "cache": features.fingerprint, **QUICK.as_dict()}
