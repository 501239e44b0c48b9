"""What every measurement on a SIMAT corpus starts from: its captions, its queries, its oracle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64

from data.corpus import Corpus
from eval.deltas import SentencePairs, caption_pairs
from eval.oracles import Oracle, open_oracle
from eval.simat_score import Task, read_task

Triplet = tuple[str, str, str]


@dataclass(frozen=True)
class Bench:
    """A SIMAT corpus that is ready to be measured on.

    Attributes:
        corpus: of kind ``simat``.
        oracle: judges what is retrieved.
        seed: of bootstrap draws and ties.
    """

    corpus: Corpus
    oracle: Oracle
    seed: int = 0

    @cached_property
    def captions(self) -> list[str]:
        """By ``caption_id``."""
        captions: list[str] = self.corpus.table("triplets")["caption"].to_pylist()
        return captions

    @cached_property
    def triplets(self) -> list[Triplet]:
        """By ``caption_id``."""
        table = self.corpus.table("triplets").select(["subj", "rel", "obj"]).to_pydict()
        return list(zip(table["subj"], table["rel"], table["obj"], strict=True))

    @cached_property
    def shown(self) -> Int64[np.ndarray, " r"]:
        """The ``caption_id`` of every region."""
        shown: Int64[np.ndarray, " r"] = self.corpus.table("regions")["caption_id"].to_numpy().astype(np.int64)
        return shown

    @cached_property
    def pairs(self) -> SentencePairs:
        """The evaluation's own captions that differ by an edit (thesis 3.4.4)."""
        return caption_pairs(self.triplets, self.captions)

    @cached_property
    def dev(self) -> Task:
        """The queries that λ is chosen on."""
        return read_task(self.corpus, "dev")

    @cached_property
    def test(self) -> Task:
        """The queries that scores are reported on."""
        return read_task(self.corpus, "test")

    def task(self, domain: str) -> Task:
        """The queries of a domain.

        Raises:
            QueryError: no such domain, or it has no query.
        """
        tasks = {"dev": lambda: self.dev, "test": lambda: self.test}
        return tasks[domain]() if domain in tasks else read_task(self.corpus, domain)

    def rng(self) -> np.random.Generator:
        """A generator of its own for every measurement: no order of measuring changes a figure."""
        return np.random.default_rng(self.seed)


def open_bench(corpus: Corpus, oracle: str = "annotation", seed: int = 0) -> Bench:
    """A bench on a corpus of kind ``simat``.

    Raises:
        QueryError: as :func:`eval.oracles.open_oracle`.
    """
    return Bench(corpus, open_oracle(oracle, corpus), seed)
