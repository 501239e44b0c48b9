"""What a build is asked for: flags over a TOML file over defaults, saved in the manifest."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from simat.embeddings import ROW_GROUP
from simat.encoders.runtime import RuntimeOptions
from simat.errors import BuildError

ENGINES = ("local", "ray")
MOST_PARTS = 4096  # of a set made at once: a query reads candidates from many, and a server keeps all of them mapped
# They do not touch the embedding set.
SHARD_SETTINGS = ("factory", "shard_size", "memory", "build_memory", "target_recall")


@dataclass(frozen=True)
class BuildConfig:
    """The settings of a build that decide what its files hold.

    Attributes:
        photos: where the images are, absolute: see :func:`indexing.sources.open_source`.
        encoder: spec of the encoder.
        heads: folder of adapter heads after the encoder, or nothing.
        precision: ``f32`` or ``bf16``.
        factory: a FAISS factory string, or ``auto``.
        part_size: files per embedding part, the unit in which an interrupted build resumes; see :meth:`part_rows`.
        shard_size: vectors per FAISS shard.
        memory: bytes that the vectors may take when the index is searched (``auto`` factory).
        build_memory: bytes that the process may take while it makes the shards.
        target_recall: recall@10 that the search parameters are tuned to.
        seed: of the samples for training and measuring.
        image_column: of tables of images, where it cannot be told from types and names.
        caption_column: of tables of images, where it is neither ``caption`` nor ``text``.
    """

    photos: str
    encoder: str = "offline"
    heads: str = ""
    precision: str = "f32"
    factory: str = "auto"
    part_size: int = 4096
    shard_size: int = 1_000_000
    memory: int = 4 * 2**30
    build_memory: int = 4 * 2**30
    target_recall: float = 0.95
    seed: int = 0
    image_column: str = ""
    caption_column: str = ""

    def __post_init__(self) -> None:
        for name in ("part_size", "shard_size", "memory", "build_memory"):
            if getattr(self, name) < 1:
                raise BuildError(f"{name} must be at least 1", got=getattr(self, name))
        if not 0 < self.target_recall <= 1:
            raise BuildError("target_recall must lie in (0, 1]", got=self.target_recall)

    @classmethod
    def read(cls, file: Path | None, flags: Mapping[str, Any]) -> BuildConfig:
        """Defaults, overlaid by a TOML file, overlaid by the flags that are not None.

        Raises:
            BuildError: the file cannot be read, or has keys that are no settings.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        return cls(**{**(_read_toml(file, {f.name: str(f.type) for f in fields(cls)}) if file else {}), **given})

    @property
    def spec(self) -> str:
        """The encoder with its heads."""
        from simat.encoders.combined import with_heads

        return with_heads(self.encoder, Path(self.heads)) if self.heads else self.encoder

    def resolved(self, rows: int, dim: int) -> BuildConfig:
        """The same settings with ``factory`` decided."""
        from indexing.factory import choose_factory

        if self.factory != "auto":
            return self
        return replace(self, factory=choose_factory(rows, dim, self.shard_size, self.memory))

    def part_rows(self, rows: int) -> int:
        """Rows per part of ``rows`` that are written at once: ``part_size``, more where parts would be too many to map.

        Parts larger than asked for are whole row groups.
        """
        least = -(-rows // MOST_PARTS)
        return self.part_size if least <= self.part_size else -(-least // ROW_GROUP) * ROW_GROUP

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the index's manifest."""
        return asdict(self)

    def embedding_settings(self) -> dict[str, Any]:
        """The values that decide what the embedding set holds, for its manifest."""
        return {name: value for name, value in asdict(self).items() if name not in SHARD_SETTINGS}


def _read_toml(file: Path, kinds: Mapping[str, str]) -> dict[str, Any]:
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError("cannot read the configuration", got=f"{file}: {error}") from error
    unknown = sorted(set(values) - set(kinds))
    if unknown:
        raise BuildError("no such settings", got=", ".join(unknown), remedy=f"there are: {', '.join(sorted(kinds))}")
    for name, value in values.items():
        if type(value).__name__ not in {kinds[name], "int" if kinds[name] == "float" else kinds[name]}:
            raise BuildError(f"the setting {name} must be of type {kinds[name]}", got=repr(value))
    return {name: float(value) if kinds[name] == "float" else value for name, value in values.items()}


@dataclass(frozen=True)
class Machine:
    """What a build may use; changes how fast it is, not what it writes.

    Attributes:
        workers: decoder processes; on a cluster, those of each of its workers. None for one per core.
        device: ``auto``, ``cpu``, ``cuda`` or ``torch``.
        threads: CPU threads; None for every core.
        engine: who embeds: ``local``, this machine alone, or ``ray``, the machines of a cluster.
        address: of the cluster: ``HOST:PORT`` or ``auto``; None for one that is this machine alone.
        gpus: those that help FAISS: ``all`` or numbers such as ``0,1``.
    """

    workers: int | None = None
    device: str = "auto"
    threads: int | None = None
    engine: str = "local"
    address: str | None = None
    gpus: str = ""

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise BuildError("no such engine", got=repr(self.engine), remedy=f"use {' or '.join(ENGINES)}")
        if self.address is not None and self.engine != "ray":
            raise BuildError("an address is of a Ray cluster", got=self.address, remedy="give --engine ray as well")

    def runtime(self, precision: str) -> RuntimeOptions:
        """Options of the encoder."""
        return RuntimeOptions(precision, self.device, self.threads)  # type: ignore[arg-type]

    @property
    def decoders(self) -> int:
        """Number of decoder processes."""
        if self.workers is not None and self.workers < 1:
            raise BuildError("workers must be at least 1", got=self.workers)
        return self.workers or RuntimeOptions(threads=self.threads).cores
