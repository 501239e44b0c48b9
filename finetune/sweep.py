"""The same training at several temperatures: what the temperature does to retrieval (thesis 3.4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune.config import TrainConfig, TrainError
from finetune.pairs import Features
from finetune.train import train
from simat.errors import StorageError
from simat.files import atomic
from simat.heads import Heads
from simat.progress import Progress, Silent

TABLE, PLOT = "sweep.parquet", "sweep.png"


def sweep(
    features: Features,
    out: Path,
    taus: Sequence[float],
    config: TrainConfig,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Train heads into ``out/tau=…`` for every temperature, or go on where an interrupted sweep was.

    Args:
        features: what to train on.
        out: new, empty, or of an earlier sweep.
        taus: the temperatures.
        config: the other settings.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: told of every training.

    Returns:
        One row per temperature, ascending, as in ``out/sweep.parquet``: ``tau``, ``epoch``, ``loss``, R@k as
        ``text_to_image_r1`` and so on, ``heads`` (the folder), ``fingerprint``.

    Raises:
        TrainError: no temperature, one twice, or as :func:`finetune.train.train`.
        StorageError: something else in ``out``.
    """
    progress = progress or Silent()
    if not taus or len(set(taus)) < len(taus):
        raise TrainError("a sweep needs temperatures, each once", got=[*taus])
    settings = [replace(config, tau=tau) for tau in sorted(taus)]
    _enter(out)
    rows = []
    for setting in settings:
        progress.note(f"τ = {setting.tau:g}")
        folder = out / folder_name(setting.tau)
        rows.append(_row(folder, train(features, folder, setting, device, progress)))
    _write(out / TABLE, rows)
    return rows


def folder_name(tau: float) -> str:
    """Name of the folder of one temperature's heads."""
    return f"tau={tau:g}"


def _enter(out: Path) -> None:
    names = [path.name for path in out.iterdir()] if out.is_dir() else []
    others = [name for name in names if name not in {TABLE, PLOT} and not name.startswith(("tau=", "."))]
    if others or (out.exists() and not out.is_dir()):
        raise StorageError("there is something else here already", got=str(out), remedy="give a new or empty folder")
    out.mkdir(parents=True, exist_ok=True)


def _row(folder: Path, heads: Heads) -> dict[str, Any]:
    chosen = next(point for point in heads.details["curve"] if point["epoch"] == heads.details["epoch"])
    recalls = {
        f"{way}_r{k}": value for way in ("text_to_image", "image_to_text") for k, value in chosen.get(way, {}).items()
    }
    row = {"tau": heads.tau, "epoch": chosen["epoch"], "loss": chosen["loss"], **recalls}
    return {**row, "heads": folder.name, "fingerprint": heads.fingerprint}


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)
