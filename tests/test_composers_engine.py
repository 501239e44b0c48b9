"""Composers through the engine and the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import colour_plugin, here, plugged_in
from composing import CAPTIONED, MIXED
from helpers import COLOURS, ColourEncoder, colour_pictures, save_pictures

import simat
from indexing.build import build_index
from indexing.config import BuildConfig, Machine
from simat.cli.edit import COMPOSER_HELP
from simat.cli.search import COMPOSER_HELP as SEARCH_HELP
from simat.composers import COMPOSERS
from simat.encoders import load_encoder
from simat.engine import Engine
from simat.errors import QueryError
from simat.types import Query

CAPTIONS = [*COLOURS, "nothing at all"]


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Colour photos, their index, and a text file in which every colour describes itself."""
    place = tmp_path_factory.mktemp("composers")
    save_pictures(place / "photos", colour_pictures())
    (place / "texts.txt").write_text("# colours\n" + "\n".join([*CAPTIONS, "{}"]))
    with plugged_in(colour_plugin(place / "site")):
        config = BuildConfig(str(place / "photos"), encoder="colours")
        build_index(place / "index", config, Machine(workers=1), encoder=load_encoder("colours"))
        yield place


@pytest.fixture
def engine(place: Path) -> Engine:
    return simat.open(place / "index", ColourEncoder(), texts=place / "texts.txt")


def names(results: Any) -> list[str]:
    return [Path(r["path"] if isinstance(r, dict) else r.path).name for r in results]


@pytest.mark.parametrize("composer", [name for name in COMPOSERS if name not in ("image", "product", "basic")])
def test_vectors_find_the_other_colour(engine: Engine, place: Path, composer: str) -> None:
    scale = 1e6 if composer in MIXED[:2] else 3.0
    answer = engine.edit(place / "photos" / "red.png", "red -> blue", composer=composer, scale=scale, k=5)
    assert names(answer)[0] == "blue.png"
    scores = [result.score for result in answer]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("composer", ["delta", "sentence_delta", "weighted", "slerp", "product"])
def test_scale_0_returns_the_images_own_neighbours(engine: Engine, place: Path, composer: str) -> None:
    for photo in ("red.png", "blotch_04.png"):
        edited = engine.edit(place / "photos" / photo, "red -> blue", composer=composer, scale=0.0, k=20)
        assert names(edited) == names(engine.search(image=place / "photos" / photo, k=20))


@pytest.mark.parametrize("composer", [*COMPOSERS])
def test_the_query_image_is_no_answer_unless_asked_for(engine: Engine, place: Path, composer: str) -> None:
    photo = place / "photos" / "green.png"
    everything = names(engine.edit(photo, "green -> red", composer=composer, k=23, include_self=True))
    without = names(engine.edit(photo, "green -> red", composer=composer, k=23))
    assert without == [name for name in everything if name != "green.png"]
    assert len(everything) == 23


@pytest.fixture(scope="module")
def twins(place: Path, build: Any) -> tuple[Engine, Engine]:
    """The same pictures in one shard and in several."""
    folders = [build(place / "photos", ColourEncoder(), **sizes) for sizes in ({}, {"shard_size": 5, "part_size": 7})]
    whole, other = (simat.open(folder, ColourEncoder(), texts=[*CAPTIONS, "a {}"]) for folder in folders)
    return whole, other


@pytest.mark.parametrize("composer", [name for name in COMPOSERS if name != "text"])
def test_answers_do_not_depend_on_shards_and_parts(twins: tuple[Engine, Engine], composer: str) -> None:
    whole, other = twins
    for id in (0, 9, 20):
        one, two = (e.edit(id, "red -> blue", k=8, composer=composer) for e in (whole, other))
        assert [r.id for r in one] == [r.id for r in two]
        np.testing.assert_allclose([r.score for r in one], [r.score for r in two], atol=1e-5)


def test_captions_of_the_index_are_the_bank(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.embeddings, "captions", lambda: iter(["blue", None, "", "red", "blue"]))
    monkeypatch.setattr(engine, "_given", None)
    assert engine.background.bank.texts == ("blue", "red")


def test_captions_are_read_in_the_order_of_ids(engine: Engine) -> None:
    assert [*engine.embeddings.captions()] == [None] * len(engine)


def test_search_for_an_image_and_words_together(engine: Engine, place: Path) -> None:
    photo = place / "photos" / "red.png"
    for composer in ("weighted", "slerp"):
        near, far = (engine.search("blue", image=photo, composer=composer, scale=s, k=1) for s in (0.01, 50.0))
        assert names(near) != names(far) == ["blue.png"]
    for composer in ("product", "basic"):
        near, far = (engine.search("blue", image=photo, composer=composer, scale=s, k=20) for s in (0.0, 4.0))
        assert names(near) != names(far)
    assert names(engine.answer(Query(image=photo, text="blue", composer="weighted", scale=0.0, k=3))) == names(
        engine.search(image=photo, k=3)
    )


def test_search_for_both_needs_a_composer(engine: Engine) -> None:
    with pytest.raises(QueryError, match="search for words or for an image; got both; to search for both, name a comp"):
        engine.search("red", image=0)


@pytest.mark.parametrize("composer", CAPTIONED)
def test_an_index_without_captions_says_so(place: Path, composer: str) -> None:
    with pytest.raises(QueryError, match="there are no captions to describe the image with; give some with --texts"):
        simat.open(place / "index", ColourEncoder()).edit(0, "red -> blue", composer=composer)


@pytest.mark.parametrize("composer", [*COMPOSERS])
def test_edit_takes_every_composer(place: Path, capsys: Any, composer: str) -> None:
    photo = place / "photos" / "red.png"
    ran = here(capsys, "edit", place / "index", photo, "red -> blue", "--composer", composer, "--texts",
               place / "texts.txt", "--scale", "3", "-k", "3", "--json")  # fmt: skip
    assert (ran.json["composer"], ran.json["scale"]) == (composer, 3.0)
    engine = simat.open(place / "index", ColourEncoder(), texts=place / "texts.txt")
    answer = engine.edit(photo, "red -> blue", composer=composer, scale=3.0, k=3)
    assert names(ran.json["results"]) == names(answer)


def test_search_takes_an_image_words_and_a_composer(place: Path, capsys: Any) -> None:
    photo = place / "photos" / "red.png"
    ran = here(capsys, "search", place / "index", "blue", "--image", photo, "--composer", "weighted",
               "--scale", "50", "-k", "1", "--json")  # fmt: skip
    assert names(ran.json["results"]) == ["blue.png"]
    assert (ran.json["composer"], ran.json["scale"]) == ("weighted", 50.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["edit", "INDEX", "0", "- red", "--composer", "slerp"],
            "the composer 'slerp' searches for words and can remo",
        ),
        (["edit", "INDEX", "0", "a -> b", "--composer", "pdv"], "there are no captions to describe the image with; gi"),
        (["edit", "INDEX", "0", "a -> b", "--texts", "/no.txt"], "cannot read the texts: No such file or directory; "),
        (
            ["edit", "INDEX", "0", "a -> b", "--composer", "basic", "--scale", "-1"],
            "the composer 'basic' needs a scale",
        ),
        (["search", "INDEX", "a", "--image", "0", "--composer", "delta"], "the composer 'delta' needs edits; write"),
    ],
)
def test_what_a_composer_cannot_do_is_one_line(place: Path, capsys: Any, arguments: list[str], message: str) -> None:
    ran = here(capsys, *(str(place / "index") if a == "INDEX" else a for a in arguments))
    assert ran.error.startswith(message)


def test_help_names_every_composer() -> None:
    named = COMPOSER_HELP.partition(": ")[2].rstrip(".").replace(" or ", ", ").split(", ")
    assert named == [*COMPOSERS]
    assert SEARCH_HELP.partition(": ")[2].rstrip(".").replace(" or ", ", ").split(", ") == [*MIXED]
