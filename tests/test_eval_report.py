"""The report of chapter 3: what stands in it, beside which published figures, byte by byte the same again."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from building import same_contents
from PIL import Image
from test_eval_captioned import caption_corpus
from triplet_world import SLOTS, STEP, TripletEncoder, picture, triplet_corpus

from data.corpus import Corpus
from eval import published
from eval.bench import open_bench
from eval.chapter3 import PARTS, composers, figure_35, figure_37, table_31, table_32
from eval.examples import FOUND, example_sheet, examples
from eval.figures import Line, curves
from eval.intervals import Estimate
from eval.report import find_parts, write_report
from eval.spaces import Space, Towers
from eval.study import Family, Study, find_families
from eval.tables import Scale, Table
from simat.errors import QueryError, SimatError, StorageError
from simat.heads import Head, Heads, Layer, save_heads
from simat.types import EmbeddingSpace


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return triplet_corpus(tmp_path_factory.mktemp("triplets"))


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Pictures with five sentences each that are not SIMAT's own."""
    folder = tmp_path_factory.mktemp("captions") / "corpus"
    caption_corpus(folder, ["test"] * 6, [5] * 6)
    for number in range(6):
        triplet = [slot[number % len(slot)] for slot in SLOTS]
        picture(tuple(triplet)).save(folder / "images" / f"{10 + number}.jpg")
    return Corpus(folder)


def blurred(encoder: TripletEncoder, tau: float, image: str = "triplets", text: str = "triplets") -> Heads:
    """Heads that weaken the subjects, or lose them where it is hot."""
    weight = np.eye(encoder.space.dim, dtype=np.float32)
    weight[range(3), range(3)] = 0.0 if tau > 0.1 else 0.8  # of the subjects
    head = Head((Layer(weight, np.full(encoder.space.dim, 0.01, np.float32)),))
    spaces = (replace(encoder.space, encoder=name) for name in (image, text))
    return Heads(head, head, "linear", tau, *spaces)


def study_of(corpus: Corpus, captions: Corpus | None = None, thesis: bool = False) -> Study:
    image, text = TripletEncoder(), TripletEncoder()
    if thesis:
        image.space = text.space = EmbeddingSpace("open_clip:ViT-B-32-quickgelu/openai", "7" * 64, 9)
    towers = Towers(image, text)
    spec = image.space.encoder
    heads = [blurred(image, tau, spec, spec) for tau in (0.05, 0.1, 0.5)]
    tuned = tuple(Space(f"{spec}, τ = {one.tau:g}", towers, one) for one in heads)
    return Study(open_bench(corpus), [Family(spec, Space(spec, towers), tuned)], captions)


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.cells = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values["href"] or ""] if tag == "a" else []
        self.sources += [values["src"] or ""] if "src" in values else []
        self.cells += tag == "td"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag


@pytest.fixture(scope="module")
def report(corpus: Corpus, captions: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMAT_CACHE", str(tmp_path_factory.mktemp("cache")))
        out = tmp_path_factory.mktemp("report") / "new" / "folder"
        write_report(study_of(corpus, captions), out)
    return out


def test_report_has_every_table_chart_and_sheet(report: Path) -> None:
    names = {path.name for path in report.iterdir()}
    tables = {"table-3.1", "figure-3.5", "table-3.2", "figure-3.6", "table-3.3", "figure-3.7", "composers", "geometry"}
    assert names >= {f"{name}.{kind}" for name in tables for kind in ("md", "parquet")}
    charts = {"figure-3.5", "figure-3.6", "figure-3.7", "geometry-cosines-1", "geometry-cosines-2"}
    charts |= {"successes"}  # it never fails
    assert "There are none among the queries drawn" in (report / "report.html").read_text()
    assert {path.stem for path in report.glob("*.png")} == charts
    for path in report.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) >= 200


def test_page_needs_no_other_file_and_is_well_formed(report: Path) -> None:
    text = (report / "report.html").read_text()
    page = Page(text)
    assert not page.open
    assert len(page.sources) == len([*report.glob("*.png")])
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert {link.removeprefix("#") for link in page.links} == {*PARTS, "examples", "configuration"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert page.cells > 100
    assert not re.search(r"https?://|<script|<link", text)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert text.count('<div class="wide">') == text.count("<table>") + text.count("<img ")


def test_same_input_gives_the_same_bytes(corpus: Corpus, captions: Corpus, report: Path, own_cache: Path) -> None:
    again = own_cache / "again"
    write_report(study_of(corpus, captions), again)
    assert same_contents(report, again)


def test_configuration_says_what_the_results_depend_on(report: Path, corpus: Corpus) -> None:
    found = json.loads((report / "configuration.json").read_text())
    assert found["seed"] == 0
    assert found["oracle"] == "annotation"
    assert found["corpus"]["counts"]["queries"] == corpus.manifest.counts["queries"]
    assert len({space["heads"] for space in found["spaces"].values()}) == 3  # two temperatures have the same weights
    assert [space["tau"] for space in found["spaces"].values()] == [None, 0.05, 0.1, 0.5]


def test_parquet_markdown_and_json_say_the_same(report: Path) -> None:
    found = json.loads((report / "results.json").read_text())
    for name, records in found.items():
        rows = pq.read_table(report / f"{name}.parquet").to_pylist()
        assert len(rows) == len(records)
        for row, record in zip(rows, records, strict=True):
            assert {key: value for key, value in row.items() if value is not None} == pytest.approx(
                {key: value for key, value in record.items() if value is not None}
            )
        lines = (report / f"{name}.md").read_text().splitlines()
        assert sum(line.startswith("| ") for line in lines) == len(rows) + 1


def test_perfect_space_scores_100_in_every_table(report: Path) -> None:
    found = json.loads((report / "results.json").read_text())
    for row in found["table-3.1"]:
        assert row["n = 1"] == pytest.approx(100) or row["Method"] == "Chance"
    curve = {row["λ"]: row for row in found["figure-3.5"]}
    assert curve["1"]["vanilla"] == pytest.approx(100)
    assert curve["1"]["τ = 0.5"] < curve["1"]["τ = 0.1"]
    assert found["figure-3.6"][-1]["triplets"] == pytest.approx(curve["1"]["τ = 0.5"], abs=15)


def test_thesis_stands_beside_ours_where_it_has_a_figure(corpus: Corpus, own_cache: Path) -> None:
    known = table_31(study_of(corpus)).tables[0]
    assert known.column("thesis, n = 1")[:2] == [15.9, 35.4]
    assert known.column("thesis, n = 5")[-3:] == [71.0, 95.6, None]
    clip = table_32(study_of(corpus, thesis=True)).tables[0]
    assert clip.rows[0][:3] == ("CLIP", "CLIP", "0.1")
    thesis = [cell for name, cell in zip(clip.columns, clip.rows[0], strict=True) if name.endswith("thesis")]
    assert thesis == [45.2, 34.8, 82.4, 48.2, 75.4]
    other = table_32(study_of(corpus)).tables[0]
    assert all(cell is None for name, cell in zip(other.columns, other.rows[0], strict=True) if "thesis" in name)


def test_retrieval_needs_captions_and_says_so(corpus: Corpus, captions: Corpus, own_cache: Path) -> None:
    without = table_32(study_of(corpus)).tables[0]
    assert (without.rows[0][3], "needs a corpus of captions" in without.note) == (None, True)
    measured = table_32(study_of(corpus, captions)).tables[0]
    assert measured.rows[0][3] is not None
    assert "6 images with five captions" in measured.note


def test_composers_are_scored_with_the_captions_of_another_corpus_beside_the_own(
    corpus: Corpus, captions: Corpus, own_cache: Path
) -> None:
    study = study_of(corpus)
    study.bank = captions
    table = composers(study).tables[0]
    rows = [(row[0], row[1]) for row in table.rows]
    for name in ("image_text_image", "edited_caption", "pdv"):
        assert rows.index((name, captions.folder.name)) == rows.index((name, "own")) + 1
    assert ("delta", None) in rows
    assert f"30 captions of {captions.folder.name}" in table.note
    scores = {row[:2]: row[4].value for row in table.rows}  # type: ignore[union-attr]
    assert scores["pdv", "own"] == pytest.approx(1)
    assert scores["image_text_image", captions.folder.name] < 0.9  # its captions have none of the words
    assert table_31(study).tables[0].rows == table_31(study_of(corpus)).tables[0].rows
    alone = composers(study_of(corpus)).tables[0]
    assert {row[1] for row in alone.rows} == {None, "own"}


def test_curves_over_the_scale_have_their_intervals(corpus: Corpus, own_cache: Path) -> None:
    study = study_of(corpus)
    part = figure_35(study)
    hot = study.families[0].tuned[-1]
    shown = dict(zip(part.tables[0].column("λ"), part.tables[0].column("τ = 0.5"), strict=True))
    for scale, expected in zip(study.dev_curve(hot).scales, study.dev_estimates(hot), strict=True):
        cell = shown[f"{scale:g}"]
        assert isinstance(cell, Estimate)
        assert vars(cell) == pytest.approx(vars(expected))
    assert any(one.low < one.value < one.high for one in study.dev_estimates(hot))
    assert "95 % intervals" in part.charts[0].note


def test_image_to_text_to_image_keeps_the_own_captions_whatever_else_is_given(
    corpus: Corpus, captions: Corpus, own_cache: Path
) -> None:
    alone, beside = (table_31(study_of(corpus, more)).tables[0] for more in (None, captions))
    assert alone.rows == beside.rows
    given = study_of(corpus, captions)
    gallery = given.setting(given.families[0].main).gallery
    assert set(gallery.background.bank.texts) == set(given.bench.captions)


def test_breakdown_by_target_adds_up_to_the_score(corpus: Corpus, own_cache: Path) -> None:
    study = study_of(corpus)
    table = figure_37(study).tables[0]
    assert sum(table.column("Share [%]")) == pytest.approx(100)  # type: ignore[arg-type]
    total = sum(float(s) * float(v) / 100 for _, _, _, s, v in table.rows)  # type: ignore[arg-type]
    assert total == pytest.approx(100 * study.outcome(study.families[0].main, "delta").score(1.0).total)
    assert sum(table.column("Queries")) == len(study.bench.test)  # type: ignore[arg-type]


def test_examples_succeed_or_fail_as_they_are_said_to(corpus: Corpus, own_cache: Path) -> None:
    study = study_of(corpus)
    setting = study.setting(study.families[0].tuned[-1])  # it has lost the subjects
    for success in (True, False):
        shown = examples(setting, study.bench.test, 4, success)
        assert shown == examples(setting, study.bench.test, 4, success)
        assert len({example.source for example in shown}) == len(shown) > 0
        for example in shown:
            assert example.right[0] == success
            assert example.source not in example.found
            assert len(example.found) == FOUND
            goal = {*study.bench.triplets[study.bench.shown[example.source]]} - {example.edit[0]} | {example.edit[1]}
            of_found = [set(study.bench.triplets[study.bench.shown[region]]) == goal for region in example.found]
            assert tuple(of_found) == example.right
    sheet = example_sheet(setting, shown, "Failures")
    assert sheet.height > 4 * 168


def test_parts_are_taken_by_name(corpus: Corpus, tmp_path: Path, own_cache: Path) -> None:
    assert find_parts(["table-3.3", "table-3.1"]) == ["table-3.1", "table-3.3"]
    with pytest.raises(QueryError, match=r"no such part; got table-9; there are: table-3\.1, figure-3\.5"):
        find_parts(["table-9"])
    write_report(study_of(corpus), tmp_path / "out", ["table-3.1"])
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"table-3.1.md", "table-3.1.parquet", "report.html", "results.json", "configuration.json"}


def test_corpus_without_a_test_domain_is_refused_before_any_work(tmp_path: Path, own_cache: Path) -> None:
    whole = triplet_corpus(tmp_path / "t", copies=2)
    study = study_of(whole)
    queries = whole.table("queries")
    only_dev = queries.filter(~np.array(queries["is_test"].to_pylist()))
    pq.write_table(only_dev, whole.folder / "queries.parquet")
    document = json.loads((whole.folder / "manifest.json").read_text())
    from simat.manifest import FileEntry

    entry = FileEntry.of(whole.folder, "queries.parquet", only_dev.num_rows)
    document["tables"] = [t if t["name"] != entry.name else vars(entry) for t in document["tables"]]
    (whole.folder / "manifest.json").write_text(json.dumps(document))
    study = Study(open_bench(Corpus(whole.folder)), study.families)
    with pytest.raises(QueryError, match=r"the corpus has no queries in the domain test; got .*; score another domain"):
        write_report(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_families_are_grouped_by_towers_and_picked_by_temperature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    towers = {"triplets": TripletEncoder(), "other": TripletEncoder(fingerprint="9" * 64)}
    for spec, encoder in towers.items():
        encoder.space = replace(encoder.space, encoder=spec)
        for tau in (0.3, 0.05):
            save_heads(tmp_path / spec / f"tau={tau:g}", blurred(encoder, tau, spec, spec))
    monkeypatch.setattr("simat.encoders.load_towers", lambda spec: (towers[spec], towers[spec]))
    first, second = find_families(["triplets"], [tmp_path / "triplets", tmp_path / "other"])
    assert (first.name, second.name) == ("triplets", "other")
    assert [space.tau for space in first.spaces] == [None, 0.05, 0.3]
    assert first.main.tau == 0.05
    (only,) = find_families([], [tmp_path / "other"], [0.3])
    assert [space.tau for space in only.tuned] == [0.3]
    (single,) = find_families([], [tmp_path / "other" / "tau=0.3"])
    assert [space.tau for space in single.tuned] == [0.3]
    with pytest.raises(QueryError, match=r"no heads of temperature 0\.2; got 0\.05, 0\.3; see --sweep"):
        find_families([], [tmp_path / "other"], [0.2])
    with pytest.raises(QueryError, match=r"nothing to measure; give --encoder or --sweep"):
        find_families([], [])
    with pytest.raises(StorageError, match="no heads here"):
        find_families(["triplets"], [tmp_path])


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("open_clip:ViT-B-32-quickgelu/openai", "CLIP"),
        ("torchvision:resnet50", "RN50"),
        ("timm:resnet152.a1_in1k", "RN152"),
        ("fasttext:/models/cc.en.300.bin", "FastText"),
        ("sentences:sentence-transformers/LaBSE", "LaBSE"),
        ("laser", "LASER"),
        ("offline", None),
        ("scenes", None),
    ],
)
def test_encoders_of_the_thesis_are_known_by_their_specs(spec: str, name: str | None) -> None:
    assert published.thesis_name(spec) == name


def test_table_shows_and_stores_its_cells() -> None:
    estimate = Estimate(0.482, 0.471, 0.493)
    rows = (("a|b <i>", estimate, 15.94, 3, None), ("c", estimate, None, 4, None))
    table = Table("t", "A title & more", ("Name", "S", "x", "n", "none"), rows, "a note")
    assert "| a\\|b <i> | 48.2 [47.1, 49.3] | 15.9 | 3 | – |" in table.markdown()
    assert "<td>a|b &lt;i&gt;</td>" in table.html()
    assert '<td class="number">48.2<small>[47.1, 49.3]</small></td>' in table.html()
    assert "A title &amp; more" in table.html()
    stored = table.arrow().to_pydict()
    assert stored["S low"] == pytest.approx([47.1, 47.1])
    assert stored["x"] == [15.94, None]
    assert stored["none"] == [None, None]


def test_scales_are_shown_as_they_were_chosen() -> None:
    table = Table("t", "Title", ("λ = x", "score"), ((Scale(0.75), 0.75),))
    assert "| 0.75 | 0.8 |" in table.markdown()
    assert table.arrow().to_pydict() == {"λ = x": [0.75], "score": [0.75]}
    assert '<th class="number">λ&nbsp;=&nbsp;x</th>' in table.html()


def test_chart_of_the_same_numbers_is_the_same_file(tmp_path: Path) -> None:
    def chart(values: list[float]) -> bytes:
        line = Line("τ = 0.1", [0.01, 0.1, 1.0], values, None, [v - 1 for v in values], [v + 1 for v in values])
        return curves("c", "Title", [line], ("τ", "score"), logarithmic=True).png()

    assert chart([1.0, 2.0, 3.0]) == chart([1.0, 2.0, 3.0])
    assert chart([1.0, 2.0, 3.0]) != chart([1.0, 2.0, 4.0])
    with pytest.raises(SimatError, match="no such folder"):
        curves("c", "Title", [], ("x", "y")).save(tmp_path / "gone" / "c.png")


def test_grey_levels_of_the_pictures_are_apart() -> None:
    assert max(len(slot) for slot in SLOTS) * STEP < 255
