"""Word vectors: sentences against a loop over the library's own words, and files that are none."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pytest
from helpers import cosines, unit_noise
from hypothesis import given, settings
from hypothesis import strategies as st

from simat.encoders import load_encoder, load_tower
from simat.encoders import word_vectors as vec_module
from simat.encoders.fasttext import FastTextTower
from simat.encoders.fasttext_binary import word_counts
from simat.errors import EncoderError, QueryError
from simat.types import ImageEncoder, TextEncoder

CAPTIONS = [
    "a dog runs on the grass .",
    "a cat sits on a mat .",
    "the man rides a t-shirt horse .",
    "a red car on the street , in Paris .",
] * 30
DIM = 12


def train(folder: Path, name: str, **settings: Any) -> Path:
    """A real model of the captions, written by the library."""
    (folder / "captions.txt").write_text("\n".join(CAPTIONS))
    settings = {"dim": DIM, "minCount": 1, "epoch": 5, "bucket": 200, "thread": 1, "verbose": 0, **settings}
    path = folder / name
    fasttext.train_unsupervised(str(folder / "captions.txt"), **settings).save_model(str(path))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("fasttext"), "captions.bin")


@pytest.fixture(scope="module")
def library(model: Path) -> Any:
    return fasttext.load_model(str(model))


@pytest.fixture(scope="module")
def tower(model: Path) -> FastTextTower:
    return load_tower(f"fasttext:{model}")


def write_vec(path: Path, words: dict[str, np.ndarray]) -> Path:
    """A file of word vectors, as fastText writes them."""
    dim = len(next(iter(words.values())))
    lines = [f"{word} " + " ".join(f"{x:.8g}" for x in vector) for word, vector in words.items()]
    path.write_text("\n".join([f"{len(words)} {dim}", *lines]) + "\n")
    return path


@pytest.fixture
def vec(own_cache: Path, tmp_path: Path) -> Path:
    words = ["</s>", "the", "dog", "Cat", "t-shirt", "."]
    return write_vec(tmp_path / "words.vec", dict(zip(words, unit_noise(0, 6, 5) * 3, strict=True)))


# sentences of a .bin


def sif(library: Any, words: list[str]) -> np.ndarray:
    """Arora et al. 2017, eq. 1, in a loop; the weight of a word that was never seen is 1."""
    counts = dict(zip(*library.get_words(include_freq=True), strict=True))
    total = np.zeros(DIM)
    for word in words:
        total += 1e-3 / (1e-3 + counts.get(word, 0) / sum(counts.values())) * library.get_word_vector(word)
    return total / np.linalg.norm(total)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a dog runs on the grass .", ["a", "dog", "runs", "on", "the", "grass", "."]),
        ("A Dog,\n a CAT!", ["a", "dog", ",", "a", "cat"]),
        ("a t-shirt in Paris", ["a", "t-shirt", "in", "Paris"]),
        ("mat-street", ["mat", "street"]),
        ("dog dog cat", ["dog", "dog", "cat"]),
        ("the zebra", ["the", "zebra"]),
        ("Zebras?", ["zebras"]),
        ("dog 名前 ☃", ["dog", "名前"]),
    ],
)
def test_a_sentence_is_the_weighted_sum_of_its_words(
    tower: FastTextTower, library: Any, text: str, words: list[str]
) -> None:
    np.testing.assert_allclose(tower.encode_texts([text])[0], sif(library, words), atol=1e-6)


def test_a_word_alone_is_the_vector_of_the_library(tower: FastTextTower, library: Any) -> None:
    words = ["dog", "cat", "zebra", "grasses", "."]
    expected = np.stack([library.get_word_vector(word) for word in words])
    assert cosines(tower.encode_texts(words), expected).min() > 1 - 1e-6


def test_counts_are_those_of_the_library(model: Path, library: Any) -> None:
    np.testing.assert_array_equal(word_counts(model), library.get_words(include_freq=True)[1])


WORDS = st.lists(st.sampled_from(["dog", "Cat", "the", "zebra", "qq", ".", "t-shirt"]), min_size=1, max_size=6)


@given(st.lists(WORDS.map(lambda words: "x " + " ".join(words)), max_size=5))
@settings(max_examples=25)
def test_a_batch_is_its_singles_in_any_order(tower: FastTextTower, texts: list[str]) -> None:
    rows = tower.encode_texts(texts)
    assert rows.shape == (len(texts), DIM)
    np.testing.assert_array_equal(rows, [tower.encode_texts([text])[0] for text in texts] or rows)
    np.testing.assert_array_equal(tower.encode_texts(texts[::-1]), rows[::-1])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_a_supervised_model_is_read(tmp_path: Path) -> None:
    (tmp_path / "labelled.txt").write_text("\n".join(f"__label__{i % 2} {text}" for i, text in enumerate(CAPTIONS)))
    path = tmp_path / "labelled.bin"
    trained = fasttext.train_supervised(str(tmp_path / "labelled.txt"), dim=7, thread=1, verbose=0)
    trained.save_model(str(path))
    rows = load_tower(f"fasttext:{path}").encode_texts(["dog", "street"])
    assert cosines(rows, np.stack([trained.get_word_vector(w) for w in ("dog", "street")])).min() > 1 - 1e-6


def test_a_text_without_a_known_word_is_refused(tower: FastTextTower, tmp_path: Path) -> None:
    for text in ("", "  ", "☃ !"):
        with pytest.raises(QueryError, match=r"no word of this text has a vector in fasttext:.*; use other words"):
            tower.encode_texts(["dog", text])
    words_only = load_tower(f"fasttext:{train(tmp_path, 'words.bin', maxn=0)}")
    np.testing.assert_array_equal(words_only.encode_texts(["zebra dog"]), words_only.encode_texts(["dog"]))
    with pytest.raises(QueryError, match=r"has a vector in .*; got 'zebra'"):
        words_only.encode_texts(["zebra"])


def test_a_tower_of_words_reads_no_images(model: Path, tower: FastTextTower) -> None:
    assert isinstance(tower, TextEncoder) and not isinstance(tower, ImageEncoder)
    with pytest.raises(EncoderError, match="this encoder reads no images; got image=fasttext:"):
        load_encoder(f"combined:image=fasttext:{model},text=minilm")


def test_space_is_that_of_the_contents(model: Path, tower: FastTextTower, tmp_path: Path) -> None:
    copy = tmp_path / "copy of it"
    copy.write_bytes(model.read_bytes())
    space = load_tower(f"fasttext:{copy}").space
    assert (space.encoder, space.dim, space.fingerprint) == (f"fasttext:{copy}", DIM, tower.space.fingerprint)
    assert load_tower(f"fasttext:{train(tmp_path, 'o.bin', epoch=1)}").space.fingerprint != space.fingerprint


# .vec


def test_word_vectors_in_text_give_the_same_words(model: Path, library: Any, own_cache: Path, tmp_path: Path) -> None:
    words = library.get_words()
    text = load_tower(f"fasttext:{write_vec(tmp_path / 'x.vec', {w: library.get_word_vector(w) for w in words})}")
    expected = np.stack([library.get_word_vector(word) for word in words])
    assert cosines(text.encode_texts(words), expected).min() > 1 - 1e-6


def test_ranks_are_weighted_by_zipfs_law(vec: Path) -> None:
    rows = unit_noise(0, 6, 5).astype(np.float64)
    harmonic = sum(1 / rank for rank in range(1, 7))
    weights = [1e-3 / (1e-3 + 1 / (rank * harmonic)) for rank in range(1, 7)]
    total = sum(weights[i] * rows[i] for i in (1, 2, 3, 4, 5))
    found = load_tower(f"fasttext:{vec}").encode_texts(["The dog Cat t-shirt."])[0]
    assert not np.allclose(found, total / np.linalg.norm(total))  # "t-shirt." is cut at its signs: t, -, shirt, .
    total -= weights[4] * rows[4]
    np.testing.assert_allclose(found, total / np.linalg.norm(total), atol=1e-6)


def test_unknown_words_of_a_text_file_are_left_out(vec: Path) -> None:
    tower = load_tower(f"fasttext:{vec}")
    np.testing.assert_array_equal(tower.encode_texts(["dog zebra"]), tower.encode_texts(["dog"]))
    with pytest.raises(QueryError, match="got 'zebra, cat'"):  # the file has "Cat" alone
        tower.encode_texts(["zebra, cat"])


def test_a_text_file_is_read_once(vec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_tower(f"fasttext:{vec}").encode_texts(["the dog"])
    monkeypatch.setattr(vec_module, "_convert", lambda *_: pytest.fail("read again"))
    np.testing.assert_array_equal(load_tower(f"fasttext:{vec}").encode_texts(["the dog"]), first)


def test_the_first_of_two_equal_words_counts(own_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "x.vec").write_text("3 2\ndog 1 0 \ndog 0 1\ncat 0 -2\n")  # with the blank that old files end lines in
    rows = load_tower(f"fasttext:{tmp_path}/x.vec").encode_texts(["dog", "cat"])
    np.testing.assert_array_equal(rows, [[1, 0], [0, -1]])


def test_words_of_any_bytes_keep_their_lines(own_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "x.vec").write_bytes(b"4 2\n\xff\xfe 1 1\na\xc2\xa0b 1 0\n\xe2\x80\xa8 3 3\ndog 0 1\n")
    tower = load_tower(f"fasttext:{tmp_path}/x.vec")
    np.testing.assert_array_equal(tower.encode_texts(["dog"]), [[0, 1]])


# files that are none


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no file of word vectors; got .*; line 1 must be: WORDS DIMENSION"),
        (b"dog 1 2 3\n", "no file of word vectors"),
        (b"\x1f\x8b\x08\x00 gzip", "no file of word vectors"),
        (b"1 0\ndog\n", "line 1 of .*1 words of 0 numbers"),
        (b"0 3\n", "line 1"),
        (b"99999999999 300\ndog 1 2\n", "line 1 of .*99999999999 words of 300 numbers in 24 bytes"),
        (b"2 3\ndog 1 2 3\ncat 1 2\n", "line 3 of .*no word with 3 numbers"),
        (b"2 3\ndog 1 2 3\ncat 1 2 3 4\n", "line 3"),
        (b"2 3\ndog 1 2 3\ncat 1 2 x\n", "line 3"),
        (b"2 3\ndog 1 2 3\ncat 1 nan 3\n", "line 3"),
        (b"2 3\ndog 1 2 3\ncat 1 1e99 3\n", "line 3"),
        (b"2 3\ndog 1 2 3\n 1 2 3\n", "line 3"),
        (b"2 3\ndog 1 2 3\n", "line 3 of .*the end of a file that was cut short"),
        (b"1 3\ndog 1 2 3\ncat 1 2 3\n", "line 3 of .*more than the 1 words of line 1"),
        (b"2 3\ndog 1 2 3\ncat " + b"1" * 9000, "line 3"),
    ],
)
def test_text_that_holds_no_word_vectors_is_refused(
    own_cache: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "x.vec").write_bytes(content)
    with pytest.raises(EncoderError, match=message):
        load_tower(f"fasttext:{tmp_path}/x.vec")
    assert not [*(own_cache / "word_vectors").iterdir()]


@pytest.mark.parametrize("argument", ["", "/nowhere.bin", "."])
def test_a_file_that_is_not_there_is_refused(argument: str) -> None:
    with pytest.raises(EncoderError, match=r"no such file of word vectors; .*; write fasttext:/path/to/vectors.bin"):
        load_tower(f"fasttext:{argument}")


@pytest.mark.parametrize("content", [b"", b"\xba\x16", b"these are no vectors", b"\x80\x02}q\x00."])
def test_a_model_without_the_magic_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(EncoderError, match="this is no fastText model"):
        load_tower(f"fasttext:{tmp_path}/x.bin")


def test_a_model_cut_anywhere_is_refused(model: Path, tmp_path: Path) -> None:
    whole, path = model.read_bytes(), tmp_path / "x.bin"
    for length in [*range(4, 400, 7), *range(400, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(EncoderError, match=r"cut short|damaged"):
            word_counts(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(EncoderError, match=r"damaged: .*bytes instead of"):
        word_counts(path)


def test_a_cut_model_never_reaches_the_library(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.bin").write_bytes(model.read_bytes()[:2000])
    monkeypatch.setattr(fasttext, "load_model", lambda _: pytest.fail("read"))
    with pytest.raises(EncoderError, match="cut short"):
        load_tower(f"fasttext:{tmp_path}/x.bin")


HEADER = 8 + 12 * 4 + 8  # magic, version, settings


@pytest.mark.parametrize(
    ("offset", "layout", "value"),
    [
        (4, "<i", 99),
        (8, "<i", -1),
        (8, "<i", DIM + 1),
        (8 + 8 * 4, "<i", -5),
        (HEADER, "<i", 2**31 - 1),
        (HEADER + 4, "<i", 3),
        (HEADER + 8, "<i", 2),
        (HEADER + 20, "<q", 2**40),
    ],
)
def test_a_model_that_contradicts_itself_is_refused(
    model: Path, tmp_path: Path, offset: int, layout: str, value: int
) -> None:
    altered = bytearray(model.read_bytes())
    struct.pack_into(layout, altered, offset, value)
    (tmp_path / "x.bin").write_bytes(altered)
    with pytest.raises(EncoderError, match=r"damaged|cut short"):
        load_tower(f"fasttext:{tmp_path}/x.bin")


def test_a_quantised_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labelled.txt").write_text("\n".join(f"__label__{i % 2} {text}" for i, text in enumerate(CAPTIONS)))
    source = str(tmp_path / "labelled.txt")
    small = fasttext.train_supervised(source, dim=8, wordNgrams=2, bucket=300, thread=1, verbose=0)
    small.quantize()
    small.save_model(str(tmp_path / "x.ftz"))
    with pytest.raises(EncoderError, match=r"a quantised fastText model; got .*x\.ftz; give the \.bin"):
        load_tower(f"fasttext:{tmp_path}/x.ftz")


def test_a_missing_library_is_told(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fasttext", None)
    with pytest.raises(EncoderError, match=r"fasttext is not installed; pip install 'simat\[text\]'"):
        load_tower(f"fasttext:{model}")


def test_loading_prints_nothing(model: Path) -> None:
    program = f"from simat.encoders import load_tower; load_tower('fasttext:{model}').encode_texts(['dog'])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert (ended.stdout, ended.stderr) == (b"", b"")
