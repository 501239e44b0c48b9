"""Training on the scene world: what prompts claim, which batches come, what the loss leaves out, how it goes on."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from building import Recorder, here
from hypothesis import given
from hypothesis import strategies as st

from data.scenes.captions import captions
from data.scenes.render import OBJECT, SUBJECT, render
from data.scenes.scene import sample
from data.scenes.world import PLACES, RELATIONS, THINGS, triplets
from data.simat.captions import write_caption
from finetune.scenes.dual import DualOptions, Objective, build_dual, contrastive_loss, encode_tokens, train_dual
from finetune.scenes.folder import Shape
from finetune.scenes.measure import gallery_triplets, measure, questions
from finetune.scenes.prompts import STRANGER, draw_prompt, facts, sentences, true_of, words
from finetune.scenes.stream import (
    StreamOptions,
    TrainingError,
    crop,
    draw_batch,
    held_out,
    stream,
    training_scene,
)
from finetune.scenes.trainer import Trainer
from finetune.scenes.vocabulary import END, PAD, UNKNOWN, build_tokenizer, vocabulary
from simat.progress import Silent

SHAPE = Shape(dim=32, width=8, layers=(1, 1, 1, 1), text_width=32, text_layers=1)
DRAWN = StreamOptions(seed=3, batch=8, transform=SHAPE.transform, context=SHAPE.context)
numbers = st.integers(0, 5000)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small steps on a busy machine wait for each other's threads longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished smoke training of 4 steps, with its checkpoint."""
    out = tmp_path_factory.mktemp("trained")
    train_dual(out, DualOptions(steps=4, batch=8, save_every=2, shape=SHAPE))
    return out


@given(numbers)
def test_prompts_are_true_of_their_own_scene(number: int) -> None:
    scene = sample(0, number)
    for prompt in (*sentences(scene), *chain(*words(scene))):
        assert prompt.facts
        assert prompt.facts <= facts(scene), prompt


@given(numbers, numbers)
def test_true_of_is_the_inclusion_of_facts(one: int, other: int) -> None:
    scenes = [sample(0, one), sample(0, other), training_scene(1, one)]
    prompts = [prompt for scene in scenes for prompt in (*sentences(scene), *chain(*words(scene)))]
    expected = [[prompt.facts <= facts(scene) for prompt in prompts] for scene in scenes]
    np.testing.assert_array_equal(true_of(prompts, scenes), expected)


def test_sentences_claim_what_they_tell_and_no_more() -> None:
    scene = sample(0, 5, ("man", "riding", "bicycle"), "beach")
    bare, everything, *_, corpus = sentences(scene)
    triplet = {"subject man", "relation riding", "object bicycle"}
    assert (bare.text, bare.facts) == ("a man riding a bicycle", triplet)
    assert (corpus.text, corpus.facts) == (write_caption(scene.triplet), triplet)
    told = {"place beach", f"facing {scene.facing}", f"{scene.colours[0]} man", f"{scene.colours[1]} bicycle"}
    assert everything.facts == triplet | told


def test_prompts_are_sentences_bare_words_and_strange_ones() -> None:
    generator, scene = np.random.default_rng(0), sample(0, 7)
    drawn = [draw_prompt(scene, generator) for _ in range(1000)]
    few = np.mean([len(prompt.facts) <= 2 for prompt in drawn])
    strange = np.mean([STRANGER in prompt.text.split() for prompt in drawn])
    assert 0.25 < few < 0.35
    assert 0.015 < strange < 0.05
    assert {prompt.text for prompt in drawn} >= set(captions(scene)) | {scene.triplet[0], scene.triplet[1], scene.place}


def test_vocabulary_holds_every_word_of_the_world() -> None:
    tokenizer = build_tokenizer(32)
    texts = [*THINGS, *RELATIONS, *PLACES, *(write_caption(t) for t in triplets())]
    texts += [text for number in range(20_000, 20_500) for text in captions(sample(7, number))]
    unknown = vocabulary().index(UNKNOWN)
    assert not [text for text in texts if unknown in tokenizer.encode(text).ids]


def test_tokens_end_with_the_highest_number_and_padding() -> None:
    tokenizer, known = build_tokenizer(8), vocabulary()
    ids = tokenizer.encode("A DOG, riding: a (zebra)!").ids
    assert [known[i] for i in ids] == ["<start>", "a", "dog", "riding", "a", UNKNOWN, END, PAD]
    assert max(range(len(known)), key=lambda i: i * (known[i] == END)) == len(known) - 1
    assert tokenizer.encode("dog " * 50).ids[-1] == len(known) - 1
    assert [known[i] for i in tokenizer.encode("").ids[:3]] == ["<start>", END, PAD]


def test_training_never_sees_a_triplet_that_is_held_out() -> None:
    count = len(triplets()) - len(held_out())
    seen = [training_scene(0, number).triplet for number in range(2 * count)]
    assert not set(seen) & set(held_out())
    assert set(seen[:count]) == set(seen[count:]) == set(triplets()) - set(held_out())
    assert len(held_out()) == math.ceil(len(triplets()) / 20)


def test_batches_are_their_seeds_and_numbers() -> None:
    first, again, next_one = draw_batch(DRAWN, 5), draw_batch(DRAWN, 5), draw_batch(DRAWN, 6)
    for name in ("pixels", "tokens", "true"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.pixels, next_one.pixels)
    assert first.pixels.shape == (8, 64, 64, 3)
    assert first.true.diagonal().all()


def test_stream_draws_the_same_in_another_process() -> None:
    with stream(DRAWN, 2, 4) as batches:
        received = list(batches)
    for batch, step in zip(received, (2, 3), strict=True):
        expected = draw_batch(DRAWN, step)
        np.testing.assert_array_equal(batch.pixels, expected.pixels)
        np.testing.assert_array_equal(batch.tokens, expected.tokens)


def test_stream_reports_a_process_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = StreamOptions(seed=-2_000_000, batch=2, transform=SHAPE.transform, context=8)
    with pytest.raises(TrainingError, match="the process that draws scenes has ended"), stream(broken, 0, 1) as batches:
        next(batches)


def test_stream_ends_with_a_process_that_is_killed() -> None:
    program = (
        "import multiprocessing as m, time\n"
        "from finetune.scenes.stream import *\n"
        "transform = ImageTransform(64, 64, 64, (0.5,) * 3, (0.5,) * 3)\n"
        "if __name__ == '__main__':\n"
        "    with stream(StreamOptions(0, 2, transform, 8), 0, 10**6) as batches:\n"
        "        next(batches)\n"
        "        print(m.active_children()[0].pid, flush=True)\n"
        "        time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        worker = Path(f"/proc/{int(killed.stdout.readline())}")
        assert worker.exists()
        killed.kill()
    for _ in range(100):
        if not worker.exists() or "\nState:\tZ" in (worker / "status").read_text():
            return
        time.sleep(0.1)
    pytest.fail("the process that draws goes on")


@given(numbers)
def test_crops_hold_subject_and_object(number: int) -> None:
    rendered = render(sample(0, number), 64)
    shown = rendered.mask(SUBJECT) | rendered.mask(OBJECT)
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    assert crop(rendered).size == (np.ptp(columns) + 1, np.ptp(rows) + 1)
    moved = crop(rendered, np.random.default_rng(number))
    assert abs(moved.width - np.ptp(columns) - 1) <= 10


@given(st.integers(0, 1000))
def test_loss_is_that_of_an_exact_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images, texts = (torch.nn.functional.normalize(torch.randn(5, 3, generator=generator), dim=1) for _ in range(2))
    true = (torch.rand(5, 5, generator=generator) < 0.3) | torch.eye(5, dtype=torch.bool)
    expected = 0.0
    for a, b, t in ((images, texts, true), (texts, images, true.T)):
        for i in range(5):
            rivals = [math.exp(float(a[i] @ b[j]) / 0.2) for j in range(5) if j == i or not t[i, j]]
            expected -= math.log(math.exp(float(a[i] @ b[i]) / 0.2) / sum(rivals)) / 10
    assert float(contrastive_loss(images, texts, true, 0.2)) == pytest.approx(expected, abs=1e-4)


def test_short_texts_are_encoded_as_open_clip_does() -> None:
    from open_clip import CLIP

    torch.manual_seed(0)
    model = CLIP(**SHAPE.model).eval()
    texts = ["a dog", "", "a man in red riding a blue bicycle on the beach, facing left", "zebra " * 60]
    tokens = torch.tensor([encoding.ids for encoding in build_tokenizer(32).encode_batch(texts)])
    with torch.no_grad():
        torch.testing.assert_close(encode_tokens(model, tokens[:3]), model.encode_text(tokens[:3]))
        torch.testing.assert_close(encode_tokens(model, tokens), model.encode_text(tokens))


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    batch = draw_batch(StreamOptions(0, 16, SHAPE.transform, 32), 0)
    options = DualOptions(steps=40, batch=16, rate=3e-3, warm_up=5, shape=SHAPE)
    run = Trainer(build_dual(options), options.plan, options.identity)
    run.run([batch] * 30, Objective(run, options), tmp_path / "x.pt", Silent())
    losses = torch.load(tmp_path / "x.pt", weights_only=True)["losses"]
    assert losses[-1] < 0.5 * math.log(16)


def test_training_goes_on_as_if_never_interrupted(trained: Path, tmp_path: Path) -> None:
    options = DualOptions(steps=4, batch=8, save_every=2, shape=SHAPE)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="lights out"):
        patch.setattr(Trainer, "take", _failing_at(3))
        train_dual(tmp_path, options)
    bars = Recorder.new()
    again = train_dual(tmp_path, options, bars)
    assert bars.advanced["train"] == 4
    assert again.step == 4
    ours, theirs = (path / "dual" / "open_clip_model.safetensors" for path in (tmp_path, trained))
    assert ours.read_bytes() == theirs.read_bytes()


def test_training_that_is_done_only_writes_its_folder_again(trained: Path) -> None:
    weights = trained / "dual" / "open_clip_model.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    assert train_dual(trained, DualOptions(steps=4, batch=8, save_every=2, shape=SHAPE)).step == 4
    assert weights.read_bytes() == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"temperature": 0.2}, {"shape": Shape()}])
def test_training_refuses_a_checkpoint_of_other_options(trained: Path, change: dict[str, Any]) -> None:
    options = {"steps": 4, "batch": 8, "shape": SHAPE, **change}
    with pytest.raises(TrainingError, match=r"a checkpoint of other options lies here.*another folder"):
        train_dual(trained, DualOptions(**options))


@pytest.mark.parametrize(("change", "match"), [({"steps": 0}, "0 × 128"), ({"batch": 1}, "× 1"), ({"seed": -1}, "-1")])
def test_options_out_of_range_are_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(TrainingError, match=match):
        DualOptions(**change)


def test_a_loss_that_is_no_number_ends_training() -> None:
    options = DualOptions(steps=1, batch=8, shape=SHAPE)
    run = Trainer(build_dual(options), options.plan, options.identity)
    with torch.no_grad():
        run.model.text_projection.fill_(math.nan)
    objective = Objective(run, options)
    with pytest.raises(TrainingError, match="the loss is no number any more; got step 0"):
        run.take(lambda: objective(draw_batch(DRAWN, 0)))


def test_questions_differ_in_one_word() -> None:
    chosen = gallery_triplets(300)
    asked = questions(chosen)
    assert set(held_out()) <= set(chosen)
    assert len(chosen) == len(set(chosen)) == 300
    every = [(a, b) for a in chosen for b in chosen if sum(x != y for x, y in zip(a, b, strict=True)) == 1]
    assert {(chosen[q.source], chosen[q.target]) for q in asked} == set(every)
    assert len(asked) == len(every)
    assert all(chosen[q.source][q.field] != chosen[q.target][q.field] for q in asked)


class Knowing:
    """One axis for every word in every slot; sees pictures as the triplets of the gallery, in turn."""

    def __init__(self, chosen: tuple[Any, ...]) -> None:
        self._chosen = chosen
        self._words = sorted({word for triplet in chosen for word in triplet})
        self._captions = {write_caption(triplet): triplet for triplet in chosen}
        self.space = None

    def _triplet(self, triplet: tuple[str, ...]) -> np.ndarray:
        return sum(self._in_slot(word, slot) for slot, word in enumerate(triplet)) / np.float32(math.sqrt(3))

    def _in_slot(self, word: str, slot: int) -> np.ndarray:
        vector = np.zeros(3 * len(self._words), np.float32)
        vector[slot * len(self._words) + self._words.index(word)] = 1
        return vector

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        return np.stack(
            [
                self._triplet(self._captions[text]) if text in self._captions else self._triplet((text,) * 3)
                for text in texts
            ]
        )

    def encode_images(self, images: list[Any]) -> np.ndarray:
        assert len(images) == len(self._chosen)
        return np.stack([self._triplet(triplet) for triplet in self._chosen])


def test_measure_gives_full_marks_to_an_encoder_that_knows() -> None:
    found = measure(Knowing(gallery_triplets(120)), gallery=120)
    assert found["found"] == found["found_held_out"] == 1
    assert found["held_out"] == len(held_out())
    assert found["delta"]["caption"]["1.0"] == {"subject": 1, "relation": 1, "object": 1}
    assert found["delta"]["word"]["1.0"] == {"subject": 1, "relation": 1, "object": 1}
    assert sum(found["questions"]) == len(questions(gallery_triplets(120)))


def test_command_writes_a_folder_that_the_engine_loads(tmp_path: Path, capsys: Any) -> None:
    from simat.encoders import load_encoder

    ran = here(capsys, "train-scenes", "dual", "--smoke", "--steps", "2", "--out", tmp_path, "--json")
    facts_told = ran.json["dual"]
    folder = tmp_path / "dual"
    assert facts_told["steps"] == 2
    assert {"found", "delta", "gallery"} <= facts_told["whole"].keys()
    card = (folder / "README.md").read_text()
    assert "2 steps × 16" in card
    assert "$" not in card
    assert json.loads((folder / "loss.json").read_text())["options"]["seed"] == 0
    encoder = load_encoder(f"open_clip:{folder}")
    assert encoder.encode_texts(["a dog", "a strange ω word"]).shape == (2, 32)
    assert encoder.encode_images([render(sample(0, 0), 80).image]).shape == (1, 32)


def _failing_at(step: int) -> Any:
    take = Trainer.take

    def failing(run: Any, loss: Any) -> None:
        if run.step == step:
            raise RuntimeError("lights out")
        take(run, loss)

    return failing
