"""From regions to a corpus, and from the release to a corpus, by the command line and by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from building import Recorder, contents, here, simat
from corpora import region, regions, released, small_release
from genomes import genome, relationship, thing
from helpers import blotches
from hypothesis import given
from hypothesis import strategies as st

from data.corpus import Corpus, CorpusError
from data.regions import Region, Triplet
from data.simat.build import Options, Sources, build_corpus, select
from data.simat.importing import import_release

SOURCE = [(s, r, o) for s in ("dog", "cat", "man") for r in ("sitting on a", "leaning on") for o in ("bed", "chair")]


@pytest.fixture
def annotated() -> list[Region]:
    """Eight regions of each triplet, two to an image, all of one triplet's images apart from the others'."""
    pool = regions(*SOURCE, copies=8)
    return [region(r.region_id, r.triplet, (r.region_id - 1) // 2) for r in pool]


@pytest.fixture
def images(tmp_path: Path, annotated: list[Region]) -> Path:
    """Their images, in the two folders of Visual Genome; one is missing, one is damaged, one too small."""
    for folder in ("VG_100K", "VG_100K_2"):
        (tmp_path / "vg" / folder).mkdir(parents=True)
    for image_id in {r.image_id for r in annotated}:
        path = tmp_path / "vg" / ("VG_100K" if image_id % 2 else "VG_100K_2") / f"{image_id}.jpg"
        blotches(image_id, (100, 80) if image_id != 9 else (40, 40)).save(path)
    (tmp_path / "vg" / "VG_100K" / "7.jpg").unlink()
    (tmp_path / "vg" / "VG_100K_2" / "8.jpg").write_bytes(b"\xff\xd8\xff no picture")
    return tmp_path / "vg"


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return Corpus(folder, "simat").table(name).to_pylist()


def test_built_corpus_holds_what_its_columns_say(tmp_path: Path, annotated: list[Region]) -> None:
    counts = build_corpus(annotated, tmp_path / "corpus")
    found, triplets, queries = (rows(tmp_path / "corpus", name) for name in ("regions", "triplets", "queries"))

    assert [t["caption"] for t in triplets] == sorted(t["caption"] for t in triplets)
    assert {(t["subj"], t["rel"], t["obj"]) for t in triplets} == set(SOURCE)
    assert [t["norm"] for t in triplets] == [4] * 12  # two other subjects, one relation, one object
    assert [(r["caption_id"], r["region_id"]) for r in found] == sorted(
        (r["caption_id"], r["region_id"]) for r in found
    )
    assert sorted(r["matrix_row"] for r in found) == [*range(len(found))]
    assert counts["queries"] == len(queries) == 12 * 4 * 5
    assert [q["transfo_id"] for q in queries] == [*range(len(queries))]
    values = Counter(q["value"] for q in queries)
    for query in queries:
        source, own = triplets[query["query_ids"]], found[query["dataset_id"]]
        goal = {**source, query["field"]: query["target"]}
        assert own["region_id"] == query["region_id"]
        assert own["caption_id"] == query["query_ids"]
        assert source[query["field"]] == query["value"]
        assert all(triplets[query["target_ids"]][f] == goal[f] for f in ("subj", "rel", "obj"))
        assert query["norm2"] == values[query["value"]]
        assert query["is_test"] == own["is_test"]
    for domain in (True, False):
        assert sum(q["weight"] for q in queries if q["is_test"] == domain) == pytest.approx(1)


def test_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path, annotated: list[Region]) -> None:
    for name, seed, pool in (("a", 3, annotated), ("b", 3, annotated), ("c", 4, annotated)):
        build_corpus(pool, tmp_path / name, Options(seed=seed))

    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert rows(tmp_path / "a", "queries") != rows(tmp_path / "c", "queries")


def test_split_by_image_keeps_an_image_in_one_domain(tmp_path: Path, annotated: list[Region]) -> None:
    leaking = {}
    for split in ("image", "region"):
        build_corpus(annotated, tmp_path / split, Options(split=split))
        domains: dict[int, set[bool]] = {}
        for row in rows(tmp_path / split, "regions"):
            domains.setdefault(row["image_id"], set()).add(row["is_test"])
        leaking[split] = sum(len(domain) == 2 for domain in domains.values())

    assert leaking["image"] == 0 < leaking["region"]


def test_given_captions_and_provenance_are_kept(tmp_path: Path, annotated: list[Region]) -> None:
    source = tmp_path / "words.json"
    source.write_text("{}")
    given = {SOURCE[0]: "Ein Hund im Bett.", ("cow", "x", "y"): "unused"}
    build_corpus(
        annotated, tmp_path / "corpus", Options(seed=5), Sources([source], captions=given, counts={"read": 96})
    )
    manifest = Corpus(tmp_path / "corpus").manifest

    assert "Ein Hund im Bett." in {t["caption"] for t in rows(tmp_path / "corpus", "triplets")}
    assert manifest.counts["read"] == 96
    expected = {"rule": "release", "split": "image", "seed": 5, "oracle": "annotation", "captions given": 1}
    assert {name: manifest.provenance[name] for name in expected} == expected
    assert manifest.provenance["sources"] == {
        "words.json": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    }


def test_matrix_of_an_unfiltered_corpus_filters_its_rebuild(tmp_path: Path, annotated: list[Region]) -> None:
    build_corpus(annotated, tmp_path / "all", oracle="none")
    shown = rows(tmp_path / "all", "regions")
    matrix = np.zeros((len(shown), 12))
    for row in shown:
        if row["region_id"] % 2:  # the others show nothing that the oracle knows
            matrix[row["matrix_row"], row["caption_id"]] = 1
    np.save(tmp_path / "scores.npy", matrix)
    build_corpus(annotated, tmp_path / "kept", oracle=tmp_path / "scores.npy")

    every, kept = rows(tmp_path / "all", "queries"), rows(tmp_path / "kept", "queries")
    assert [q["transfo_id"] for q in kept] == [q["transfo_id"] for q in every if q["region_id"] % 2]
    assert Corpus(tmp_path / "kept").manifest.provenance["oracle"] == "scores.npy"
    np.save(tmp_path / "scores.npy", matrix * 0)
    with pytest.raises(CorpusError, match="no query passes the oracle; got 240 candidates"):
        build_corpus(annotated, tmp_path / "none", oracle=tmp_path / "scores.npy")
    assert not (tmp_path / "none").exists()


def test_crops_are_cut_and_bad_images_reported(tmp_path: Path, annotated: list[Region], images: Path) -> None:
    recorder = Recorder.new()
    counts = build_corpus(annotated, tmp_path / "corpus", sources=Sources(images=images), progress=recorder)
    found = rows(tmp_path / "corpus", "regions")

    rejected = {row["image_id"]: row["reason"] for row in rows(tmp_path / "corpus", "rejected")}
    assert rejected.keys() == {7, 8, 9}
    assert rejected[7] == "no file"
    assert "outside the image" in rejected[9]
    assert (counts["images missing"], counts["images unreadable"]) == (1, 2)
    assert len(recorder.notes) == 3
    for row in found:
        assert (row["image"] is None) == (row["image_id"] in rejected)
        assert row["image"] is None or (tmp_path / "corpus" / "images" / row["image"]).is_file()
    assert counts["crops"] == sum(row["image"] is not None for row in found) > 80


def test_regions_that_make_no_corpus_are_refused(tmp_path: Path, annotated: list[Region]) -> None:
    with pytest.raises(CorpusError, match="two regions have one id; got 1"):
        build_corpus([*annotated, annotated[0]], tmp_path / "corpus")
    with pytest.raises(CorpusError, match="no triplet passes the rule; got 3 regions"):
        build_corpus(annotated[:3], tmp_path / "corpus")
    with pytest.raises(CorpusError, match="no triplet passes the rule; got 0 regions"):
        build_corpus([], tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_existing_folder_is_never_overwritten(tmp_path: Path, annotated: list[Region]) -> None:
    build_corpus(annotated, tmp_path / "corpus")
    before = contents(tmp_path / "corpus")

    with pytest.raises(CorpusError, match="there is something here already"):
        build_corpus(annotated, tmp_path / "corpus", Options(seed=1))
    with pytest.raises(CorpusError, match="there is something here already"):
        import_release(small_release(tmp_path / "release"), tmp_path, tmp_path / "corpus")
    assert contents(tmp_path / "corpus") == before


def test_released_corpus_is_imported_row_by_row(tmp_path: Path) -> None:
    ran = simat("data", "simat", "import", released(), tmp_path, tmp_path / "corpus", "--json")
    counts, notes = ran.json, [record["note"] for record in ran.progress if "note" in record]
    queries = pq.read_table(tmp_path / "corpus" / "queries.parquet")

    expected = {"triplets": 645, "regions": 5_859, "images": 4_958, "queries": 17_996, "queries dev": 8_933,
                "queries test": 9_063, "queries subj": 3_753, "queries rel": 478, "queries obj": 13_765}  # fmt: skip
    assert {name: counts[name] for name in expected} == expected
    assert queries.slice(0, 1).to_pylist()[0] | {"weight": 0} == {
        "transfo_id": 3, "region_id": 61, "field": "obj", "value": "pillow", "target": "rug", "norm": 26,
        "query_ids": 203, "target_ids": 204, "dataset_id": 1642, "norm2": 220, "is_test": True, "weight": 0,
    }  # fmt: skip
    assert queries["transfo_id"].to_pylist()[-1] == 39_666
    assert sum("the release lacks" in note for note in notes) == 2
    assert {*Corpus(tmp_path / "corpus").manifest.provenance["tensors"]} == {
        "words.safetensors", "head_clip_t=0.1.safetensors",
    }  # fmt: skip


def test_release_with_its_matrix_and_images_is_imported_by_the_command(tmp_path: Path, capsys: Any) -> None:
    import torch
    from safetensors.numpy import load_file

    folder = small_release(tmp_path / "release")
    torch.save(torch.arange(10).reshape(5, 2) / 10, folder / "simat_db" / "oscar_similarity_matrix.pt")
    for image_id in (1, 2, 3):
        blotches(image_id, (40, 30)).save(tmp_path / f"{image_id}.jpg")
    found = here(capsys, "data", "simat", "import", folder, tmp_path, tmp_path / "corpus", "--json").json

    assert (found["crops"], found["images missing"], found["queries"]) == (4, 1, 3)
    assert load_file(tmp_path / "corpus" / "oracle.safetensors")["probabilities"][4, 1] == np.float32(0.9)
    assert [r["image"] for r in rows(tmp_path / "corpus", "regions")] == ["10.jpg", None, "1.jpg", "2.jpg", "3.jpg"]


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (
            "transfos.csv",
            "5,5,2,subj,dog,cat,1,1,0,3,2,False\n",
            "",
            "norm2 of transfos.csv is not what.*got 1 differing",
        ),
        ("transfos.csv", "dog,cat,1,1,0", "dog,cat,7,1,0", "norm of transfos.csv is not what.*got 1 differing"),
        ("transfos.csv", "dog,cat,1,1,0", "dog,cow,1,1,0", "asks for triplets that triplets.csv lacks"),
        ("triplets.csv", "3,dog,sitting on a,bed,4\n", "", None),
        ("triplets.csv", "1,dog,sitting on a,bed,2\n", "", "dataset_id of transfos.csv is not what.*got 2 differing"),
        ("triplets.csv", "bed,0", "bed,9", "dataset_id of triplets.csv is not what the other files"),
    ],
)
def test_release_whose_files_do_not_fit_is_refused(
    tmp_path: Path, name: str, old: str, new: str, message: str | None
) -> None:
    folder = small_release(tmp_path / "release")
    path = folder / "simat_db" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))

    if message is None:  # the last rows lack nothing that another file knows of
        assert import_release(folder, tmp_path, tmp_path / "corpus")["regions"] == 4
        return
    with pytest.raises(CorpusError, match=message):
        import_release(folder, tmp_path, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "year"], "no such split; got 'year'; use image or region"),
        (["--captions", "none.csv"], "none.csv is missing; got ."),
    ],
)
def test_build_command_refuses_bad_options_in_one_line(
    tmp_path: Path, capsys: Any, options: list[str], message: str
) -> None:
    assert here(capsys, "data", "simat", "build", tmp_path, tmp_path / "out", *options).error == message


def test_build_command_writes_captions_of_a_release_or_of_a_table(tmp_path: Path, capsys: Any) -> None:
    pairs = [(s, r) for s in ("dog", "cat") for r in ("sitting on", "laying in") for _ in range(2)]
    made = genome(
        {
            number: [
                relationship(
                    number, thing(2 * number, s, (0, 0, 99, 99)), r, thing(2 * number + 1, "bed", (9, 9, 99, 99))
                )
            ]
            for number, (s, r) in enumerate(pairs, 1)
        }
    )
    source = made.write(tmp_path / "genome")
    release = small_release(tmp_path / "release")
    lines = release / "simat_db" / "captions.txt"
    lines.write_text("A cat, seated.\nA dog, seated.\n")
    table = tmp_path / "captions.csv"
    table.write_text("subj,rel,obj,caption\ncat,laying in,bed,A cat at rest.\n")

    expected = {
        release: ["A cat laying in a bed.", "A cat, seated.", "A dog laying in a bed.", "A dog, seated."],
        table: ["A cat at rest.", "A cat sitting on a bed.", "A dog laying in a bed.", "A dog sitting on a bed."],
    }
    for number, (path, captions) in enumerate(expected.items()):
        out = tmp_path / f"corpus{number}"
        found = here(
            capsys, "data", "simat", "build", source, out, "--captions", path, "--rule", "paper", "--json"
        ).json
        assert [t["caption"] for t in rows(out, "triplets")] == captions
        assert (found["triplets"], found["queries"], found["images missing"]) == (4, 16, 8)
        assert Corpus(out).manifest.provenance["rule"] == "paper"


@given(st.lists(st.tuples(st.sampled_from(SOURCE), st.integers(1, 5)), max_size=40))
def test_any_regions_give_consistent_queries_or_an_error(drawn: list[tuple[Triplet, int]]) -> None:
    pool = [region(number, triplet, image) for number, (triplet, image) in enumerate(drawn)]
    try:
        data, _ = select(pool, Options(), {}, "annotation")
    except CorpusError as error:
        assert "no triplet passes" in str(error) or "no query passes" in str(error)
        return
    shown = {(r.image_id, r.triplet) for r in pool}
    assert len(data.numbers) == len(data.queries) > 0
    assert {q.region for q in data.queries} <= set(data.regions) <= set(pool)
    for query in data.queries:
        assert {query.region.triplet, query.goal} <= data.captions.keys()
        assert (query.region.image_id, query.goal) not in shown  # all crops of these images are one
