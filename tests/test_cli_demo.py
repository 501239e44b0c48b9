"""The demonstration: photographs that come in packages, indexed, searched, edited, drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from building import simat
from PIL import Image

from simat.cli.demo import packaged_photos
from simat.errors import SimatError


def test_demo_indexes_answers_and_draws(tmp_path: Path) -> None:
    document = simat("demo", "--out", tmp_path / "demo", "--json").json
    assert document["images"] == 10
    first = {answer["command"].split('"')[1]: Path(answer["results"][0]["path"]).stem for answer in document["answers"]}
    assert (first["an espresso"], first["cat -> flower"], first["coffee -> cat"]) == ("coffee", "flower", "chelsea")
    with Image.open(document["sheet"]) as sheet:
        assert sheet.format == "PNG" and sheet.width > 1000


def test_demo_on_a_folder_without_photographs_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = simat("demo", "--out", tmp_path / "demo", "--photos", tmp_path / "empty")
    assert ran.error == f"no image files here; got {tmp_path / 'empty'}"


def test_demo_without_the_packages_says_what_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SimatError, match=r"no photographs to show; give --photos DIR, or pip install scikit-image"):
        packaged_photos(tmp_path / "photos")
