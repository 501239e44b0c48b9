"""``simat data simat build | import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simat.cli.console import console, print_json, progress

if TYPE_CHECKING:
    from data.regions import Triplet

app = typer.Typer(help="SIMAT corpora: triplets and transformation queries.", add_completion=False,
                  rich_markup_mode=None, no_args_is_help=True)  # fmt: skip
OutArgument = Annotated[Path, typer.Argument(help="A new folder for the corpus.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
def build(
    visual_genome: Annotated[
        Path, typer.Argument(help="Folder with relationships.json and its companions.", show_default=False)
    ],
    out: OutArgument,
    rule: Annotated[str, typer.Option(help="Triplet rule: release (20 objects) or paper (10).")] = "release",
    split: Annotated[str, typer.Option(help="Divide dev and test by image, or by region as the release.")] = "image",
    oracle: Annotated[str, typer.Option(help="annotation, none, or a file with a matrix.")] = "annotation",
    captions: Annotated[
        Path | None, typer.Option(help="CSV or TSV of subj, rel, obj, caption; or the release.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images.", show_default="VISUAL_GENOME")] = None,
    vocabulary: Annotated[
        Path | None,
        typer.Option(help="JSON of subjects and relations.", show_default="vocabulary.json there, else SIMAT's"),
    ] = None,
    min_area: Annotated[int, typer.Option(min=0, help="Pixels; a crop must have more.")] = 4096,
    object_aliases: Annotated[bool, typer.Option(help="Merge objects by the data set's object_alias.txt.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw and of the split.")] = 0,
    json: JsonOption = False,
) -> None:
    """Make a corpus from Visual Genome's own files."""
    from data.corpus import CorpusError
    from data.simat.build import Options, OracleChoice, Sources, build_corpus
    from data.simat.queries import SPLITS
    from data.simat.vocabulary import SIMAT, VOCABULARY_FILE, read_vocabulary
    from data.visual_genome.regions import ReadingOptions, ReadingReport, read_regions

    if split not in SPLITS:
        raise CorpusError("no such split", got=repr(split), remedy=f"use {' or '.join(SPLITS)}")
    options = Options(rule, SPLITS[SPLITS.index(split)], seed)
    named: dict[str, OracleChoice] = {"annotation": "annotation", "none": "none"}
    judge = named.get(oracle, Path(oracle))
    given = {} if captions is None else _captions(captions)
    own = visual_genome / VOCABULARY_FILE
    words_file = vocabulary or (own if own.is_file() else None)
    words = SIMAT if words_file is None else read_vocabulary(words_file)
    report = ReadingReport()
    with progress() as bars:
        if vocabulary is None and words_file is not None:
            bars.note(f"the words are those of {own.name} in {visual_genome}")
        regions = read_regions(visual_genome, bars, report, ReadingOptions(words, min_area, object_aliases))
        files = [*sorted({*visual_genome.glob("*.json"), *([vocabulary] if vocabulary else [])})]
        files += sorted(visual_genome.glob("*alias*.txt"))
        sources = Sources(files, images or visual_genome, given, report.as_counts())
        counts = build_corpus(regions, out, options, sources, judge, bars)
    _show(out, counts, json)


@app.command("import")
def import_(
    repository: Annotated[Path, typer.Argument(help="The release, with simat_db/ and data/.", show_default=False)],
    images: Annotated[Path, typer.Argument(help="Folder of Visual Genome's images.", show_default=False)],
    out: OutArgument,
    json: JsonOption = False,
) -> None:
    """Make a corpus of the official release."""
    from data.simat.importing import import_release

    with progress() as bars:
        counts = import_release(repository, images, out, bars)
    _show(out, counts, json)


def _captions(path: Path) -> dict[Triplet, str]:
    from data.simat.captions import read_captions
    from data.simat.release import Release

    return Release(path).captions if path.is_dir() else read_captions(path)


def _show(out: Path, counts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({"corpus": str(out), **counts})
        return
    for name, value in counts.items():
        console().print(f"{name:<26} {value:,}", markup=False)
