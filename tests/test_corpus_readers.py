"""The tables of a corpus in the hands of others: datasets, pandas, DuckDB."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import pytest
from corpora import regions
from datasets import load_dataset
from datasets.utils.logging import disable_progress_bar

from data.corpus import Corpus
from data.simat.build import Options, build_corpus

TRIPLETS = [(s, r, o) for s in ("cat", "dog") for r in ("biting", "licking") for o in ("bus", "cup")]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("simat") / "corpus"
    build_corpus(regions(*TRIPLETS, copies=3), folder, Options())
    return Corpus(folder)


@pytest.mark.parametrize("name", ["queries", "regions", "triplets"])
def test_every_table_opens_with_datasets(corpus: Corpus, name: str, tmp_path: Path) -> None:
    disable_progress_bar()
    file = str(corpus.folder / f"{name}.parquet")
    loaded = load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path))
    assert loaded.to_list() == corpus.table(name).to_pylist()


def test_queries_open_with_pandas(corpus: Corpus) -> None:
    frame = pd.read_parquet(corpus.folder / "queries.parquet")
    assert frame.groupby("is_test")["weight"].sum().tolist() == pytest.approx([1, 1])
    assert frame["target"].tolist() == corpus.table("queries")["target"].to_pylist()


def test_queries_and_regions_join_in_duckdb(corpus: Corpus) -> None:
    sql = (
        f"SELECT count(*) FROM '{corpus.folder}/queries.parquet' q JOIN '{corpus.folder}/regions.parquet' r "
        "USING (region_id) WHERE CASE q.field WHEN 'subj' THEN r.subj WHEN 'rel' THEN r.rel ELSE r.obj END = q.value"
    )
    assert duckdb.sql(sql).fetchall() == [(corpus.manifest.counts["queries"],)]
