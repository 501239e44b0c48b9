"""Embedding and indexing beside clip-retrieval and autofaiss: images/s, index time, recall, queries, memory.

Embedding: ``--files`` photographs, every one another crop of one in PHOTOS, are embedded by ``simat index build`` in
each of ``--precisions`` and by ``clip-retrieval inference`` with the same seeded weights of ViT-B-32, whole commands
with their starts; that program gets every batch size and number of workers of ``--settings``, and its best counts. The
vectors are compared photograph by photograph. Our command also makes the shards and measures recall.

Index: ``--vectors`` clustered unit vectors lie in clip-retrieval's layout. ``simat index import`` reads them, and so do
``clip-retrieval index`` (``auto``) and ``autofaiss build_index`` with every other of ``--keys``. Then a process of its
own opens each index and answers 1,000 queries, one at a time; recall@10 is against brute force.

``--clip-retrieval VENV`` names the virtual environment of that program; without it only ours is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int64
from PIL import Image

from benchmarks.clip_retrieval import write_weights
from benchmarks.clustered import Clustered
from benchmarks.common import Facts, cores, median, parser, private_cache, run, temporary_folder
from benchmarks.watching import Watched, watched
from indexing.recall import exact_neighbours
from indexing.scan import walk
from simat.embeddings import EmbeddingSet
from simat.errors import BuildError, ImageError
from simat.images import load_image

K = 10
CROP = 0.1  # of a side, at most, that a copy of a photograph loses
QUALITY = 90
SIMAT = str(Path(sys.executable).with_name("simat"))
SEARCHING = str(Path(__file__).with_name("searching.py"))


def measure(options: argparse.Namespace) -> Facts:
    """Both halves, or the one that is asked for."""
    with temporary_folder() as folder, private_cache(folder / "cache"):
        facts: Facts = {}
        if options.only != "index":
            facts["embedding"] = embedding(options, folder)
        if options.only != "embedding":
            facts["index"] = indexing(options, folder)
        return facts


def embedding(options: argparse.Namespace, folder: Path) -> Facts:
    """Images per second of both, and how alike their vectors are."""
    photos = folder / "photos"
    write_crops(options.photos, photos, options.files)
    encoder = write_weights(folder / "weights.pt")
    write_crops(options.photos, folder / "few", 2)
    ours(folder / "few", folder / "warm", encoder, "f32")  # converts the network, as a user's first build does
    facts: Facts = {"files": options.files}
    runs: dict[str, list[Watched]] = {}
    for turn in range(options.rounds):
        for precision in options.precisions:
            ran = ours(photos, folder / f"ours-{precision}-{turn}", encoder, precision)
            runs.setdefault(precision, []).append(ran)
        for setting in options.settings if options.clip_retrieval else ():
            out = folder / f"theirs-{setting}-{turn}".replace(":", "-")
            command = inference(options.clip_retrieval, photos, out, encoder, setting)
            runs.setdefault(setting, []).append(watched(command, folder / "log"))
    speeds = {name: embedding_facts(of, options.files) for name, of in runs.items()}
    us = {precision: speeds.pop(precision) for precision in options.precisions}
    if speeds:
        best = max(speeds, key=lambda name: speeds[name]["images_per_s"])
        facts |= {"theirs": speeds, "best_setting": best}
        for precision, of in us.items():
            of.update(times(of, speeds[best], ("images_per_s", "images_per_cpu_s")))
            of.update(likeness(folder / f"ours-{precision}-0", folder / f"theirs-{best}-0".replace(":", "-")))
    return {**facts, "ours": us}


def embedding_facts(runs: Sequence[Watched], files: int) -> Facts:
    """The medians of some runs."""
    seconds, cpu = median([one.seconds for one in runs]), median([one.cpu_seconds for one in runs])
    peak = max(one.peak for one in runs) / 2**20
    return {"seconds": seconds, "images_per_s": files / seconds, "images_per_cpu_s": files / cpu, "peak_mib": peak}


def times(us: Facts, them: Facts, names: Sequence[str]) -> Facts:
    """How many times theirs ours is."""
    return {f"{name}_times": us[name] / them[name] for name in names}


def write_crops(photos: Path, folder: Path, files: int, seed: int = 0) -> None:
    """JPEG files of photographs, each of which has lost other strips at its sides: no two files are the same."""
    folder.mkdir()
    rng, pictures, number = np.random.default_rng(seed), sorted(walk(photos)), 0
    if not pictures:
        raise BuildError("no photographs here", got=str(photos))
    while number < files:
        before = number
        for name in pictures[: files - number]:
            try:
                picture = load_image(photos / name)
            except ImageError:
                continue
            cropped(picture, rng).save(folder / f"{number:06}.jpg", quality=QUALITY)
            number += 1
        if number == before:
            raise BuildError("none of the photographs can be read", got=str(photos))


def cropped(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A picture without some strips at its sides."""
    left, top, right, bottom = rng.uniform(0, CROP / 2, 4)
    width, height = picture.size
    return picture.crop((int(left * width), int(top * height), int((1 - right) * width), int((1 - bottom) * height)))


def ours(photos: Path, index: Path, encoder: str, precision: str) -> Watched:
    """``simat index build``."""
    command = [SIMAT, "index", "build", str(photos), str(index), "--encoder", encoder, "--precision", precision]
    return watched(command, index.with_name("log"))


def inference(environment: Path, photos: Path, out: Path, encoder: str, setting: str) -> list[str]:
    """``clip-retrieval inference`` with a batch size and a number of workers, as ``32:0``."""
    batch, _, workers = setting.partition(":")
    return [
        *(str(environment / "bin" / "clip-retrieval"), "inference", "--input_dataset", str(photos)),
        *("--output_folder", str(out), "--clip_model", encoder, "--batch_size", batch),
        *("--num_prepro_workers", workers or "0", "--enable_text", "False", "--enable_metadata", "False"),
    ]


def likeness(index: Path, theirs: Path) -> Facts:
    """Cosines between the vectors of the same photographs."""
    embeddings = EmbeddingSet(index / "embeddings")
    rows = embeddings.rows(np.arange(len(embeddings)))
    places = {str(embeddings.resolve(row)): id for id, row in enumerate(rows)}
    us = np.concatenate(list(embeddings.blocks(0, len(embeddings)))).astype(np.float64)
    them = np.concatenate([np.load(path) for path in sorted((theirs / "img_emb").glob("*.npy"))]).astype(np.float64)
    paths = pq.read_table(theirs / "metadata")["image_path"].to_pylist()
    us = us[[places[path] for path in paths]]
    cosines = (us * them).sum(1) / np.linalg.norm(us, axis=1) / np.linalg.norm(them, axis=1)
    return {"compared": len(paths), "cosine_min": float(cosines.min()), "cosine_mean": float(cosines.mean())}


def indexing(options: argparse.Namespace, folder: Path) -> Facts:
    """Seconds until the index is ready, then recall, latency and memory of its queries."""
    source, queries = folder / "vectors", folder / "queries.npy"
    exact = write_vectors(source, queries, options)
    facts: Facts = {"vectors": options.vectors, "dim": options.dim, "queries": options.queries}
    command = [SIMAT, "index", "import", str(source), str(folder / "imported")]
    ready = watched(command, folder / "log")
    facts["ours"] = {**ready.facts(), **answered(sys.executable, "simat", folder / "imported", queries, exact)}
    facts["ours"]["factory"] = json.loads((folder / "imported" / "manifest.json").read_text())["factory"]
    for key in options.keys if options.clip_retrieval else ():
        out = folder / f"index {key}"
        out.mkdir()
        ready = watched(indexer(options.clip_retrieval, source, out, key), folder / "log")
        python = str(options.clip_retrieval / "bin" / "python")
        them = {**ready.facts(), **answered(python, "faiss", out / "image.index", queries, exact)}
        ratios = {f"{name}_times": them[name] / facts["ours"][name] for name in ("seconds", "p50_ms", "p99_ms")}
        ratios["query_memory_times"] = them["query_peak_mib"] / facts["ours"]["query_peak_mib"]
        facts[f"theirs_{key.replace(',', '_')}"] = {**them, **ratios}
    return facts


def write_vectors(folder: Path, queries: Path, options: argparse.Namespace) -> Int64[np.ndarray, "q k"]:
    """A folder in clip-retrieval's layout, and queries; gives the true neighbours of these."""
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    world = Clustered(options.dim)
    vectors = np.concatenate([block.astype(np.float16) for block in world.blocks(options.vectors)])
    np.save(folder / "img_emb" / "img_emb_0.npy", vectors)
    names = pa.array([f"{row:09}.jpg" for row in range(len(vectors))])
    pq.write_table(pa.table({"image_path": names}), folder / "metadata" / "metadata_0.parquet")
    asked: Float32[np.ndarray, "q d"] = world.queries(options.queries)
    np.save(queries, asked)
    blocks = (vectors[start : start + 10_000] for start in range(0, len(vectors), 10_000))
    return exact_neighbours(asked, np.full(len(asked), -1), blocks, K).ids


def indexer(environment: Path, source: Path, out: Path, key: str) -> list[str]:
    """``clip-retrieval index``, or ``autofaiss`` with a kind of index that it does not choose itself."""
    if key == "auto":
        program = str(environment / "bin" / "clip-retrieval")
        folders = ("--embeddings_folder", str(source), "--index_folder", str(out))
        return [program, "index", *folders, "--nb_cores", str(cores()), "--copy_metadata", "False"]
    return [
        *(str(environment / "bin" / "autofaiss"), "build_index", "--embeddings", str(source / "img_emb")),
        *("--index_path", str(out / "image.index"), "--index_infos_path", str(out / "image.json")),
        *("--index_key", key, "--nb_cores", str(cores()), "--metric_type", "ip"),
        *("--current_memory_available", "16G", "--max_index_memory_usage", "4G"),
    ]


def answered(python: str, kind: str, index: Path, queries: Path, exact: Int64[np.ndarray, "q k"]) -> Facts:
    """What a process that searches tells, and the share of the true neighbours that it found."""
    found = queries.with_name("found.npy")
    command = [python, "-P", SEARCHING, kind, str(index), str(queries), str(found)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ""})
    if ran.returncode:
        raise BuildError(f"searching {index.name} failed", got=ran.stderr.strip()[-500:])
    told = json.loads(ran.stdout.splitlines()[-1])
    ids = np.load(found)
    hits = [len({*row.tolist()} & {*wanted.tolist()}) for row, wanted in zip(ids, exact, strict=True)]
    told["query_peak_mib"] = told.pop("peak_mib")
    return {**told, f"recall@{K}": sum(hits) / exact.size}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("photos", type=Path, help="folder of photographs")
    arguments.add_argument("--clip-retrieval", type=environment, help="its virtual environment")
    arguments.add_argument("--files", type=int, default=4000, help="photographs to embed (4000)")
    arguments.add_argument("--precisions", nargs="+", default=["f32", "bf16"], help="of ours (f32 bf16)")
    arguments.add_argument("--settings", nargs="+", default=["32:0"], help="batch:workers of theirs (32:0)")
    arguments.add_argument("--rounds", type=int, default=1, help="runs of every embedding command (1)")
    arguments.add_argument("--vectors", type=int, default=100_000, help="vectors to index (100000)")
    arguments.add_argument("--dim", type=int, default=512, help="their length (512)")
    arguments.add_argument("--queries", type=int, default=1000, help="queries (1000)")
    arguments.add_argument("--keys", nargs="+", default=["auto", "Flat"], help="kinds of index of theirs (auto Flat)")
    arguments.add_argument("--only", choices=["embedding", "index"], help="measure one half")
    run(arguments, measure)


def environment(text: str) -> Path:
    """A virtual environment; its name may be a link, and must stay one."""
    return Path(text).absolute()


if __name__ == "__main__":
    main()
