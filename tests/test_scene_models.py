"""The models of the scene world: what they are fed, what they learn from, and the folders they end in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from building import Recorder, here
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from skimage.metrics import peak_signal_noise_ratio

from data.scenes.render import OBJECT, SUBJECT, render
from data.scenes.world import PLACES, RELATIONS, THINGS
from finetune.scenes import bank as bank_module
from finetune.scenes import trainer as trainer_module
from finetune.scenes.autoencoder import AutoencoderOptions, Vq, build_autoencoder, reconstruction, train_autoencoder
from finetune.scenes.bank import CELL, CHUNK, Bank, BankOptions, fact_names, open_bank
from finetune.scenes.diffusion import (
    SCHEDULE,
    DiffusionOptions,
    LatentBatch,
    Objective,
    build_denoiser,
    latent_batches,
    load_weights,
)
from finetune.scenes.judge import facts, labels, spoil
from finetune.scenes.marks import psnr
from finetune.scenes.prompts import sentences
from finetune.scenes.sheets import prompts, unseen
from finetune.scenes.stream import TrainingError, held_out
from finetune.scenes.trainer import Plan, Trainer, ahead
from finetune.scenes.vocabulary import build_tokenizer

SMALL = BankOptions(seed=5, images=12, size=64)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small steps on a busy machine wait for each other's threads longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return open_bank(tmp_path_factory.mktemp("bank"), SMALL, workers=1)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """All models after a smoke training by the command."""
    out = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank_module.os, "cpu_count", lambda: 1)
        ran = _run("all", "--smoke", "--out", out, "--json")
    return out, json.loads(ran)


def test_bank_holds_what_is_drawn(bank: Bank) -> None:
    things = list(THINGS)
    for number in range(len(bank)):
        scene = SMALL.scene(number)
        drawn = render(scene, SMALL.size)
        np.testing.assert_array_equal(bank.pictures[number], np.asarray(drawn.image))
        for which, name in ((SUBJECT, scene.triplet[0]), (OBJECT, scene.triplet[2])):
            assert (bank.labels[number][drawn.mask(which)] == 1 + things.index(name)).all()
        assert (bank.labels[number] > 0).sum() == (drawn.mask(SUBJECT) | drawn.mask(OBJECT)).sum()
        names = [values[n] for values, n in zip(fact_names(), bank.facts[number], strict=True)]
        assert names == [*scene.triplet, scene.place]


def test_bank_shares_are_the_means_of_cells(bank: Bank) -> None:
    cell = bank.labels[3, CELL * 9 : CELL * 10, CELL * 7 : CELL * 8]
    assert bank.shares[3, 9, 7] == (cell > 0).mean()
    np.testing.assert_allclose(bank.shares[3].mean(), (bank.labels[3] > 0).mean(), atol=1e-3)


def test_bank_prompts_begin_with_the_sentences_of_the_scene(bank: Bank) -> None:
    tokenizer = build_tokenizer(bank_module.CONTEXT)
    for number in range(len(bank)):
        told = [tokenizer.encode(prompt.text).ids for prompt in sentences(SMALL.scene(number))]
        np.testing.assert_array_equal(bank.tokens[number][: len(told)], told)


def test_banks_of_training_and_judge_share_no_scene() -> None:
    mine, other = BankOptions(seed=0, images=400), BankOptions(seed=0, images=400, judge=True)
    assert not {mine.scene(n) for n in range(400)} & {other.scene(n) for n in range(400)}
    assert not {mine.scene(n).triplet for n in range(400)} & set(held_out())


def test_an_interrupted_bank_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_module, "CHUNK", 4)
    whole = open_bank(tmp_path / "whole", SMALL, workers=1)
    fill, drawn = bank_module._fill, list[int]()

    def failing(folder: Path, options: BankOptions, chunk: int) -> int:
        if chunk == 1 and not drawn.count(1):
            drawn.append(1)
            raise RuntimeError("lights out")
        drawn.append(chunk)
        return fill(folder, options, chunk)

    monkeypatch.setattr(bank_module, "_fill", failing)
    with pytest.raises(RuntimeError, match="lights out"):
        open_bank(tmp_path / "cut", SMALL, workers=1)
    again = open_bank(tmp_path / "cut", SMALL, workers=1)
    assert drawn == [0, 1, 1, 2]
    for name in ("pictures", "labels", "tokens", "facts", "shares"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))


def test_bank_refuses_another_bank(tmp_path: Path) -> None:
    open_bank(tmp_path, replace(SMALL, images=2), workers=1)
    with pytest.raises(TrainingError, match=r"a bank of other options lies here.*remove it"):
        open_bank(tmp_path, replace(SMALL, images=2, seed=6), workers=1)


@pytest.mark.parametrize(("options", "match"), [({"images": 0}, "got 0, 0"), ({"seed": -1}, "-1")])
def test_bank_options_out_of_range_are_refused(options: dict[str, int], match: str) -> None:
    with pytest.raises(TrainingError, match=match):
        BankOptions(**options)


def test_bank_tells_how_far_it_is(tmp_path: Path) -> None:
    bars = Recorder.new()
    open_bank(tmp_path, replace(SMALL, images=3), workers=1, progress=bars)
    assert bars.advanced["draw"] == CHUNK


@given(st.integers(0, 3), st.integers(1, 7))
def test_every_scene_comes_once_before_any_comes_twice(seed: int, batch: int) -> None:
    count = 12
    empty = Bank(*(np.zeros((count, *shape), kind) for shape, kind in (
        ((1, 1, 3), np.uint8), ((1, 1), np.uint8), ((1, 1), np.float16), ((8, 32), np.uint16), ((4,), np.int64)
    )))  # fmt: skip
    steps = count // batch
    seen = np.concatenate([empty.order(seed, step, batch) for step in range(steps)])
    assert len(np.unique(seen)) == len(seen) == steps * batch


def test_ahead_keeps_the_order_and_passes_errors_on() -> None:
    def failing() -> Iterator[int]:
        yield from range(5)
        raise RuntimeError("no more")

    found = list[int]()
    with pytest.raises(RuntimeError, match="no more"):
        for number in ahead(failing()):
            found.append(number)
    assert found == list(range(5))


def test_ahead_is_at_most_a_few_ahead() -> None:
    begun = list[int]()
    numbers = ahead((begun.append(n) or n for n in range(100)), depth=2)  # type: ignore[func-returns-value]
    next(numbers)
    assert len(begun) <= 5


def test_the_rate_rises_then_falls_to_nothing() -> None:
    model = torch.nn.Linear(2, 2)
    trainer = Trainer(model, Plan(steps=10, batch=1, rate=0.5, warm_up=2, decay=0.0), {})
    moves = []
    for _ in range(10):
        before = model.weight.detach().clone()
        trainer.take(lambda: model(torch.ones(1, 2)).sum())
        moves.append(float((model.weight - before).abs().max()))
    # The gradient never changes, so AdamW moves by the rate itself.
    assert moves[1] == pytest.approx(0.5 * (1 + np.cos(np.pi * 0.1)) / 2, rel=1e-3)
    assert moves[-1] < 0.05 * moves[1]
    assert moves[0] == pytest.approx(0.25, rel=1e-3)


@pytest.mark.parametrize(("change", "match"), [({"steps": 0}, "0 × 4"), ({"batch": 0}, "× 0"), ({"seed": -2}, "-2")])
def test_plans_out_of_range_are_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(TrainingError, match=match):
        Plan(**{"steps": 1, "batch": 4, "rate": 1e-3, **change})


def test_an_interrupted_autoencoder_ends_as_if_never_interrupted(tmp_path: Path) -> None:
    options = AutoencoderOptions.smoke("autoencoder")
    train_autoencoder(tmp_path / "whole", options)
    take = Trainer.take

    def failing(run: Any, loss: Any) -> None:
        if run.step == 3:
            raise RuntimeError("lights out")
        take(run, loss)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="lights out"):
        patch.setattr(trainer_module.Trainer, "take", failing)
        train_autoencoder(tmp_path / "cut", options)
    again = train_autoencoder(tmp_path / "cut", options)
    name = "autoencoder/diffusion_pytorch_model.safetensors"
    assert again.step == options.plan.steps
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_checkpoints_of_other_options_are_refused(tmp_path: Path) -> None:
    options = AutoencoderOptions.smoke("autoencoder")
    train_autoencoder(tmp_path, options)
    with pytest.raises(TrainingError, match="a checkpoint of other options lies here"):
        train_autoencoder(tmp_path, replace(options, kl=0.5))


def test_reconstruction_is_nothing_where_nothing_is_lost() -> None:
    pixels = torch.rand(2, 3, 8, 8) * 2 - 1
    assert reconstruction(pixels, pixels) == 0
    lighter = reconstruction(pixels + 0.1, pixels)  # a shift has no edges
    torch.testing.assert_close(lighter, torch.tensor(0.1**2 + 0.5 * 0.1))


def test_psnr_is_that_of_scikit_image() -> None:
    generator = np.random.default_rng(0)
    one, other = (generator.uniform(-1, 1, (3, 3, 9, 9)).astype(np.float32) for _ in range(2))
    ours = psnr(torch.from_numpy(one), torch.from_numpy(other))
    theirs = [peak_signal_noise_ratio(a, b, data_range=2) for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_codes_that_nobody_uses_move_to_latents() -> None:
    options = AutoencoderOptions.smoke("vq")
    trainer = Trainer(build_autoencoder(options), options.plan, options.identity)
    codes = trainer.model.quantize.embedding.weight
    with torch.no_grad():
        codes.fill_(100.0)
        codes[0] = 0
    pixels = torch.rand(2, 3, 64, 64) * 2 - 1
    Vq(trainer)(pixels)
    assert (codes[1:].abs() < 50).all()  # from far away to where the latents are
    assert (codes[0] == 0).all()


def test_the_objective_asks_for_the_velocity() -> None:
    from diffusers import DDIMScheduler

    class Echo(torch.nn.Module):
        """Answers what it was built with."""

        def forward(self, *_: Any) -> Any:
            return type("Answer", (), {"sample": self.answer, "last_hidden_state": torch.zeros(2, 1, 1)})()

    generator = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(2, 4, 8, 8, generator=generator) for _ in range(2))
    times = torch.tensor([3, 700])
    trainer = Trainer(torch.nn.ModuleDict({"unet": Echo(), "text_encoder": Echo()}), Plan(1, 2, 1e-3), {})
    trainer.model["unet"].answer = DDIMScheduler(**SCHEDULE).get_velocity(x, noise, times)
    trainer.model["text_encoder"].answer = None
    batch = LatentBatch(x, torch.ones(2, 1, 8, 8), torch.zeros(2, 32, dtype=torch.long), noise, times)
    assert Objective(trainer)(batch) < 1e-10
    trainer.model["unet"].answer = trainer.model["unet"].answer + 0.5
    torch.testing.assert_close(Objective(trainer)(batch), torch.tensor(0.25))


def test_latent_batches_are_the_same_whenever_they_are_drawn(bank: Bank) -> None:
    options = replace(DiffusionOptions.smoke(), bank=SMALL, dropout=0.5)
    latents = np.random.default_rng(0).standard_normal((len(bank), 4, 16, 16)).astype(np.float16)
    trainer = Trainer(torch.nn.Linear(1, 1), replace(options.plan, steps=6), {})
    every = [*latent_batches(bank, latents, options, trainer)]
    trainer.step = 4
    later = [*latent_batches(bank, latents, options, trainer)]
    for one, other in zip(every[4:], later, strict=True):
        for name in ("latents", "weights", "tokens", "noise", "times"):
            assert torch.equal(getattr(one, name), getattr(other, name))
    empty = torch.tensor(build_tokenizer(bank_module.CONTEXT).encode("").ids)
    dropped = sum(int((batch.tokens == empty).all(1).sum()) for batch in every)
    assert 0 < dropped < 24
    assert all(abs(float(batch.weights.mean()) - 1) < 1e-5 for batch in every)


def test_names_of_the_judge_follow_the_facts() -> None:
    assert list(facts().values()) == [
        f"{fact} {name}"
        for fact, names in zip(
            ("subject", "relation", "object", "place"), (THINGS, RELATIONS, THINGS, PLACES), strict=True
        )
        for name in names
    ]
    assert labels() == dict(enumerate(["background", *THINGS]))


def test_spoiling_keeps_the_range_and_its_seed() -> None:
    pixels = torch.rand(2, 3, 64, 64) * 2 - 1
    one, same, other = (spoil(pixels, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.abs().max() <= 1
    assert one.shape == pixels.shape


def test_unseen_scenes_are_no_trainings() -> None:
    trained = {BankOptions(0, 300).scene(n) for n in range(300)} | {
        BankOptions(0, 300, judge=True).scene(n) for n in range(300)
    }
    assert not {scene for scene, _ in unseen(50, 64)} & trained
    assert prompts(20, 0) == prompts(20, 0) != prompts(20, 1)


def test_every_model_ends_in_a_folder_that_its_library_reads(everything: tuple[Path, dict[str, Any]]) -> None:
    from diffusers import AutoencoderKL, StableDiffusionPipeline, VQModel
    from transformers import AutoImageProcessor, AutoModelForImageClassification, AutoModelForSemanticSegmentation

    out, told = everything
    assert set(told) == {"dual", "autoencoder", "vq", "diffusion", "classifier", "segmenter"}
    assert AutoencoderKL.from_pretrained(out / "autoencoder").config.scaling_factor > 0
    assert VQModel.from_pretrained(out / "vq").config.num_vq_embeddings == 32
    pipeline = StableDiffusionPipeline.from_pretrained(out / "diffusion", torch_dtype=torch.float32)
    assert pipeline("a dog", num_inference_steps=2, height=64, width=64, output_type="np").images.shape == (
        1,
        64,
        64,
        3,
    )
    picture = unseen(1, 64)[0][1].image
    for loader, part, shape in (
        (AutoModelForSemanticSegmentation, "segmenter", (1, len(labels()), 16, 16)),
        (AutoModelForImageClassification, "classifier", (1, len(facts()))),
    ):
        folder = out / "judge" / part
        model = loader.from_pretrained(folder, dtype=torch.float32)
        pixels = AutoImageProcessor.from_pretrained(folder)(picture, return_tensors="pt")["pixel_values"]
        np.testing.assert_allclose(pixels.numpy()[0], np.asarray(picture).transpose(2, 0, 1) / 127.5 - 1, atol=1e-5)
        assert model(pixels).logits.shape == shape


def test_every_folder_has_a_card_a_loss_and_a_curve(everything: tuple[Path, dict[str, Any]]) -> None:
    out, told = everything
    for name, facts_told in told.items():
        folder = out / "judge" / name if name in {"classifier", "segmenter"} else out / name
        card = (folder / "README.md").read_text()
        assert str(facts_told["steps"]) in card
        assert json.loads((folder / "loss.json").read_text())["loss"][-1]["step"] == facts_told["steps"]
        assert facts_told["parameters"] > 0
        assert str(out) not in card
        if name != "dual":
            assert (folder / "loss.png").stat().st_size > 1000
    for name in ("autoencoder", "vq", "diffusion"):
        assert (out / name / "samples.png").stat().st_size > 1000


def test_the_configuration_tells_no_path(everything: tuple[Path, dict[str, Any]]) -> None:
    out, _ = everything
    for path in (*(out / "diffusion").rglob("*.json"), *(out / "judge").rglob("*.json")):
        assert str(out) not in path.read_text(), path


def test_a_training_begins_with_the_weights_it_is_given(
    everything: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    start = everything[0] / "diffusion"
    fresh, begun = (build_denoiser(DiffusionOptions.smoke(seed=7)) for _ in range(2))
    load_weights(begun, start)
    written = load_file(start / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(begun["unet"].state_dict()[name], value.float()) for name, value in written.items())
    assert not torch.equal(begun["unet"].conv_in.weight, fresh["unet"].conv_in.weight)
    _run("diffusion", "--smoke", "--begin", start, "--out", tmp_path, "--json")
    card = " ".join((tmp_path / "diffusion" / "README.md").read_text().split())
    assert "Begun with the weights of an earlier training of 4 steps." in card
    assert str(start) not in card + (tmp_path / "diffusion" / "loss.json").read_text()
    assert json.loads((tmp_path / "diffusion" / "loss.json").read_text())["loss"][-1]["step"] == 8


def test_a_start_of_another_shape_is_refused(everything: tuple[Path, dict[str, Any]]) -> None:
    model = build_denoiser(replace(DiffusionOptions.smoke(), widths=(16, 16)))
    with pytest.raises(TrainingError, match="cannot begin there"):
        load_weights(model, everything[0] / "diffusion")


def test_diffusion_without_an_autoencoder_is_refused(tmp_path: Path, capsys: Any) -> None:
    ran = here(capsys, "train-scenes", "diffusion", "--smoke", "--out", tmp_path)
    assert ran.code == 2
    assert "no autoencoder lies there" in ran.error


def _run(*arguments: Any) -> str:
    import io
    from contextlib import redirect_stdout

    from simat.cli.main import main

    told = io.StringIO()
    with redirect_stdout(told), pytest.raises(SystemExit) as ended, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["simat", "train-scenes", *map(str, arguments)])
        main()
    assert not ended.value.code
    return told.getvalue()
