"""The engine's laws, on an encoder whose answers are known in advance."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import COLOURS, DIM, ColourEncoder, PixelColourEncoder, blotches, colour_pictures, plain, save_pictures
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import simat
from simat import engine as engine_module
from simat.edits import Edit
from simat.engine import Engine
from simat.errors import ImageError, QueryError, SimatError, SpaceMismatchError, StorageError
from simat.types import Answer, Query, Step

PICTURES = len(colour_pictures()) + 1  # and one copy
COPIED = "blotch_03.png"
PLAIN = st.sampled_from([*COLOURS])


def names(answer: Answer) -> list[str]:
    return [result.path.name for result in answer]


def ids(answer: Answer) -> list[int]:
    return [result.id for result in answer]


def id_of(engine: Engine, name: str) -> int:
    rows = engine.embeddings.rows(np.arange(len(engine)))
    return next(i for i, row in enumerate(rows) if row.path == name)


@pytest.fixture(scope="module")
def shared(colour_index: Path) -> Engine:
    """One engine for the property tests, which cannot change it."""
    return simat.open(colour_index, ColourEncoder())


# laws


@settings(max_examples=25)
@given(id=st.integers(0, PICTURES - 1), source=PLAIN, target=PLAIN, k=st.integers(1, PICTURES - 2))
def test_edit_of_scale_0_returns_the_images_own_neighbours(
    shared: Engine, id: int, source: str, target: str, k: int
) -> None:
    edited = shared.edit(id, f"{source} -> {target}", scale=0.0, k=k)
    assert edited.results == shared.search(image=id, k=k).results


@settings(max_examples=25)
@given(id=st.integers(0, PICTURES - 1), word=st.text("abc déf", min_size=1).filter(str.strip), scale=st.floats(-2, 2))
def test_edit_from_a_word_to_itself_changes_nothing(shared: Engine, id: int, word: str, scale: float) -> None:
    edited = shared.edit(id, [Edit(word, word)], scale=scale, k=5)
    assert edited.results == shared.search(image=id, k=5).results


@settings(max_examples=25)
@given(source=PLAIN, target=PLAIN)
def test_edit_of_a_plain_colour_finds_the_other_colour(shared: Engine, source: str, target: str) -> None:
    answer = shared.edit(plain(source), f"{source} -> {target}", include_self=True)
    assert names(answer)[0] == f"{target}.png"
    assert answer[0].score == pytest.approx(1, abs=1e-3)


@settings(max_examples=20)
@given(words=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=3), k=st.integers(1, PICTURES))
def test_search_is_the_slow_loop_over_stored_vectors(shared: Engine, words: list[str], k: int) -> None:
    text = " ".join(words)
    stored = shared.embeddings.vectors(np.arange(PICTURES)).astype(np.float64)
    scores = stored @ ColourEncoder().encode_texts([text])[0].astype(np.float64)
    answer = shared.search(text, k=k)
    assert len(answer) == k
    np.testing.assert_allclose([result.score for result in answer], np.sort(scores)[::-1][:k], atol=1e-6)
    np.testing.assert_allclose(scores[ids(answer)], np.sort(scores)[::-1][:k], atol=1e-6)


@pytest.mark.parametrize("encoder", [ColourEncoder(), PixelColourEncoder()], ids=["images", "pixels"])
def test_answers_do_not_depend_on_shards_and_parts(
    build: Callable[..., Path], colour_photos: Path, encoder: ColourEncoder
) -> None:
    whole = simat.open(build(colour_photos, encoder), encoder)
    for shard_size, part_size in ((1, 100), (5, 7), (100, 1)):
        other = simat.open(build(colour_photos, encoder, shard_size=shard_size, part_size=part_size), encoder)
        assert len(other.manifest.shards) == -(-PICTURES // shard_size)
        for id in (0, 9, 20):
            one, two = (engine.edit(id, "red -> blue, + snow", k=8) for engine in (whole, other))
            assert ids(two) == ids(one)
            np.testing.assert_allclose([r.score for r in two], [r.score for r in one], atol=1e-6)


# the query image is no answer to its own query


def ways_to_ask(engine: Engine, folder: Path, name: str, elsewhere: Path) -> dict[str, Any]:
    copy = Path(shutil.copy(folder / name, elsewhere / "a copy under another name.png"))
    with Image.open(folder / name) as opened:
        picture = opened.convert("RGB")
    return {
        "path": folder / name,
        "text path": str(folder / name),
        "copy": copy,
        "id": id_of(engine, name),
        "numpy id": np.int64(id_of(engine, name)),
        "picture": picture,
        "array": np.asarray(picture),
    }


@pytest.mark.parametrize("way", ["path", "text path", "copy", "id", "numpy id", "picture", "array"])
@pytest.mark.parametrize("name", ["red.png", COPIED])
def test_query_image_and_its_copies_are_no_answers_unless_asked_for(
    colours: Engine, colour_photos: Path, tmp_path: Path, name: str, way: str
) -> None:
    image = ways_to_ask(colours, colour_photos, name, tmp_path)[way]
    image = int(image) if way == "numpy id" else image
    same = {id_of(colours, name)} | ({id_of(colours, "copies/another name.png")} if name == COPIED else set())
    for answer in (colours.search(image=image, k=PICTURES), colours.edit(image, "red -> red", k=PICTURES)):
        assert sorted(ids(answer)) == sorted(set(range(PICTURES)) - same)
    kept = colours.search(image=image, k=PICTURES, include_self=True)
    assert sorted(ids(kept)) == [*range(PICTURES)]
    assert set(ids(kept)[: len(same)]) == same


def test_query_image_of_another_size_is_another_image(colours: Engine) -> None:
    assert names(colours.search(image=plain("red", (64, 64)), k=1)) == ["red.png"]


def test_many_copies_of_the_query_image_still_leave_k_answers(build: Callable[..., Path], tmp_path: Path) -> None:
    save_pictures(tmp_path / "p", {f"{i}.png": blotches(7) for i in range(20)} | {"x.png": plain("blue")})
    engine = simat.open(build(tmp_path / "p", ColourEncoder()), ColourEncoder())
    assert names(engine.search(image=tmp_path / "p" / "3.png", k=1)) == ["x.png"]
    assert names(engine.search(image=tmp_path / "p" / "3.png", k=5)) == ["x.png"]


def test_a_large_jpeg_opened_as_a_picture_is_known_again(build: Callable[..., Path], tmp_path: Path) -> None:
    pictures = {f"{i}.jpg": Image.effect_noise((640, 480), 90).convert("RGB") for i in range(4)}
    save_pictures(tmp_path / "p", pictures)
    engine = simat.open(build(tmp_path / "p", PixelColourEncoder()), PixelColourEncoder())
    with Image.open(tmp_path / "p" / "2.jpg") as picture:
        assert sorted(names(engine.search(image=picture, k=4))) == ["0.jpg", "1.jpg", "3.jpg"]


# answers


def test_answer_tells_paths_scores_backend_and_timings(colours: Engine, colour_photos: Path) -> None:
    answer = colours.search("red", k=3)
    assert answer[0].path == colour_photos / "red.png"
    assert answer.backend == "retrieve"
    assert set(answer.timings) == {"compose", "search"}
    assert [r.score for r in answer] == sorted((r.score for r in answer), reverse=True)
    assert answer[1:2] == answer.results[1:2]


def test_k_defaults_to_ten_or_all_there_are(colours: Engine, build: Callable[..., Path], tmp_path: Path) -> None:
    assert len(colours.search("red")) == 10
    save_pictures(tmp_path / "p", {f"{colour}.png": plain(colour) for colour in COLOURS})
    small = simat.open(build(tmp_path / "p", ColourEncoder()), ColourEncoder())
    assert len(small.search("red")) == len(COLOURS)
    assert len(small.search(image=0)) == len(COLOURS) - 1


def test_root_says_where_the_photos_are_now(colour_index: Path, tmp_path: Path) -> None:
    engine = simat.open(colour_index, ColourEncoder(), root=tmp_path)
    assert engine.search("red", k=1)[0].path == tmp_path / "red.png"


def test_index_can_be_moved(colour_index: Path, colours: Engine, tmp_path: Path) -> None:
    moved = simat.open(shutil.copytree(colour_index, tmp_path / "moved"), ColourEncoder())
    assert moved.edit(3, "red -> blue").results == colours.edit(3, "red -> blue").results


def test_answer_reports_its_steps(colours: Engine) -> None:
    steps: list[Step] = []
    colours.answer(Query(text="red", composer="text"), on_step=steps.append)
    assert steps == [Step("search", 1, 1)]


def test_texts_are_encoded_once(colour_index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, asked = ColourEncoder(), []

    def counted(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return ColourEncoder.encode_texts(encoder, texts)

    monkeypatch.setattr(encoder, "encode_texts", counted, raising=False)
    monkeypatch.setattr(engine_module, "REMEMBERED_TEXTS", 2)
    engine = simat.open(colour_index, encoder)
    for text in ("red", "blue", "red", "blue"):
        engine.search(text)
    assert asked == ["red", "blue"]
    engine.search("green")
    engine.search("blue")
    assert asked == ["red", "blue", "green"]
    engine.search("red")
    assert asked == ["red", "blue", "green", "red"]


def test_encode_texts_returns_rows_in_the_order_asked_for(colours: Engine) -> None:
    texts = ["red", "dog", "red", "blue"]
    np.testing.assert_allclose(colours.encode_texts(texts), ColourEncoder().encode_texts(texts), atol=1e-7)
    assert colours.encode_texts(["dog"]).shape == (1, DIM)


def test_engine_is_shared_between_threads(colours: Engine) -> None:
    words = [f"word {i % 7}" for i in range(60)]
    alone = [colours.search(word).results for word in words]
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(lambda word: colours.search(word).results, words)] == alone


# refusals


@pytest.mark.parametrize("k", [0, -3])
def test_engine_refuses_k_below_1(colours: Engine, k: int) -> None:
    with pytest.raises(QueryError, match=f"k must be at least 1; got {k}"):
        colours.search("red", k=k)


def test_engine_refuses_k_beyond_the_index(colours: Engine) -> None:
    with pytest.raises(QueryError, match=f"k is more than the {PICTURES} images of the index; got {PICTURES + 1}"):
        colours.edit(0, "red -> blue", k=PICTURES + 1)


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_engine_refuses_scales_that_are_no_numbers(colours: Engine, scale: float) -> None:
    with pytest.raises(QueryError, match="the scale must be a finite number"):
        colours.edit(0, "red -> blue", scale=scale)


def test_engine_refuses_edits_that_do_not_parse(colours: Engine) -> None:
    with pytest.raises(QueryError, match="this is no edit; got 'make it blue'"):
        colours.edit(0, "make it blue")


def test_engine_refuses_an_unknown_composer(colours: Engine) -> None:
    with pytest.raises(QueryError, match="no such composer; got magic"):
        colours.edit(0, "red -> blue", composer="magic")


def test_engine_refuses_delta_without_edits_and_edits_without_image(colours: Engine) -> None:
    with pytest.raises(QueryError, match="'delta' needs edits"):
        colours.answer(Query(image=0))
    with pytest.raises(QueryError, match="this query needs an image"):
        colours.answer(Query(edits="red -> blue"))


@pytest.mark.parametrize(
    "field",
    [{"seed": 1}, {"reference": "a cat"}, {"mask": np.ones((2, 2))}, {"strength": 0.5}, {"samples": 2}],
    ids=lambda field: next(iter(field)),
)
def test_engine_refuses_fields_that_the_backend_would_ignore(colours: Engine, field: dict[str, Any]) -> None:
    message = f"the backend 'retrieve' would ignore {next(iter(field))}; it takes composer, edits, image, scale, text"
    with pytest.raises(QueryError, match=message):
        colours.answer(Query(image=0, edits="red -> blue", **field))


def test_engine_refuses_an_unknown_backend(colours: Engine) -> None:
    with pytest.raises(SimatError, match="no such backend; got 'paint'"):
        colours.answer(Query(text="red"), backend="paint")


@pytest.mark.parametrize(("question", "got"), [({}, "neither"), ({"text": "red", "image": 1}, "both")])
def test_search_takes_words_or_an_image(colours: Engine, question: dict[str, Any], got: str) -> None:
    with pytest.raises(QueryError, match=f"search for words or for an image; got {got}"):
        colours.search(**question)


@pytest.mark.parametrize("text", ["", "  "])
def test_search_refuses_words_that_say_nothing(colours: Engine, text: str) -> None:
    with pytest.raises(QueryError, match="needs words"):
        colours.search(text)


@pytest.mark.parametrize("id", [-1, PICTURES])
def test_engine_refuses_an_id_that_is_not_there(colours: Engine, id: int) -> None:
    with pytest.raises(QueryError, match=f"no image with this id; got {id}"):
        colours.search(image=id)


def test_engine_refuses_files_that_are_no_images(colours: Engine, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("a list")
    with pytest.raises(ImageError, match="not an image in a format we read"):
        colours.search(image=tmp_path / "x.jpg")
    with pytest.raises(ImageError, match=r"cannot read the file: No such file.*missing\.jpg"):
        colours.search(image=tmp_path / "missing.jpg")


# indexes that do not fit


@pytest.mark.parametrize("other", [ColourEncoder("0ther"), ColourEncoder(heads="adap7er")], ids=["weights", "heads"])
def test_open_refuses_another_space_and_names_both(colour_index: Path, other: ColourEncoder) -> None:
    with pytest.raises(SpaceMismatchError) as caught:
        simat.open(colour_index, other)
    assert str(ColourEncoder().space) in str(caught.value)
    assert str(other.space) in str(caught.value)
    assert "--encoder colours" in str(caught.value)


def test_engine_refuses_an_encoder_whose_weights_changed_since(
    colour_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "load_image_encoder", lambda *_: ColourEncoder("upda7ed"))
    engine = simat.open(colour_index)
    with pytest.raises(SpaceMismatchError, match=r"c0104e.*upda7ed"):
        engine.encode_texts(["red"])


def test_search_by_id_loads_no_encoder(colour_index: Path) -> None:
    # In a process of its own: the type checker of the tests looks at every property.
    program = (
        "import sys, simat; engine = simat.open(sys.argv[1]); print(len(engine.search(image=0, k=3)))\n"
        "assert not {'torch', 'openvino', 'open_clip'} & set(sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, colour_index], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.returncode) == ("3\n", 0), ended.stderr


def test_open_refuses_embeddings_of_another_space(colour_index: Path, tmp_path: Path) -> None:
    index = shutil.copytree(colour_index, tmp_path / "index")
    path = index / "embeddings" / "manifest.json"
    document = json.loads(path.read_text())
    document["space"]["fingerprint"] = "0ther"
    path.write_text(json.dumps(document))
    with pytest.raises(SpaceMismatchError, match=r"c0104e.*0ther"):
        simat.open(index, ColourEncoder())


@pytest.mark.parametrize("name", ["manifest.json", "embeddings/manifest.json"])
def test_open_refuses_an_index_without_a_manifest(colour_index: Path, tmp_path: Path, name: str) -> None:
    index = shutil.copytree(colour_index, tmp_path / "index")
    (index / name).unlink()
    with pytest.raises(StorageError, match="no index here"):
        simat.open(index)


def test_open_refuses_an_index_with_a_shard_missing(colour_index: Path, tmp_path: Path) -> None:
    index = shutil.copytree(colour_index, tmp_path / "index")
    next((index / "shards").glob("*.faiss")).unlink()
    with pytest.raises(StorageError, match=r"shards/shard-00000\.faiss is missing"):
        simat.open(index)


def test_open_without_faiss_says_what_to_install(colour_index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(StorageError, match=r"faiss is not installed; pip install 'simat\[cpu\]'"):
        simat.open(colour_index)


# real photographs


def test_search_finds_photographs_by_words(samples: Engine) -> None:
    firsts = {words: names(samples.search(words, k=1))[0] for words in ("a cat", "a cup of coffee", "a rocket launch")}
    assert firsts == {"a cat": "cat.jpg", "a cup of coffee": "coffee.jpg", "a rocket launch": "rocket.jpg"}


@pytest.mark.parametrize("way", ["path", "text path", "copy", "id", "picture", "array"])
def test_photograph_is_no_answer_to_its_own_query(
    samples: Engine, sample_photos: Path, tmp_path: Path, way: str
) -> None:
    image = ways_to_ask(samples, sample_photos, "hubble_deep_field.jpg", tmp_path)[way]
    assert "hubble_deep_field.jpg" not in names(samples.search(image=image, k=len(samples)))
    assert names(samples.search(image=image, k=1, include_self=True)) == ["hubble_deep_field.jpg"]


def test_edit_of_a_photograph_moves_towards_the_target(samples: Engine, sample_photos: Path) -> None:
    answer = samples.edit(sample_photos / "coffee.jpg", "coffee -> cat", scale=1.5, k=3)
    assert names(answer)[0] == "cat.jpg"


def test_edit_from_dog_to_cat_finds_cats(photos: Path, build: Callable[..., Path], tmp_path: Path) -> None:
    dogs, cats, others = (sorted(photos.glob(pattern)) for pattern in ("n0210*", "n02123*", "n03*"))
    (tmp_path / "p").mkdir()
    for photo in [*dogs[:12], *cats, *others[:24]]:
        shutil.copy(photo, tmp_path / "p")
    engine, wanted = simat.open(build(tmp_path / "p")), {path.name for path in cats}
    assert len(wanted) == 2
    for dog in dogs[:6]:
        assert wanted & set(names(engine.edit(dog, "dog -> cat", k=5)))
        assert not wanted & set(names(engine.search(image=dog, k=5)))
