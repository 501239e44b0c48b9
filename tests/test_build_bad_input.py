"""A folder as people have them: good pictures of every kind among files that are none, through the real command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import Ran, bomb, here, simat, without_privileges
from helpers import blotches, cosines, encoded
from PIL import Image

from simat.embeddings import EmbeddingSet, ImageRow

ROTATED = 6  # EXIF: turn a quarter clockwise to see it upright
BAD = {
    "bomb.png": "more than 128 megapixels; got 20000 × 20000",
    "empty.png": "the file is empty",
    "secret.png": "cannot read the file: Permission denied; got ",
    "self.jpg": "cannot read the file: Too many levels of symbolic links; got ",
    "svg.png": "not an image in a format we read; use JPEG, PNG, ",
    "text.jpg": "not an image in a format we read; use JPEG, PNG, ",
    "truncated.jpg": "corrupt or truncated image: ",
}
NAMES = [b"a space.png", b"line\nbreak.png", b"\xff\xfe.png", "größe.png".encode()]


def cat() -> Image.Image:
    """A real photograph: the network has an opinion about it that small changes do not move."""
    from skimage import data

    return Image.fromarray(data.cat())


def few_colours() -> Image.Image:
    """A smooth picture reduced to 16 colours, as RGB."""
    return blotches(5, (300, 260)).quantize(16).convert("RGB")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people") / "photos"
    (folder / "trip" / "day 1").mkdir(parents=True)
    picture, other = cat(), blotches(2, (300, 260))
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    picture.save(folder / "upright.png")
    picture.transpose(Image.Transpose.ROTATE_90).save(folder / "rotated.png", exif=exif)
    picture.save(folder / "upright.jpg", quality=95)
    picture.transpose(Image.Transpose.ROTATE_90).save(folder / "rotated.jpg", quality=95, exif=exif)
    picture.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    few_colours().save(folder / "colours.png")
    few_colours().convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "palette.png")
    grey = np.asarray(picture.convert("L"))
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "deep.png")
    still = few_colours().convert("P", palette=Image.Palette.ADAPTIVE)
    still.save(folder / "still.gif")
    still.save(folder / "animated.gif", save_all=True, append_images=[other.convert("P")] * 3)
    for seed, name in enumerate(NAMES, 10):
        blotches(seed, (300, 260)).save(folder / "trip" / os.fsdecode(name))
    (folder / "trip" / "day 1" / "up").symlink_to(folder)
    (folder / "trip" / "copy.png").symlink_to(folder / "upright.png")
    (folder / "drawing.svg").write_text("<svg/>")
    save_bad(folder)
    return folder


def save_bad(folder: Path) -> None:
    """One file of every kind that cannot be read."""
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "empty.png").write_bytes(b"")
    (folder / "secret.png").write_bytes(encoded(blotches(3)))
    (folder / "secret.png").chmod(0)
    (folder / "self.jpg").symlink_to("self.jpg")
    (folder / "svg.png").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    (folder / "text.jpg").write_text("this is no picture")
    data = encoded(blotches(4, (300, 260)), "JPEG")
    (folder / "truncated.jpg").write_bytes(data[: len(data) // 2])


@pytest.fixture(scope="module")
def built(folder: Path) -> Ran:
    return simat("index", "build", folder, folder.parent / "index", "--json", before=without_privileges)


@pytest.fixture(scope="module")
def stored(folder: Path, built: Ran) -> dict[str, tuple[ImageRow, Any]]:
    """Row and vector of every picture, by its path."""
    assert built.code == 0, built.err
    embeddings = EmbeddingSet(folder.parent / "index" / "embeddings")
    ids = np.arange(len(embeddings))
    return {r.path: (r, v) for r, v in zip(embeddings.rows(ids), embeddings.vectors(ids), strict=True)}


def similarity(stored: dict[str, tuple[ImageRow, Any]], a: str, b: str) -> float:
    return float(cosines(stored[a][1][None], stored[b][1][None])[0])


def test_good_files_are_indexed_and_bad_ones_counted(built: Ran) -> None:
    document = built.json
    assert (document["images"], document["duplicates"], document["rejected"]) == (16, 1, 7)
    assert "Traceback" not in built.err


def test_bad_files_are_listed_with_their_reason(folder: Path, built: Ran, capsys: Any) -> None:
    document = here(capsys, "index", "info", folder.parent / "index", "--json").json
    listed = {item["path"]: item["reason"] for item in document["rejected_files"]}
    assert listed.keys() == BAD.keys()
    assert {name: reason.startswith(BAD[name]) for name, reason in listed.items()} == dict.fromkeys(BAD, True)
    assert document["reasons"]["not an image in a format we read"] == 2
    assert sum(document["reasons"].values()) == document["rejected"] == 7


def test_names_of_any_bytes_survive_the_index(folder: Path, stored: dict[str, Any]) -> None:
    names = sorted(os.fsencode(path) for path in stored if path.startswith("trip/"))
    assert names == sorted([b"trip/copy.png", *(b"trip/" + name for name in NAMES)])
    assert all((folder / path).is_file() for path in stored)


def test_a_rotated_photo_is_the_upright_one(stored: dict[str, Any]) -> None:
    assert similarity(stored, "rotated.png", "upright.png") > 0.99999
    assert similarity(stored, "rotated.jpg", "upright.jpg") > 0.995
    for name in ("rotated.png", "rotated.jpg", "upright.png"):
        assert (stored[name][0].width, stored[name][0].height) == (451, 300)


@pytest.mark.parametrize(
    ("special", "plain"),
    [
        ("palette.png", "colours.png"),
        ("deep.png", "grey.png"),
        ("animated.gif", "still.gif"),
        ("still.gif", "colours.png"),
        ("trip/copy.png", "upright.png"),
    ],
)
def test_special_files_are_the_plain_ones(stored: dict[str, Any], special: str, plain: str) -> None:
    assert similarity(stored, special, plain) > 0.99999


def test_cmyk_is_nearly_rgb(stored: dict[str, Any]) -> None:
    assert similarity(stored, "cmyk.jpg", "upright.jpg") > 0.95


def test_a_folder_of_folders_is_no_picture_folder(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "photos" / "a" / "b").mkdir(parents=True)
    ran = here(capsys, "index", "build", tmp_path / "photos", tmp_path / "index")
    assert ran.error == f"no image files here; got {tmp_path / 'photos'}"
    assert not (tmp_path / "index").exists()


def test_a_folder_of_nothing_readable_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    save_bad(tmp_path / "photos")
    ran = simat("index", "build", tmp_path / "photos", tmp_path / "index", before=without_privileges)
    assert ran.error == "none of the 7 image files can be read; got 'bomb.png': " + BAD["bomb.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_subfolder_that_cannot_be_read_is_listed(tmp_path: Path, capsys: Any) -> None:
    shut = tmp_path / "photos" / "shut"
    shut.mkdir(parents=True)
    for folder in (shut, shut.parent):
        (folder / "a.png").write_bytes(encoded(blotches(0)))
    shut.chmod(0)
    ran = simat("index", "build", tmp_path / "photos", tmp_path / "index", "--json", before=without_privileges)
    shut.chmod(0o700)
    assert (ran.json["images"], ran.json["rejected"]) == (1, 1)
    facts = here(capsys, "index", "info", tmp_path / "index", "--json").json
    assert facts["rejected_files"] == [{"path": "shut", "reason": "a folder that cannot be read; got shut"}]


def test_a_folder_of_photos_may_be_named_in_any_bytes(tmp_path: Path, capsys: Any) -> None:
    photos, index = tmp_path / os.fsdecode(b"ph\xffotos\n"), tmp_path / "index"
    photos.mkdir()
    blotches(0).save(photos / "a.png")
    assert simat("index", "build", photos, index, "--json").json["images"] == 1
    assert "ph\ufffdotos" in here(capsys, "index", "info", index, "--json").json["root"]
    assert here(capsys, "index", "verify", index).code == 0
    found = simat("search", index, "--image", "0", "--include-self", "--json").json["results"]
    assert [result["path"].rpartition("/")[2] for result in found] == ["a.png"]


def test_an_index_may_not_be_named_in_any_bytes(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "photos").mkdir()
    ran = here(capsys, "index", "build", tmp_path / "photos", os.fsdecode(os.fsencode(tmp_path) + b"/ind\xfeex"))
    assert ran.error == f"the path of an index must be UTF-8 text; got {tmp_path}/ind\\udcfeex"
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
