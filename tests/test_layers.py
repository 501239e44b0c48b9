"""The order of the house: who may import whom, and what a first import may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = (
    {"containers", "edits", "errors", "files", "images", "plugins", "progress", "reach", "recent", "retrieval"}
    | {"selection", "tables", "tars", "types", "vectors"},
    {"encoders", "embeddings", "heads", "manifest", "mapping", "protocols", "tombstones"} | {"vectorstore"},
    {"asking", "blocks", "cells", "compose", "composers", "searcher", "shardfiles", "generators", "gpu", "where"},
    {"milvus", "opened"},
    {"backends"},
    {"studios"},
    {"engine"},
    {"client", "documents", "overlays", "sheet"},
    {"server"},
    {"cli"},
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
PACKAGES = {
    "simat": {"simat"},
    "data": {"data", "simat"},
    "indexing": {"indexing", "simat"},
    "finetune": {"finetune", "data", "indexing", "simat"},
    "eval": {"eval", "data", "simat"},
}
HEAVY = (
    *("torch", "openvino", "faiss", "open_clip", "timm", "transformers", "sentence_transformers"),
    *("diffusers", "pyarrow", "duckdb"),
)
FILES = {package: sorted((ROOT / package).rglob("*.py")) for package in PACKAGES}


def imports(path: Path) -> Iterator[str]:
    """Dotted names of every import of a file, those inside functions and for type checkers as well."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def unit(path: Path) -> str:
    """The module or subpackage of ``simat`` that a file belongs to."""
    return path.relative_to(ROOT / "simat").parts[0].removesuffix(".py")


def units(path: Path) -> set[str]:
    """The modules and subpackages of ``simat`` that a file imports."""
    names = (name.split(".") for name in imports(path))
    return {name[1] for name in names if name[0] == "simat" and len(name) > 1 and name[1] in LAYER}


def test_layers_list_every_module_of_simat() -> None:
    assert {unit(path) for path in FILES["simat"]} - {"__init__"} == set(LAYER)


@pytest.mark.parametrize("path", FILES["simat"], ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_import_no_higher_layer(path: Path) -> None:
    if unit(path) == "__init__":  # the front door names everything, lazily
        return
    higher = {name for name in units(path) if LAYER[name] > LAYER[unit(path)]}
    assert not higher, f"layer {LAYER[unit(path)]} imports {higher}"


def test_modules_import_each_other_in_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES["simat"]:
        if unit(path) != "__init__":
            graph.setdefault(unit(path), set()).update(units(path) - {unit(path)})
    order = [*TopologicalSorter(graph).static_order()]
    assert order.index("errors") < order.index("types") < order.index("engine")


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    for path in FILES[package]:
        used = {name.split(".")[0] for name in imports(path)} & set(PACKAGES)
        assert used <= PACKAGES[package], f"{path.relative_to(ROOT)} imports {used - PACKAGES[package]}"


def test_the_layer_test_sees_imports_inside_functions(tmp_path: Path) -> None:
    source = "import os\nif True:\n    from indexing import build\ndef f():\n    import eval.tables as t\n"
    (tmp_path / "x.py").write_text(source)
    assert sorted(imports(tmp_path / "x.py")) == ["eval.tables", "indexing.build", "os"]


def loaded_by(program: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after a program."""
    report = "import sys, json; print(*{name.partition('.')[0] for name in sys.modules}, file=sys.__stderr__)"
    ended = subprocess.run([sys.executable, "-c", f"{program}\n{report}"], capture_output=True, text=True, check=True)
    return set(ended.stderr.split())


def test_import_of_simat_loads_no_heavy_library() -> None:
    loaded = loaded_by("import simat")
    assert "simat" in loaded
    assert not loaded & {*HEAVY, "numpy", "PIL"}


def test_import_of_the_engine_loads_no_heavy_library() -> None:
    loaded = loaded_by("import simat; simat.Engine; simat.open; simat.load_encoder; simat.Query")
    assert "numpy" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_loads_no_heavy_library(arguments: list[str]) -> None:
    program = (
        f"import sys; sys.argv = ['simat', *{arguments}]\n"
        "from simat.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
    )
    loaded = loaded_by(program)
    assert "typer" in loaded
    assert not loaded & set(HEAVY)
