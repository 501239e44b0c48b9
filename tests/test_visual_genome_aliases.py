"""Names: cleaned, and one that stands for those that mean the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from genomes import released_regions
from hypothesis import given
from hypothesis import strategies as st

from data.corpus import CorpusError
from data.simat.vocabulary import RELATIONS, SUBJECTS
from data.visual_genome.aliases import (
    MAX_NAME,
    OBJECT_GROUPS,
    RELATION_GROUPS,
    alias_table,
    clean_name,
    object_aliases,
    read_alias_file,
    relation_aliases,
)

_WORDS = st.sampled_from("abcdefgh")
_GROUPS = st.lists(st.lists(_WORDS, max_size=4), max_size=6)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("  Cell \t\n Phone ", "cell phone"),
        ("CAFÉ", "café"),
        ("x" * MAX_NAME, "x" * MAX_NAME),
        ("x" * (MAX_NAME + 1), None),
        ("x" * 10**7, None),
        ("ca\0t", None),
        ("\u200b", None),
        ("cat\ud800", None),
        ("   ", None),
        ("", None),
        (None, None),
        (7, None),
        (["cat"], None),
    ],
    ids=lambda value: repr(value)[:12],
)
def test_clean_name_gives_plain_words_or_nothing(raw: object, name: str | None) -> None:
    assert clean_name(raw) == name


@given(st.text())
def test_clean_name_of_a_clean_name_is_itself(text: str) -> None:
    name = clean_name(text)
    assert name is None or clean_name(name) == name


@given(_GROUPS, st.sets(_WORDS, max_size=3))
def test_aliases_looked_up_twice_are_looked_up_once(groups: list[list[str]], keep: set[str]) -> None:
    table = alias_table(groups, keep)
    assert all(table[standing] == standing for standing in table.values())
    assert all(table[word] == word for word in keep)
    assert table.keys() == keep.union(*groups)


@given(_GROUPS, st.sets(_WORDS, max_size=3))
def test_aliases_stand_for_names_that_a_chain_of_groups_joins(groups: list[list[str]], keep: set[str]) -> None:
    joined = {word: {word} for word in "abcdefgh"}
    for group in groups:
        everyone = set().union(*(joined[word] for word in group)) if group else set()
        for word in everyone:
            joined[word] = everyone
    assert all(standing in joined[name] for name, standing in alias_table(groups, keep).items())


def test_aliases_prefer_the_first_group_and_the_words_to_keep() -> None:
    groups = [["person", "people", "man"], ["bench", "seat"], ["seat", "chair"]]
    assert alias_table(groups, ("man", "people")) == {
        "man": "man",
        "people": "people",
        "person": "people",
        "bench": "bench",
        "seat": "bench",
        "chair": "bench",
    }


def test_aliases_of_relations_stand_for_the_vocabulary() -> None:
    assert {group[0] for group in RELATION_GROUPS} <= set(RELATIONS)
    names = [name for group in RELATION_GROUPS for name in group]
    assert len(set(names)) == len(names)


def test_object_pairs_are_what_the_release_shows() -> None:
    regions = released_regions()
    objects = {region.object for region in regions}
    for standing, alias in OBJECT_GROUPS:
        assert standing in objects, standing
        assert alias not in objects, alias
    assert {"couch", "sofa", "bike", "bicycle", "rug", "carpet", "rock", "rocks"} <= objects


def test_alias_file_is_read_leniently(tmp_path: Path) -> None:
    path = tmp_path / "object_alias.txt"
    path.write_bytes("\ufeffTable, desk ,,\r\n\r\nca\0t\r\nsofa,Couch\r\n".encode())
    assert read_alias_file(path) == [["table", "desk"], ["sofa", "couch"]]


def test_alias_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "relationship_alias.txt"
    path.write_bytes(b"on,\xff\n")
    with pytest.raises(CorpusError, match=r"cannot read .*relationship_alias.txt: no UTF-8 text; leave the file out"):
        relation_aliases(tmp_path, RELATIONS)
    path.unlink()
    path.mkdir()
    with pytest.raises(CorpusError, match="cannot read"):
        relation_aliases(tmp_path, RELATIONS)


def test_alias_files_add_to_our_own_groups(tmp_path: Path) -> None:
    assert "perched on" not in relation_aliases(tmp_path, RELATIONS)
    (tmp_path / "relationship_alias.txt").write_text("perched on,sitting on a\nlaying in,lays in\n")
    (tmp_path / "object_alias.txt").write_text("airplane,jet\ncat,kitty\n")
    relations = relation_aliases(tmp_path, RELATIONS)
    assert (relations["perched on"], relations["sitting on"], relations["lays in"]) == (
        "sitting on a",
        "sitting on a",
        "laying in",
    )
    objects = object_aliases(tmp_path, SUBJECTS, official=True)
    assert (objects["airplane"], objects["jet"], objects["kitty"]) == ("plane", "plane", "cat")
    assert "jet" not in object_aliases(tmp_path, SUBJECTS, official=False)
