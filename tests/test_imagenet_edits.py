"""Editing queries on ImageNet: Table A.1 as a table, queries drawn by the protocol, and the authors' own queries."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpus import CorpusError
from data.imagenet_classes import imagenet_classes, imagenet_clusters, sources_of
from data.imagenet_edits import EditQuery, check_queries, draw_queries, read_queries, scan_validation, write_queries

BOTH = {c.name: c for c in imagenet_classes()}
FULL = {"queries": 2184, "dev": 1092, "test": 1092, "classes": 273, "images": 2184}
QUERY = EditQuery("n02391049/zebra_1.JPEG", "zebra", 340, "sorrel", 339, False)


def validation(per_class: int = 50) -> dict[str, list[str]]:
    """Paths as in a folder of ImageNet's validation images."""
    return {c.name: [f"{c.wnid}/val_{n:02}.JPEG" for n in range(per_class)] for c in imagenet_classes()}


@pytest.fixture(scope="module")
def drawn() -> list[EditQuery]:
    return draw_queries(validation(), np.random.default_rng(0))


@pytest.fixture(scope="module")
def authors() -> list[EditQuery]:
    path = SHARED / "specs" / "imagenet_edit_queries.csv"
    if not path.is_file():
        pytest.skip("the authors' queries are not here")
    return read_queries(path)


def test_the_table_has_the_classes_clusters_and_groups_of_the_thesis() -> None:
    clusters = imagenet_clusters()
    assert (len(imagenet_classes()), len(clusters), len({c.group for c in clusters})) == (273, 47, 13)
    assert len({(c.group, c.name) for c in clusters}) == 47
    assert all(len(c.classes) >= 2 and len(set(c.classes)) == len(c.classes) for c in clusters)


def test_the_table_holds_every_class_once_but_the_minivan() -> None:
    homes = Counter(name for cluster in imagenet_clusters() for name in cluster.classes)
    assert {name: count for name, count in homes.items() if count > 1} == {"minivan": 2}
    assert [c.name for c in imagenet_clusters() if "minivan" in c.classes] == ["car", "truck"]


def test_the_table_names_the_classes_as_imagenet_does() -> None:
    spec = find_spec("timm")  # where it is, without the seconds that its import takes
    assert spec is not None
    assert spec.origin is not None
    info = Path(spec.origin).parent / "data" / "_info"
    synsets = (info / "imagenet_synsets.txt").read_text("utf-8").split()
    lemmas = dict(
        line.split("\t", 1) for line in (info / "imagenet_synset_to_lemma.txt").read_text("utf-8").splitlines()
    )
    assert all(synsets[c.index] == c.wnid for c in imagenet_classes())
    assert all(c.name in [lemma.strip() for lemma in lemmas[c.wnid].split(",")] for c in imagenet_classes())


@pytest.mark.parametrize(
    ("target", "sources"),
    [
        ("zebra", {"sorrel"}),
        ("gorilla", {"chimpanzee", "orangutan"}),
        (
            "tow truck",
            {"minivan", "police van", "fire engine", "garbage truck", "pickup", "trailer truck", "school bus"},
        ),
        ("steam locomotive", {"electric locomotive"}),
    ],
)
def test_sources_of_a_class_are_the_others_of_its_cluster(target: str, sources: set[str]) -> None:
    assert set(sources_of()[target]) == sources


def test_sources_of_the_minivan_come_from_both_its_clusters() -> None:
    car, truck = (set(c.classes) for c in imagenet_clusters() if "minivan" in c.classes)
    assert set(sources_of()["minivan"]) == (car | truck) - {"minivan"}
    assert car & truck == {"minivan"}


def test_sources_are_symmetric_and_never_the_class_itself() -> None:
    pairs = {(source, target) for target, sources in sources_of().items() for source in sources}
    assert pairs == {(target, source) for source, target in pairs}
    assert all(source != target for source, target in pairs)
    assert len(pairs) == 1540


def test_the_authors_queries_follow_the_protocol_and_our_clusters(authors: list[EditQuery]) -> None:
    assert check_queries(authors).items() >= FULL.items()
    allowed = sum(q.source in sources_of()[q.target] for q in authors)
    assert allowed / len(authors) == 1.0


def test_the_authors_queries_use_every_class_of_the_table(authors: list[EditQuery]) -> None:
    assert {q.target for q in authors} == {q.source for q in authors} == BOTH.keys()


def test_the_authors_queries_draw_source_classes_with_replacement(authors: list[EditQuery]) -> None:
    pairs = Counter((q.source, q.target) for q in authors)
    assert max(pairs.values()) == 8  # a cluster of two
    large = [q for q in authors if len(sources_of()[q.target]) >= 8]
    assert len({(q.source, q.target) for q in large}) < len(large)


def test_drawn_queries_have_the_structure_of_the_authors(drawn: list[EditQuery], authors: list[EditQuery]) -> None:
    ours, theirs = check_queries(drawn), check_queries(authors)
    assert ours.items() >= FULL.items()
    assert abs(ours["pairs"] - theirs["pairs"]) < 60  # theirs 1,135; ours 1,147 to 1,178 over eight seeds


def test_drawn_queries_are_full_and_pass_the_check(drawn: list[EditQuery]) -> None:
    assert check_queries(drawn).items() >= FULL.items()
    assert [q.target_id for q in drawn] == sorted(q.target_id for q in drawn)


def test_draw_depends_on_the_seed_and_on_nothing_else(drawn: list[EditQuery]) -> None:
    shuffled = {name: paths[::-1] for name, paths in reversed(validation().items())}
    assert draw_queries(shuffled, np.random.default_rng(0)) == drawn
    assert draw_queries(validation(), np.random.default_rng(1)) != drawn


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_drawn_splits_are_disjoint_in_images_and_complete(seed: int) -> None:
    queries = draw_queries(validation(), np.random.default_rng(seed))
    dev, test = ({q.path for q in queries if q.is_test is split} for split in (False, True))
    assert not dev & test
    assert len(dev) == len(test) == 1092
    assert set(Counter(q.target for q in queries if q.is_test).values()) == {4}


def test_draw_without_images_of_a_class_names_it() -> None:
    images = {name: paths for name, paths in validation().items() if name != "zebra"}
    with pytest.raises(CorpusError, match="1 of the 273 classes have no images; got zebra"):
        draw_queries(images, np.random.default_rng(0))


def test_draw_with_too_few_images_says_which_cluster() -> None:
    with pytest.raises(CorpusError, match=r"too few images in the cluster of .*; give all 50 validation images"):
        draw_queries(validation(per_class=2), np.random.default_rng(0))


def test_queries_survive_a_file(drawn: list[EditQuery], tmp_path: Path) -> None:
    write_queries(tmp_path / "queries.csv", drawn)
    assert read_queries(tmp_path / "queries.csv") == drawn
    header = (tmp_path / "queries.csv").read_text().splitlines()[0]
    assert header == ",path,source,source_id,target,target_id,is_test"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "unicorn"}, "not among the 273; got 'unicorn'"),
        ({"source_id": 341}, "the number of 'zebra' is 340; got 341"),
        ({"path": "n02123045/cat.JPEG"}, r"an image of another class than 'zebra'; got n02123045/cat\.JPEG"),
        ({"target": "tabby", "target_id": 281}, "no cluster holds both classes; got zebra -> tabby"),
    ],
)
def test_check_of_a_query_that_breaks_the_rules_says_how(change: dict[str, object], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        check_queries([replace(QUERY, **change)])


def test_check_of_a_target_with_other_than_eight_queries_counts_them(drawn: list[EditQuery]) -> None:
    with pytest.raises(CorpusError, match="should be the target of 8 queries; got 7"):
        check_queries(drawn[1:])


def test_check_of_an_uneven_split_counts_it(drawn: list[EditQuery]) -> None:
    with pytest.raises(CorpusError, match="should be of the test set; got 5"):
        check_queries([replace(drawn[0], is_test=True), *drawn[1:]])


def test_check_of_an_image_with_two_queries_names_it() -> None:
    queries = [replace(QUERY, path=f"n02391049/{max(n, 1)}.JPEG", is_test=n % 2 == 0) for n in range(8)]
    with pytest.raises(CorpusError, match=r"an image has 2 queries; got n02391049/1\.JPEG"):
        check_queries(queries)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lack the columns path, source"),
        ("path,source\na,b\n", "lack the columns source_id, target, target_id, is_test"),
        (",path,source,source_id,target,target_id,is_test\n0,a/b,zebra,340,sorrel,339\n", "line 2 of .* lacks a value"),
        (",path,source,source_id,target,target_id,is_test\n0,a/b,zebra,x,sorrel,339,True\n", "class is none; got 'x'"),
    ],
)
def test_read_queries_of_a_wrong_file_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "queries.csv").write_text(text)
    with pytest.raises(CorpusError, match=message):
        read_queries(tmp_path / "queries.csv")


def test_read_queries_without_a_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot read the queries: No such file or directory"):
        read_queries(tmp_path / "queries.csv")


def test_scan_validation_finds_images_by_the_folders_of_their_classes(tmp_path: Path) -> None:
    for name in ("n02391049/a.JPEG", "n02391049/b.jpg", "n02391049/notes.txt", "n02389026/c.png", "n99999999/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = scan_validation(tmp_path)
    assert found == {"zebra": ["n02391049/a.JPEG", "n02391049/b.jpg"], "sorrel": ["n02389026/c.png"]}


def test_scan_validation_of_a_flat_folder_says_how_to_sort_it(tmp_path: Path) -> None:
    (tmp_path / "ILSVRC2012_val_00000001.JPEG").touch()
    with pytest.raises(CorpusError, match="sort the validation images into one folder per class"):
        scan_validation(tmp_path)


def test_scan_validation_without_a_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such folder of ImageNet images"):
        scan_validation(tmp_path / "none")


def test_queries_drawn_from_a_folder_name_images_that_are_there(tmp_path: Path) -> None:
    for each in imagenet_classes():
        (tmp_path / each.wnid).mkdir()
        for number in range(16):
            (tmp_path / each.wnid / f"ILSVRC2012_val_{number:08}.JPEG").touch()
    queries = draw_queries(scan_validation(tmp_path), np.random.default_rng(0))
    assert check_queries(queries).items() >= FULL.items()
    assert all((tmp_path / query.path).is_file() for query in queries)
