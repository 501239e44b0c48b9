"""What is measured of answers, and the reports of ``simat eval edit`` and ``simat eval layout``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from building import Ran, here
from painters import Painters, tiny_classifier, tiny_segmenter
from PIL import Image

from data.scenes.render import OBJECT, SUBJECT, render
from data.scenes.scene import sample
from data.scenes.world import THINGS
from eval.editing.answers import Made
from eval.editing.cases import EditCase, LayoutCase
from eval.editing.layouts import compare
from eval.editing.meters import AccuracyMeter, FactsMeter, MaskMeter, PixelMeter, measure
from eval.editing.published import COCO_STUFF, IMAGENET, beside
from eval.editing.sets import look_at
from eval.editing.settings import Setting
from eval.editing.sheets import example_sheet
from eval.editing.summary import Measured, edit_table, trade_offs
from eval.judge import Judge, Segmenter, load_judge, load_segmenter
from eval.metrics.accuracy import NetworkClassifier
from eval.metrics.frechet import fid
from eval.metrics.masks import grid_ceiling, resized
from eval.scene_edits import WORLD, scene_edits, scene_layouts
from simat.errors import EncoderError, SimatError
from simat.types import Accepts

pytestmark = pytest.mark.usefixtures("one_thread")
GREYS = {50: "dog", 100: "cat", 150: "box"}


class Knows:
    """A classifier that reads the facts off the brightness of a picture."""

    name = "brightness"
    labels = ("subject dog", "subject cat", "relation riding", "object car", "object boat", "place park")

    def logits(self, pictures: list[Image.Image]) -> np.ndarray:
        bright = np.array([np.asarray(picture).mean() > 127 for picture in pictures])
        return np.stack([~bright, bright, bright, bright, ~bright, bright], 1).astype(np.float32)


def case(mask: np.ndarray | None = None, key: str = "a", **changes: Any) -> EditCase:
    """Black 32 × 32, that shall become white; a judge of brightness sees a cat riding a car in the white one."""
    facts = {"subject": "cat", "relation": "riding", "object": "car", "place": "park"}
    fields = {"source": Image.new("RGB", (32, 32)), "text": "white", "reference": "black", "edits": "dog -> cat",
              "facts": facts, "changed": "subject", "mask": mask}  # fmt: skip
    return EditCase(key, "subject", **{**fields, **changes})


def made(value: int, mask: np.ndarray | None = None, where: np.ndarray | None = None) -> Made:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[np.ones((32, 32), bool) if where is None else where] = value
    return Made(Image.fromarray(pixels), mask, 2.0, {"unet": 1.8})


def square() -> np.ndarray:
    mask = np.zeros((32, 32), bool)
    mask[9:17, 8:16] = True
    return mask


def test_mask_meter_tells_iou_ceiling_and_change_elsewhere() -> None:
    truth, grid = square(), np.zeros((8, 8), bool)
    grid[2:4, 2:4] = True
    far = np.zeros((32, 32), bool)
    far[25:, :] = True
    values = MaskMeter()(
        [case(truth), case(truth), case(None)], [made(255, grid, truth), made(255, None, far), made(0)]
    )
    iou = (truth & resized(grid, (32, 32))).sum() / (truth | resized(grid, (32, 32))).sum()
    assert values["mask_iou"][0] == pytest.approx(iou)
    assert values["mask_ceiling"][0] == pytest.approx(grid_ceiling(truth, (8, 8)))
    assert values["mask_reached"][0] == pytest.approx(iou / grid_ceiling(truth, (8, 8)))
    assert values["outside"][0] == 0  # all change is inside
    assert values["outside"][1] == pytest.approx(far.sum() / (32 * 32 - 12 * 12))
    assert np.isnan(values["mask_iou"][1:]).all()
    assert np.isnan(values["outside"][2])


def test_success_is_the_whole_triplet_and_the_edited_word_is_told_apart() -> None:
    meter = FactsMeter(Judge(Knows()))
    bright, dark = made(255), made(0)
    wrong = case(facts={"subject": "cat", "relation": "riding", "object": "boat", "place": "beach"})
    values = meter([case(), case(), wrong], [bright, dark, bright])
    np.testing.assert_array_equal(values["success"], [1, 0, 0])
    np.testing.assert_array_equal(values["edited"], [1, 0, 1])
    np.testing.assert_array_equal(values["place"], [1, 1, 0])
    np.testing.assert_array_equal(meter.reliability([case()]), [0])  # relation and object of the input are not seen
    with pytest.raises(EncoderError, match="says no facts of scenes; got x"):
        Judge(NetworkClassifier("x", ("tabby cat",), lambda picture: picture, lambda batch: batch))


def test_refused_answers_have_no_figures_but_their_place() -> None:
    found = measure([PixelMeter()], [case(), case(), case()], [made(51), Made(None, refused="no"), made(102)])
    np.testing.assert_allclose(found["change"], [0.2, np.nan, 0.4])
    assert np.isnan(measure([PixelMeter()], [case()], [Made(None, refused="no")])["change"]).all()


def test_accuracy_meter_names_its_classifier() -> None:
    meter = AccuracyMeter(Knows(), (0, 1))
    assert meter.columns[0].label == "Accuracy on brightness"
    np.testing.assert_array_equal(meter([case(target=(1, "cat"))] * 2, [made(255), made(0)])["success"], [1, 0])


def measured(backend: str, strength: float | None, success: list[float], outside: float, **options: str) -> Measured:
    values = {"success": np.array(success, float), "outside": np.full(len(success), outside),
              "distance": np.arange(len(success)) * (strength or 0.0)}  # fmt: skip
    cases = [case(square(), str(n)) for n in range(len(success))]
    setting = Setting(backend, strength, tuple(options.items()))
    return Measured(setting, "subject", cases, [made(255)] * len(success), values, {"FID on x": 3.0})


def test_table_puts_change_beside_the_autoencoders_own() -> None:
    columns = [c for m in (FactsMeter(Judge(Knows())), MaskMeter()) for c in m.columns]
    rows = [measured("diffedit", 0.5, [1, 0, 1, 1], 0.02), measured("encode", None, [0, 0, 0, 0], 0.016)]
    table = edit_table("t", "T", rows, columns, {})
    assert table.columns == (
        "Setting", "Edits", "Refused", "Edit success by brightness", "Change outside the dilated true mask",
        "FID on x", "× the autoencoder's own", "Seconds", "in the UNet",
    )  # fmt: skip
    first = dict(zip(table.columns, table.rows[0], strict=True))
    assert first["× the autoencoder's own"] == pytest.approx(1.25)
    assert table.records()[0]["Edit success by brightness"] == pytest.approx(75)
    assert (first["Seconds"], first["in the UNet"]) == ("2.00", "0.90")
    medians = edit_table("t", "T", rows, columns, {}, median=True)
    assert "Edit success by brightness" not in medians.columns
    assert medians.records()[0]["Change outside the dilated true mask"] == pytest.approx(2)


def test_published_figures_stand_beside_the_same_metric_alone() -> None:
    assert beside(IMAGENET, "flexit", "LPIPS") == 24.7
    assert beside(IMAGENET, "flexit", "CSFID (mean+diag)") == 57.9
    assert beside(IMAGENET, "flexit", "LPIPS on efficientnet") is None
    assert beside(IMAGENET, "flexit threshold=0.3", "LPIPS") is None
    assert COCO_STUFF["few"]["zestguide"]["mIoU"] == 46.9


def test_trade_off_has_a_curve_per_variant_over_strength() -> None:
    rows = [measured("diffedit", s, [1.0, 0.0], 0.1) for s in (0.9, 0.3)]
    rows += [measured("diffedit", 0.5, [1.0, 1.0], 0.1, threshold="0.3"), measured("copy", None, [0.0, 0.0], 0.0)]
    columns = [c for m in (FactsMeter(Judge(Knows())), MaskMeter()) for c in m.columns]
    (chart,) = trade_offs("t", "T", rows, columns)
    lines = {line.get_label(): line for line in chart.figure.axes[0].get_lines()}
    assert set(lines) == {"diffedit", "diffedit threshold=0.3", "copy"}
    np.testing.assert_allclose(lines["diffedit"].get_ydata(), [50, 50])
    assert {text.get_text() for text in chart.figure.axes[0].texts} == {"0.3", "0.5", "0.9"}


def test_reals_compare_whole_sets_and_classes() -> None:
    class Means:
        name = "means"

        def __call__(self, pictures: list[Image.Image]) -> np.ndarray:
            return np.array([np.asarray(p).mean((0, 1)) for p in pictures])

    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)) for _ in range(12)]
    plain = look_at(Means(), pictures[:6])
    assert plain.distances(pictures[6:]) == {"FID on means": pytest.approx(fid(Means()(pictures[6:]), plain.features))}
    by_class = look_at(Means(), {"a": pictures[:3], "b": pictures[3:6]})
    found = by_class.distances(pictures[:6], ["a", "a", "a", "b", "b", "b"])
    assert found["CSFID on means (mean)"] == pytest.approx(0, abs=1e-9)
    assert set(found) == {f"{m} on means ({k})" for m in ("SFID", "CSFID") for k in ("mean", "mean+diag")}


def grey_segmenter() -> Segmenter:
    """Reads classes off the greys of a picture: 50 dog, 100 cat, 150 box, all else background."""
    import torch

    class Greys(torch.nn.Module):
        config = type("Config", (), {"id2label": {0: "background", 1: "dog", 2: "cat", 3: "box"}})

        def forward(self, pixel_values: torch.Tensor) -> Any:
            grey = pixel_values.mean(1, keepdim=True)
            logits = torch.cat([torch.full_like(grey, 0.5), *[(grey == g).float() for g in (50, 100, 150)]], 1)
            return type("Output", (), {"logits": logits})

    def prepare(picture: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()

    return Segmenter("greys", Greys(), prepare)


def test_layouts_are_compared_by_what_the_segmenter_sees() -> None:
    left, top = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    left[:, :16], top[:32, 32:] = True, True
    layouts = [LayoutCase("a", "few", "a dog and a cat", {"dog": left, "cat": top})]
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32] = 50  # the dog spills over pixels without a label; the cat is missing
    found = compare(grey_segmenter(), layouts, [Made(Image.fromarray(pixels))])
    np.testing.assert_array_equal(found.matrices[0], [[left.sum(), 0, 0], [0, 0, top.sum()]])
    assert found.segment_ious[0] == pytest.approx((0.5 + 0) / 2)
    with pytest.raises(EncoderError, match="greys knows no class 'horse'"):
        compare(grey_segmenter(), [LayoutCase("a", "few", "a horse", {"horse": left})], [made(0)])


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier(tmp_path_factory.mktemp("judge") / "classifier")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_segmenter(tmp_path_factory.mktemp("judge") / "segmenter")


def test_judge_reads_folders_of_transformers(classifier: Path, segmenter: Path) -> None:
    picture = render(sample(WORLD, 0), 64).image
    (facts,) = load_judge(str(classifier)).facts([picture])
    assert set(facts) == {"subject", "relation", "object", "place"}
    assert facts["subject"] in THINGS
    eyes = load_segmenter(str(segmenter))
    (seen,) = eyes.maps([picture.resize((100, 80))])
    assert seen.shape == (80, 100)
    assert eyes.number("dog") == 1 + [*THINGS].index("dog")
    with pytest.raises(EncoderError, match="no segmenter there; got '/none"):
        load_segmenter("/none")
    with pytest.raises(EncoderError, match="no classifier there; got '/none"):
        load_judge("/none")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Ran, int]]:
    """``simat eval …`` with painters in the place of the project's backends."""
    painters = Painters()
    monkeypatch.setattr("eval.editing.commands.open_answerer", lambda **options: painters)

    def ask(*arguments: Any) -> tuple[Ran, int]:
        painters.asked.clear()
        return here(capsys, "eval", *arguments), len(painters.asked)

    return ask


def test_edit_writes_tables_figures_and_sheets_and_resumes(
    run: Callable[..., tuple[Ran, int]], classifier: Path, tmp_path: Path
) -> None:
    arguments = ("edit", "scenes", tmp_path / "out", "--backend", "fade,encode,copy", "--strength", "0.2,0.9",
                 "--edits", 2, "--size", 64, "--classifier", classifier,
                 "--sweep", "fade.threshold=0.3", "--json")  # fmt: skip
    ran, asked = run(*arguments)
    assert asked == 4 * 6
    rows = {row["Setting"]: row for row in ran.json["tables"]["edits-subject"]}
    assert set(rows) == {
        "fade, 0.2",
        "fade, 0.9",
        "fade threshold=0.3, 0.2",
        "fade threshold=0.3, 0.9",
        "encode",
        "copy",
    }
    assert rows["copy"]["Change of pixels"] == 0
    assert rows["copy"]["LPIPS on efficientnet"] == 0
    assert rows["fade, 0.2"]["LPIPS on efficientnet"] < rows["fade, 0.9"]["LPIPS on efficientnet"]
    assert rows["encode"]["Change of pixels"] == pytest.approx(100 / 255)
    assert rows["encode"]["× the autoencoder's own"] == pytest.approx(1)
    assert rows["copy"]["CLIPScore on scenes"] == pytest.approx(rows["encode"]["CLIPScore on scenes"], abs=2)
    assert "FID on efficientnet" in rows["copy"]
    assert ran.json["tables"]["edits-object"][0]["Edits"] == 2
    out = tmp_path / "out"
    answers = pq.read_table(out / "answers.parquet").to_pylist()
    assert len(answers) == 24
    assert {row["kind"] for row in answers} == {"subject", "object"}
    for name in ("report.md", "configuration.json", "edits-subject.parquet", "edits-object.md",
                 "edits-subject-success-distance.png", "failures-subject.png"):  # fmt: skip
        assert (out / name).stat().st_size > 100, name
    again, asked = run(*arguments)
    assert asked == 0
    assert again.json["tables"] == ran.json["tables"]
    _, asked = run("edit", "scenes", tmp_path / "out", "--backend", "fade", "--edits", 3, "--report", *arguments[9:])
    assert asked == 0


def test_layout_writes_a_table_and_a_sheet(
    run: Callable[..., tuple[Ran, int]], segmenter: Path, tmp_path: Path
) -> None:
    ran, _ = run("layout", "scenes", tmp_path / "out", "--backend", "segments,grey", "--layouts", 4, "--size", 64,
              "--segmenter", segmenter, "--json")  # fmt: skip
    rows = {row["Setting"]: row for row in ran.json["tables"]["layouts-few"]}
    assert set(rows) == {"segments", "grey"}
    assert {"mIoU on segmenter", "Segment IoU", "CLIPScore on scenes", "FID on efficientnet"} <= set(rows["grey"])
    assert rows["grey"]["Layouts"] == 4
    assert (tmp_path / "out" / "layouts-few-miou-fid.png").is_file()
    assert (tmp_path / "out" / "examples-few.png").stat().st_size > 1000


FEW = ("--edits", "2", "--size", "64")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("edit", "scenes", "--backend", "nobody"), "no such backend; got 'nobody'"),
        (("edit", "scenes", "--strength", "much"), "--strength takes numbers"),
        (("edit", "scenes", "--strength", "2"), "a strength lies in"),
        (("edit", "queries.csv", "--backend", "copy"), "ImageNet's queries need the validation images"),
        (("edit", "coco", "--backend", "copy"), "need BISON's annotations"),
        (("layout", "coco", "--backend", "grey"), "need COCO-Stuff's maps"),
        (("layout", "scenes", "--protocol", "none", "--backend", "grey"), "no such protocol of layouts"),
        (("edit", "scenes", "--backend", "copy", "--report", *FEW, "--classifier", "none"), "no answer is there yet"),
    ],
)
def test_bad_requests_are_one_line(
    run: Callable[..., tuple[Ran, int]], tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    ran, _ = run(*arguments[:2], tmp_path / "out", *arguments[2:])
    assert ran.code == 2
    assert message in ran.error


def test_sheet_shows_masks_and_segments() -> None:
    edits, layouts = scene_edits("subject", 2, size=64), scene_layouts("few", 1, size=64)
    mask = np.zeros((16, 16), bool)
    mask[4:8, 4:8] = True
    answers = [Made(one.picture(), mask) for one in edits]
    found = Measured(Setting("fade", 0.5), "subject", edits, answers, {})
    assert example_sheet("Edits", [found], [0, 1]).size[1] > 400
    drawn = Measured(Setting("grey"), "few", layouts, [Made(Image.new("RGB", (64, 64)))], {})
    assert example_sheet("Layouts", [drawn], [0]).size[0] > 300


def test_the_two_things_of_a_scene_are_the_segments_of_all() -> None:
    (layout,) = scene_layouts("all", 1, size=64)
    scene = sample(WORLD, 0)
    rendered = render(scene, 64)
    np.testing.assert_array_equal(layout.segments[scene.triplet[0]], rendered.mask(SUBJECT))
    np.testing.assert_array_equal(layout.segments[scene.triplet[2]], rendered.mask(OBJECT))


def test_commands_say_what_is_missing_with_the_projects_own_error() -> None:
    from eval.editing.studio import StudioAnswerer

    with pytest.raises(SimatError):
        StudioAnswerer(model="/nowhere").accepts("nobody")


def test_backends_get_only_what_they_heed() -> None:
    from eval.editing.studio import StudioAnswerer

    answerer = StudioAnswerer(model="scenes")  # no model loads for this
    assert answerer.accepts("copy") == Accepts(frozenset({"image"}), frozenset())
    assert "reference" in answerer.accepts("diffedit").optional
    assert "reference" not in answerer.accepts("sdedit").optional
    assert "strength" in answerer.accepts("sdedit").optional
