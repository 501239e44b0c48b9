"""Released heads: converted without running their pickle, and of the geometry that was published."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from building import here
from corpora import released

from data.corpus import CorpusError
from data.simat.release import Release
from finetune.config import TrainError
from finetune.importing import ENCODER, import_heads
from simat.errors import StorageError
from simat.heads import UNKNOWN, Heads, load_heads
from simat.types import EmbeddingSpace

CLIP = EmbeddingSpace(ENCODER, "c" * 64, 512)
Vectors = Callable[[str], np.ndarray]


def release_file(folder: Path, name: str = "head_x_t=0.3.pt") -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = {side: torch.nn.Linear(4, 4) for side in ("img_head", "txt_head")}
    torch.save(layers, folder / name)
    return folder / name


class Attack:
    """A pickle that would write a file when it is read without care."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.write_text, (self.target, "ran")


def attacks(folder: Path, target: Path) -> list[Path]:
    bare = folder / "bare_t=0.1.pt"
    bare.write_bytes(pickle.dumps({"img_head": Attack(target), "txt_head": Attack(target)}, 2))
    nested = folder / "nested_t=0.1.pt"
    torch.save({"img_head": torch.nn.Linear(2, 2), "txt_head": Attack(target)}, nested)
    inside = folder / "inside_t=0.1.pt"
    layer = torch.nn.Linear(2, 2)
    layer.extra = Attack(target)  # type: ignore[assignment]
    torch.save({"img_head": layer, "txt_head": torch.nn.Linear(2, 2)}, inside)
    swapped = folder / "swapped_t=0.1.pt"
    with zipfile.ZipFile(release_file(folder, "good_t=0.1.pt")) as good, zipfile.ZipFile(swapped, "w") as bad:
        for entry in good.infolist():
            evil = pickle.dumps(Attack(target), 2)
            bad.writestr(entry, evil if entry.filename.endswith("data.pkl") else good.read(entry))
    return [bare, nested, inside, swapped]


def test_attack_would_run_if_it_were_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Attack(tmp_path / "ran")))
    assert (tmp_path / "ran").read_text() == "ran"


def test_pickle_that_tries_to_run_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    files = attacks(tmp_path, target)
    assert len(files) == 4
    for file in files:
        with pytest.raises(CorpusError, match="is damaged, or holds more than tensors"):
            import_heads(file, tmp_path / "heads")
        assert not target.exists()
        assert not (tmp_path / "heads").exists()


def test_imported_heads_are_the_layers_of_the_file(tmp_path: Path) -> None:
    import_heads(release_file(tmp_path), tmp_path / "heads")
    heads = load_heads(tmp_path / "heads")
    layers = torch.load(tmp_path / "head_x_t=0.3.pt", weights_only=False)
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    for name, project in (("img_head", heads.project_images), ("txt_head", heads.project_texts)):
        expected = torch.nn.functional.normalize(layers[name](torch.from_numpy(rows)), dim=1).detach().numpy()
        np.testing.assert_allclose(project(rows), expected, atol=1e-6)
    assert (heads.kind, heads.tau, heads.dim) == ("linear", 0.3, 4)
    assert heads.image_space == heads.text_space == EmbeddingSpace(ENCODER, UNKNOWN, 4)
    assert heads.details["source"]["name"] == "head_x_t=0.3.pt"


def test_norm_makes_unit_vectors_do_what_longer_ones_did(tmp_path: Path) -> None:
    file = release_file(tmp_path)
    as_released, fitted = import_heads(file, tmp_path / "a"), import_heads(file, tmp_path / "b", norm=10.0)
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(fitted.project_texts(rows), as_released.project_texts(rows * 10), atol=1e-5)
    assert abs(as_released.project_texts(rows) - as_released.project_texts(rows * 10)).max() > 0.05


def test_temperature_comes_from_the_name_or_the_caller(tmp_path: Path) -> None:
    nameless = release_file(tmp_path, "heads.pt")
    with pytest.raises(TrainError, match=r"tells no temperature; got heads\.pt; give it with --tau"):
        import_heads(nameless, tmp_path / "heads")
    assert import_heads(nameless, tmp_path / "heads", tau=0.05).tau == 0.05


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan")])
def test_norm_must_be_positive(norm: float, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="the norm must be a positive number"):
        import_heads(release_file(tmp_path), tmp_path / "heads", norm=norm)


def test_import_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match="something else here already"):
        import_heads(release_file(tmp_path), tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_command_imports_and_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = here(capsys, "heads", "import", release_file(tmp_path), tmp_path / "heads", "--norm", "10", "--json")
    shown = here(capsys, "heads", "info", tmp_path / "heads", "--json")
    assert ran.json == shown.json
    assert (shown.json["tau"], shown.json["details"]["norm"], shown.json["text_layers"]) == (0.3, 10.0, [[4, 4]])
    text = here(capsys, "heads", "info", tmp_path / "heads").out
    assert "image space  open_clip:ViT-B-32-quickgelu/openai (4-d, unknown)" in text
    plain = here(capsys, "heads", "import", release_file(tmp_path), tmp_path / "again", "--json")
    assert plain.json["fingerprint"] == shown.json["fingerprint"]  # 10 is the length of CLIP's vectors
    bare = here(capsys, "heads", "import", release_file(tmp_path), tmp_path / "bare", "--norm", "1", "--json")
    assert bare.json["fingerprint"] == import_heads(release_file(tmp_path), tmp_path / "api").fingerprint
    assert here(capsys, "heads", "info", tmp_path).error.startswith("no heads here; got")


# What follows are the numbers of the official release.


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Heads:
    """The released heads, imported and loaded."""
    folder = tmp_path_factory.mktemp("official") / "heads"
    import_heads(released() / "data" / "head_clip_t=0.1.pt", folder)
    return load_heads(folder)


@pytest.fixture(scope="module")
def words() -> dict[str, np.ndarray]:
    """The released words as CLIP gives them, not normalised."""
    return {word: vector.astype(np.float32) for word, vector in Release(released()).words().items()}


@cache
def queries() -> tuple[list[tuple[str, str]], list[int]]:
    """The words that each released query changes, and its ``norm2``."""
    entries = Release(released()).queries
    assert len(entries) == 17_996
    return [(e.query.value, e.query.target) for e in entries], [e.norm2 for e in entries]


def unit(rows: np.ndarray) -> np.ndarray:
    wide = rows.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=-1, keepdims=True)


def geometry(table: dict[str, np.ndarray]) -> dict[str, float | str]:
    """The checks of the release's table, of unit vectors by word."""
    names, rows = [*table], np.stack([*table.values()])
    gram = rows @ rows.T
    changes, counts = queries()
    lengths = np.array([np.linalg.norm(table[target] - table[value]) for value, target in changes])
    weights = np.array(counts) ** -0.5

    def cos(*pairs: str) -> float:
        first, second = (table[b] - table[a] for a, b in (pair.split(" -> ") for pair in pairs))
        return float(unit(first) @ unit(second))

    def nearest(vector: np.ndarray, but: str = "") -> str:
        scores = {name: float(unit(vector) @ table[name]) for name in names if name != but}
        best = max(scores, key=scores.__getitem__)
        return f"{best} {scores[best]:.4f}"

    return {
        "mean cosine": float(gram[np.triu_indices(len(names), 1)].mean()),
        "length of mean": float(np.linalg.norm(rows.mean(0))),
        "gender": cos("man -> woman", "boy -> girl"),
        "age": cos("man -> boy", "woman -> girl"),
        "nothing": cos("dog -> cat", "cow -> horse"),
        "place": cos("grass -> snow", "field -> beach"),
        "man -> woman": float(np.linalg.norm(table["woman"] - table["man"])),
        "mean length": float(lengths.mean()),
        "weighted length": float((lengths * weights).sum() / weights.sum()),
        "boy": nearest(table["boy"] + table["woman"] - table["man"]),
        "bus": nearest(table["bus"], "bus"),
        "zebra": nearest(table["zebra"], "zebra"),
    }


VANILLA = (0.7970, 0.8936, 0.6479, 0.2982, -0.1127, 0.2126, 0.4526, 0.6064, 0.6104,
           "woman 0.9557", "train 0.9150", "cow 0.8269")  # fmt: skip
HEADS = (0.1320, 0.3723, 0.8261, 0.5691, -0.1232, 0.4230, 1.3695, 1.3080, 1.3030,
         "girl 0.7893", "bus stop 0.6760", "giraffe 0.4020")  # fmt: skip


def check(found: dict[str, float | str], published: tuple[float | str, ...]) -> None:
    rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}
    assert rounded == dict(zip(found, published, strict=True))


def test_released_words_have_the_published_geometry(words: dict[str, np.ndarray]) -> None:
    assert len(words) == 131
    check(geometry({word: unit(vector) for word, vector in words.items()}), VANILLA)


def test_released_words_after_the_released_head_have_the_published_geometry(
    official: Heads, words: dict[str, np.ndarray]
) -> None:
    projected = official.project_texts(np.stack([*words.values()]))
    check(geometry(dict(zip(words, projected.astype(np.float64), strict=True))), HEADS)


def test_released_weights_have_the_published_norms(official: Heads) -> None:
    published = {"image": (27.2286, 0.7572, 0.5405, 5.1429, 0.5644), "text": (25.8610, 0.0942, 0.1339, 2.4853, 0.5730)}
    for side, numbers in published.items():
        layer = getattr(official, side).layers[0]
        weight, eye = layer.weight.astype(np.float64), np.eye(512)
        found = (
            np.linalg.norm(weight - eye), np.diag(weight).mean(), np.trace(weight) / np.linalg.norm(weight) / 512**0.5,
            np.linalg.norm(weight, 2), np.linalg.norm(layer.bias.astype(np.float64)),
        )  # fmt: skip
        assert [round(float(value), 4) for value in found] == [*numbers]


def test_released_heads_imported_for_unit_vectors_do_nearly_the_same(
    official: Heads, words: dict[str, np.ndarray], tmp_path: Path
) -> None:
    rows = np.stack([*words.values()])
    fitted = import_heads(released() / "data" / "head_clip_t=0.1.pt", tmp_path / "heads", norm=10.0)
    exact, units = official.project_texts(rows), unit(rows).astype(np.float32)
    assert (exact * fitted.project_texts(units)).sum(1).mean() > 0.9998
    assert (exact * official.project_texts(units)).sum(1).mean() < 0.6


def test_released_heads_fit_clip_by_its_name(official: Heads) -> None:
    assert official.space(ENCODER, CLIP, CLIP).heads == official.fingerprint
    source = json.loads(json.dumps(dict(official.details)))["source"]
    assert source["name"] == "head_clip_t=0.1.pt"
