"""``simat eval`` as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from building import Ran, here, simat
from corpora import released
from PIL import Image
from triplet_world import TRIPLETS, TripletEncoder, picture, triplet_corpus, triplet_plugin

from data.corpus import Corpus, new_corpus

Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return triplet_corpus(tmp_path_factory.mktemp("triplets"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``simat eval`` in this process, where the encoder ``triplets`` is known."""
    from simat.encoders import load_towers

    known = TripletEncoder()

    def towers(spec: str) -> Any:
        return (known, known) if spec == "triplets" else load_towers(spec)

    monkeypatch.setattr("simat.encoders.load_towers", towers)
    monkeypatch.setenv("SIMAT_CACHE", str(cache))
    return lambda *arguments: here(capsys, "eval", *arguments)


def test_score_runs_in_a_process_of_its_own(corpus: Corpus, tmp_path: Path) -> None:
    extra = {**triplet_plugin(tmp_path / "plugin"), "SIMAT_CACHE": str(tmp_path / "cache")}
    ran = simat("eval", "simat", corpus.folder, "--encoder", "triplets", "--json", extra=extra)
    assert ran.json["tables"]["simat"][0]["n = 1"] == pytest.approx(100)
    assert {"images", "composers"} <= {line["stage"] for line in ran.progress}
    other = simat("eval", "simat", corpus.folder, "--encoder", "nobody", extra=extra)
    assert "no such encoder; got 'nobody'" in other.error


def test_score_is_a_table_with_the_choice_of_dev(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    arguments = ("simat", corpus.folder, "--encoder", "triplets", "--composer", "delta,target_caption", "-k", "1,3")
    found = run(*arguments, "--scale", "0,1,2", "--json", "--plot", tmp_path / "curve.png").json
    rows = found["tables"]["simat"]
    assert [(row["Method"], row["λ is"]) for row in rows[:2]] == [
        ("Delta vectors", w) for w in ("fixed", "chosen on dev")
    ]
    assert rows[0]["n = 1"] == pytest.approx(100) == rows[0]["n = 1 low"]
    assert 0 < rows[-1]["n = 1"] < rows[-1]["n = 3"] < 50  # chance
    assert found["chosen"] == {"delta": 1.0, "target_caption": 1.0}
    assert found["curves"]["delta"] == {"0.0": 0.0, "1.0": pytest.approx(1.0), "2.0": pytest.approx(1.0)}
    assert found["margins over the first"]["target_caption"]["value"] == pytest.approx(0.0)
    with Image.open(tmp_path / "curve.png") as image:
        assert image.size[0] > 600
    shown = run(*arguments, "--domain", "dev")
    assert "| Delta vectors | fixed | 1 | 100.0 [100.0, 100.0] |" in shown.out
    assert "domain dev" in shown.out


def test_score_of_one_target_word(run: Run, corpus: Corpus) -> None:
    found = run("simat", corpus.folder, "--encoder", "triplets", "--target", "dog", "--json").json
    assert 0 < found["queries"] < corpus.manifest.counts["queries test"]
    assert found["tables"]["simat"][0]["obj"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "zebra"), "no query of the corpus has this target word; got 'zebra'"),
        (("--domain", "val"), "no such domain; got 'val'"),
        (("--composer", "magic"), "no such composer; got magic"),
        (("--scale", "1,x"), "--scale takes numbers, separated by commas; got '1,x'"),
        (("--scale", "1,nan"), "the scales must be finite numbers"),
        (("-k", "0,1"), "-k takes whole numbers above 0"),
        (("-k", "100"), "k must be in [1, 71]; got 100"),
        (("--oracle", "oscar"), "no such oracle; got 'oscar'"),
        (("--oracle", "matrix:{bad}"), "the oracle's matrix must be 72 x 18; got 3 x 18"),
        (("--oracle", "matrix:{out}"), "the oracle's matrix has numbers outside [0, 1]; got 0.0 to 2.0"),
        (("--encoder", "nobody"), "no such encoder; got 'nobody'"),
        (("--features", "{empty}"), "no index here"),
        (("--heads", "{empty}"), "no heads here"),
        (("--plot", "{empty}/gone/x.png"), "no such folder"),
    ],
)
def test_bad_input_is_one_clear_line(
    run: Run, corpus: Corpus, tmp_path: Path, arguments: tuple[str, str], message: str
) -> None:
    matrix = np.zeros((len(TRIPLETS) * 4, len(TRIPLETS)), np.float32)
    np.save(tmp_path / "bad.npy", matrix[:3])
    matrix[0, 0] = 2
    np.save(tmp_path / "out.npy", matrix)
    places = {"bad": tmp_path / "bad.npy", "out": tmp_path / "out.npy", "empty": tmp_path}
    option, value = arguments
    ran = run("simat", corpus.folder, "--encoder", "triplets", "--json", option, value.format(**places))
    assert message in ran.error


def test_corpus_of_another_kind_is_refused(run: Run, tmp_path: Path) -> None:
    assert "no corpus here" in run("simat", tmp_path, "--encoder", "triplets").error
    assert "no corpus here" in run("retrieval", tmp_path, "--encoder", "triplets").error


def test_one_table_of_the_chapter(run: Run, corpus: Corpus) -> None:
    shown = run("table", "3.1", corpus.folder, "--encoder", "triplets")
    assert shown.code == 0, shown.err
    assert "| Delta vectors (λ = 1) | 100.0 [100.0, 100.0] | 15.9 | 100.0 [100.0, 100.0] | 39.2 |" in shown.out
    assert "no such part; got 3.9" in run("table", "3.9", corpus.folder).error


def test_chapter_writes_its_folder(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    found = run(
        "chapter3", corpus.folder, tmp_path / "out", "--encoder", "triplets", "--only", "table-3.3", "--json"
    ).json
    assert found["report"] == str(tmp_path / "out" / "report.html")
    assert found["tables"]["table-3.3"][0]["Single word"] == pytest.approx(100)
    assert (tmp_path / "out" / "table-3.3.parquet").is_file()


def test_geometry_of_the_released_words_is_the_published_one(run: Run, tmp_path: Path) -> None:
    release = released()
    head = release / "data" / "head_clip_t=0.1.pt"
    shown = simat("eval", "geometry", release, "--heads", head, "--plot", tmp_path / "plane.png")
    assert "| anisotropy: mean cosine of pairs | 0.7970 | 0.1320 |" in shown.out
    assert "| mean length of deltas, weighted | 0.6104 | 1.3030 |" in shown.out
    assert "| nearest to zebra | itself left out | cow 0.8269 | giraffe 0.4020 |" in shown.out
    assert (tmp_path / "plane.png").is_file()


def test_pairs_of_words_that_are_not_there_are_refused(run: Run, tmp_path: Path) -> None:
    words = released() / "data" / "simat_words_clip.ptd"
    (tmp_path / "pairs.csv").write_text("relation,source,target\nanimal,dog,unicorn\n")
    assert "the words lack 'unicorn'; got 131 words" in run("geometry", words, "--pairs", tmp_path / "pairs.csv").error


def test_geometry_of_a_space_on_a_corpus(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("relation,source,target\nanimal,dog,cat\nanimal,dog,cow\nthing,bus,cup\n")
    ran = run("geometry", "triplets", "--corpus", corpus.folder, "--pairs", tmp_path / "pairs.csv", "--json")
    found = {row["Measure"]: row["triplets"] for row in ran.json["tables"]["geometry"]}
    assert found["modality gap"] == pytest.approx(0, abs=1e-3)
    assert found["parallelism of deltas of captions"] == pytest.approx(1)
    assert found["cosine of word and image deltas"] == pytest.approx(1, abs=1e-3)
    assert found["captions transformed, nothing left out"] == 1.0
    assert found["probe: from captions to images"] == pytest.approx(1)
    words = {row["Measure"]: row["triplets"] for row in ran.json["tables"]["geometry-words"]}
    assert words["anisotropy: mean cosine of pairs"] == pytest.approx(0)


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A picture of every triplet in a corpus of captions, five sentences each."""
    folder = tmp_path_factory.mktemp("captions") / "corpus"
    with new_corpus(folder) as writer:
        ids = [*range(len(TRIPLETS))]
        images = pa.table({"image_id": ids, "file": [f"{i}.jpg" for i in ids], "split": ["val", *["test"] * 17]})
        writer.add_table("images", images, dict.fromkeys(images.column_names, ""))
        rows = [(i, f"{s} {r} {o}, seen {n} times") for i, (s, r, o) in enumerate(TRIPLETS) for n in range(5)]
        texts = pa.table({"image_id": [i for i, _ in rows], "caption": [text for _, text in rows]})
        writer.add_table("captions", texts, dict.fromkeys(texts.column_names, ""))
        writer.finish("captions", {}, {})
    for number, triplet in enumerate(TRIPLETS):
        picture(triplet).save(folder / "images" / f"{number}.jpg", quality=95)
    return Corpus(folder)


def test_retrieval_finds_the_own_captions_and_images(run: Run, captions: Corpus) -> None:
    found = run("retrieval", captions.folder, "--encoder", "triplets", "-k", "1,5", "--json").json
    assert found["images"] == 17  # of the split test
    (row,) = found["tables"]["retrieval"]
    assert row["Protocol"] == "all"
    for way in ("Text", "Image"):
        assert (row[f"{way} R@1"], row[f"{way} R@5"]) == (100, 100)
    shown = run("retrieval", captions.folder, "--encoder", "triplets", "--split", "val", "--captions", "2")
    assert "### Retrieval in triplets" in shown.out
    assert "| all | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 |" in shown.out
    assert "1 images." in shown.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--protocol", "1k"), "the protocol 1k needs 1,000 images; got 17; use all"),
        (("--protocol", "2k"), "no such protocol; got '2k'"),
        (("--split", "dev"), "the corpus has no split 'dev'; got test, val"),
        (("--captions", "6"), "no image of the corpus has 6 captions"),
        (("-k", "0"), "-k takes whole numbers above 0"),
    ],
)
def test_retrieval_says_what_it_cannot_measure(
    run: Run, captions: Corpus, arguments: tuple[str, str], message: str
) -> None:
    assert message in run("retrieval", captions.folder, "--encoder", "triplets", *arguments).error


def test_other_captions_are_scored_beside_the_own_ones(run: Run, corpus: Corpus, captions: Corpus) -> None:
    asked = ("simat", corpus.folder, "--encoder", "triplets", "--composer", "pdv,pdv:other", "--scale", "1", "--json")
    found = run(*asked, "--bank", captions.folder).json
    first, second = found["tables"]["simat"][0], found["tables"]["simat"][2]
    assert (first["Method"], second["Method"]) == ("pdv", "pdv, other captions")
    assert first["n = 1"] == second["n = 1"] == pytest.approx(100)
    assert "there are no captions of another corpus; give a corpus with --bank" in run(*asked).error
    whole = run("table", "composers", corpus.folder, "--encoder", "triplets", "--bank", captions.folder, "--json").json
    rows = {(row["Method"], row["Captions"]) for row in whole["tables"]["composers"]}
    assert {("pdv", "own"), ("pdv", captions.folder.name), ("slerp", None)} <= rows
