"""From Visual Genome's own files to regions: the laws, both layouts, and every kind of bad annotation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from building import Recorder
from genomes import Genome, genome, genomes, of_one, relationship, slow_regions, thing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.corpus import CorpusError
from data.regions import Region
from data.visual_genome import stream
from data.visual_genome.annotations import read_attributes, read_known_ids, read_sizes
from data.visual_genome.boxes import merge_near_duplicates, union
from data.visual_genome.regions import ReadingOptions, ReadingReport, read_regions

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
CAT, SPOON = thing(10, "cat", (100, 100, 200, 100)), thing(11, "spoon", (150, 150, 200, 100))


def read(folder: Path, made: Genome, **options: Any) -> tuple[list[Region], dict[str, int]]:
    """Regions, and why the others are none."""
    report = ReadingReport()
    regions = read_regions(made.write(folder), report=report, **options)
    assert report.relationships == len(regions) + report.skipped.total()
    assert report.regions == len(regions)
    return regions, dict(report.skipped)


@in_one_folder
@given(genomes(), st.sampled_from((None, 1)), st.integers(20, 500))
def test_streaming_gives_what_slow_loops_over_whole_files_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Genome, indent: int | None, window: int
) -> None:
    monkeypatch.setattr(stream, "WINDOW", window)
    report = ReadingReport()
    regions = read_regions(made.write(tmp_path, indent), report=report)
    slow, count = slow_regions(tmp_path)
    good = [r for r in merge_near_duplicates(slow) if has_good_shape(r)]
    assert regions == good
    assert (report.images, report.relationships) == (len(made.relationships), count)
    assert count == len(regions) + report.skipped.total()


@in_one_folder
@given(genomes().flatmap(lambda g: st.tuples(st.just(g), st.permutations(range(len(g.relationships))))))
def test_the_order_of_the_images_does_not_matter(tmp_path: Path, made: tuple[Genome, list[int]]) -> None:
    one, order = made
    assert read(tmp_path, one.reordered(order)) == read(tmp_path, one)


@in_one_folder
@given(genomes())
def test_every_region_keeps_the_bounds(tmp_path: Path, made: Genome) -> None:
    sizes = {image["image_id"]: (image["width"], image["height"]) for image in made.image_data}
    for region in read(tmp_path, made)[0]:
        both = union(region.subject_box, region.object_box)
        assert union(region.crop, both) == region.crop
        assert union(region.crop, (0, 0, *sizes[region.image_id])) == (0, 0, *sizes[region.image_id])
        assert has_good_shape(region)


def has_good_shape(region: Region) -> bool:
    width, height = region.crop[2] - region.crop[0], region.crop[3] - region.crop[1]
    return width * height > 4096 and 0.25 <= width / height <= 4


def test_a_region_has_what_the_files_say(tmp_path: Path) -> None:
    made = genome({7: [relationship(5, CAT, " LICKING ", SPOON)]}, {10: ["Black ", "big,wet", "black"], 11: []})
    assert read(tmp_path, made)[0] == [
        Region(
            region_id=5,
            image_id=7,
            subject="cat",
            relation="licking",
            object="spoon",
            subject_id=10,
            object_id=11,
            subject_box=(100, 100, 300, 200),
            object_box=(150, 150, 350, 250),
            crop=(100, 100, 350, 250),
            subject_attributes=("big", "black", "wet"),
        )
    ]


def test_both_layouts_of_names_give_the_same(tmp_path: Path) -> None:
    old = relationship(5, thing(10, "cat", (100, 100, 200, 100), old=True), "licking", SPOON)
    new = relationship(5, CAT, "licking", SPOON)
    regions = [read(tmp_path, genome({7: [item]}))[0] for item in (old, new)]
    assert regions[0] == regions[1] != []


def test_names_are_merged_by_aliases(tmp_path: Path) -> None:
    item = of_one(predicate="Sitting  on", object=thing(11, "Laptop", (150, 150, 200, 100)))
    assert [r.triplet for r in read(tmp_path, genome({1: [item]}))[0]] == [("cat", "sitting on a", "computer")]
    (tmp_path / "relationship_alias.txt").write_text("resting upon,sitting on a\n")
    (tmp_path / "object_alias.txt").write_text("cat,kitten\n")
    kitten = of_one(predicate="resting upon", subject=thing(10, "kitten", (100, 100, 200, 100)))
    assert read(tmp_path, genome({1: [kitten]})) == ([], {"outside the vocabulary": 1})
    regions, _ = read(tmp_path, genome({1: [kitten]}), options=ReadingOptions(official_object_aliases=True))
    assert [r.triplet for r in regions] == [("cat", "sitting on a", "spoon")]


def test_near_duplicates_are_merged_under_the_lowest_id(tmp_path: Path) -> None:
    again = of_one(9, subject=thing(90, "cat", (95, 100, 200, 100)))
    regions, skipped = read(tmp_path, genome({1: [again, of_one(3)]}))
    assert [(r.region_id, r.subject_id, r.crop) for r in regions] == [(3, 30, (95, 100, 350, 250))]
    assert skipped == {"near duplicate, merged": 1}


def test_boxes_are_clipped_to_the_image(tmp_path: Path) -> None:
    item = of_one(subject=thing(10, "cat", (-50, -5, 299.6, 200)), object=thing(11, "spoon", (500, 300, 900, 900)))
    region = read(tmp_path, genome({1: [item]}))[0][0]
    assert (region.subject_box, region.object_box) == ((0, 0, 250, 195), (500, 300, 640, 480))
    assert region.crop == (0, 0, 640, 480)


BOX = (100, 100, 200, 100)
BAD_ANNOTATIONS: list[tuple[str, Any]] = [
    ("no annotation", "licking"),
    ("no annotation", None),
    ("no annotation", {**of_one(), "subject": None}),
    ("no annotation", {"predicate": "licking"}),
    ("name missing or unusable", {**of_one(), "predicate": "lick\0ing"}),
    ("name missing or unusable", {**of_one(), "predicate": None}),
    ("name missing or unusable", of_one(object=thing(11, "x" * 1_000_000, BOX))),
    ("name missing or unusable", of_one(object=thing(11, "spo\0on", BOX))),
    ("name missing or unusable", of_one(object=thing(11, "spoon\ud800", BOX))),
    ("name missing or unusable", of_one(object={**SPOON, "names": []})),
    ("outside the vocabulary", of_one(predicate="near")),
    ("outside the vocabulary", of_one(subject=thing(10, "spoon", BOX))),
    ("id missing", {**of_one(), "relationship_id": None}),
    ("id missing", {**of_one(), "relationship_id": True}),
    ("id missing", {**of_one(), "relationship_id": 2**70}),
    ("id missing", of_one(object={**SPOON, "object_id": "11"})),
    ("box missing", of_one(subject={k: v for k, v in CAT.items() if k != "w"})),
    ("box missing", of_one(object={**SPOON, "x": "100"})),
    ("box missing", of_one(object={**SPOON, "x": float("nan")})),
    ("box missing", of_one(object={**SPOON, "h": float("inf")})),
    ("box without area", of_one(object=thing(11, "spoon", (100, 100, 0, 50)))),
    ("box without area", of_one(subject=thing(10, "cat", (100, 100, 50, -20)))),
    ("box without area", of_one(subject=thing(10, "cat", (100, 100, 50, 0.4)))),
    ("box outside its image", of_one(object=thing(11, "spoon", (640, 100, 100, 100)))),
    ("box outside its image", of_one(object=thing(11, "spoon", (100, -100, 100, 100)))),
    ("box outside its image", of_one(object=thing(11, "spoon", (10**30, 100, 10**30, 100)))),
    ("crop too small", of_one(subject=thing(10, "cat", (0, 0, 64, 64)), object=thing(11, "spoon", (9, 9, 9, 9)))),
    ("crop too long", of_one(subject=thing(10, "cat", (0, 0, 401, 100)), object=thing(11, "spoon", (9, 9, 9, 9)))),
    ("crop too long", of_one(subject=thing(10, "cat", (0, 0, 100, 401)), object=thing(11, "spoon", (9, 9, 9, 9)))),
]


@pytest.mark.parametrize(("reason", "item"), BAD_ANNOTATIONS, ids=lambda value: repr(value)[:24])
def test_a_bad_annotation_is_counted_and_hurts_no_other(tmp_path: Path, reason: str, item: Any) -> None:
    good = of_one(2)
    agreeing = genome({1: [good], 2: [item] if isinstance(item, dict) and item.get("subject") else []})
    agreeing.relationships[1]["relationships"] = [item]
    regions, skipped = read(tmp_path, agreeing)
    assert [r.region_id for r in regions] == [2]
    assert skipped == {reason: 1}


@pytest.mark.parametrize(
    "sides", [((0, 0, 65, 64), (9, 9, 9, 9)), ((0, 0, 400, 100), (9, 9, 9, 9)), ((0, 0, 100, 400), (9, 9, 9, 9))]
)
def test_a_crop_on_the_bounds_is_kept(tmp_path: Path, sides: tuple[Any, Any]) -> None:
    item = of_one(subject=thing(10, "cat", sides[0]), object=thing(11, "spoon", sides[1]))
    assert [r.crop[2:] for r in read(tmp_path, genome({1: [item]}))[0]] == [sides[0][2:]]


def test_a_repeated_relationship_id_counts_once_whatever_the_order(tmp_path: Path) -> None:
    items = [of_one(4), {**of_one(5), "relationship_id": 4}]
    found = [read(tmp_path, genome({1: order})) for order in (items, items[::-1])]
    assert found[0] == found[1]
    assert [(r.region_id, r.subject_id) for r in found[0][0]] == [(4, 40)]
    assert found[0][1] == {"relationship id repeated": 1}


@pytest.mark.parametrize("side", ["subject", "object"])
def test_an_object_missing_from_objects_json_is_counted(tmp_path: Path, side: str) -> None:
    made = genome({1: [of_one(4)], 2: [of_one(5)]})
    missing = made.relationships[0]["relationships"][0][side]["object_id"]
    made.objects[0]["objects"] = [one for one in made.objects[0]["objects"] if one["object_id"] != missing]
    regions, skipped = read(tmp_path, made)
    assert [r.region_id for r in regions] == [5]
    assert skipped == {"object missing from objects.json": 1}


def test_an_object_merged_into_another_is_there(tmp_path: Path) -> None:
    made = genome({1: [of_one(4)]})
    made.objects[0]["objects"] = [{"object_id": 999, "merged_object_ids": [40, 41]}, {"object_id": 999}, None, {}]
    assert [r.subject_id for r in read(tmp_path, made)[0]] == [40]


@pytest.mark.parametrize("size", [None, {}, {"width": 0, "height": 480}, {"width": "640", "height": 480}])
def test_an_image_without_a_size_is_counted(tmp_path: Path, size: dict[str, Any] | None) -> None:
    made = genome({1: [of_one(4)], 2: [of_one(5)]})
    made.image_data[0:1] = [] if size is None else [{"image_id": 1, **size}]
    regions, skipped = read(tmp_path, made)
    assert [r.region_id for r in regions] == [5]
    assert skipped == {"image missing from image_data.json": 1}


@pytest.mark.parametrize("name", ["relationships", "image_data"])
def test_a_missing_file_is_one_line(tmp_path: Path, name: str) -> None:
    genome({1: [of_one()]}).write(tmp_path)
    (tmp_path / f"{name}.json").unlink()
    with pytest.raises(CorpusError, match=rf"cannot read .*{name}\.json: No such file"):
        read_regions(tmp_path)


def test_objects_and_attributes_can_be_done_without(tmp_path: Path) -> None:
    made = genome({1: [of_one()]}, {10: ["red"]})
    whole, _ = read(tmp_path, made)
    for name in ("objects", "attributes"):
        (tmp_path / f"{name}.json").unlink()
    report, told = ReadingReport(), Recorder.new()
    regions = read_regions(tmp_path, told, report)
    assert [(r.region_id, r.crop) for r in regions] == [(r.region_id, r.crop) for r in whole]
    assert (whole[0].subject_attributes, regions[0].subject_attributes) == (("red",), ())
    assert report.missing_files == ["objects.json", "attributes.json"]
    assert [note.split(":")[0] for note in told.notes] == [
        "going on without objects.json",
        "going on without attributes.json",
    ]


@pytest.mark.parametrize("name", ["relationships", "objects", "attributes", "image_data"])
def test_a_cut_off_file_is_one_line_that_names_it(tmp_path: Path, name: str) -> None:
    path = genome({1: [of_one(1)], 2: [of_one(2)]}).write(tmp_path) / f"{name}.json"
    path.write_bytes(path.read_bytes()[:-20])
    line = rf"{name}\.json is cut off or damaged at its end, in or after record 2, at byte {path.stat().st_size:,}"
    with pytest.raises(CorpusError, match=line):
        read_regions(tmp_path)


@pytest.mark.parametrize(
    ("name", "document", "reason"),
    [
        ("relationships", {"1": []}, "is no JSON array"),
        (
            "relationships",
            [{"image_id": 1, "objects": []}],
            "record 1 of .* no list 'relationships'; got the keys",
        ),
        ("relationships", [{"id": 1, "relationships": []}], "has no image_id"),
        ("relationships", [{"image_id": "1", "relationships": []}], "has no image_id"),
        ("objects", [{"image_id": 1, "objects": {}}], "no list 'objects'"),
        ("attributes", [{"image_id": 1}], "no list 'attributes'"),
        ("image_data", [{"width": 4, "height": 3}], "record 1 of .*image_data.json has no image_id"),
        ("image_data", [[1, 2]], "is no array of objects"),
    ],
)
def test_another_layout_is_one_line_that_names_the_file(tmp_path: Path, name: str, document: Any, reason: str) -> None:
    path = genome({1: [of_one()]}).write(tmp_path) / f"{name}.json"
    path.write_text(json.dumps(document))
    with pytest.raises(CorpusError, match=reason) as caught:
        read_regions(tmp_path)
    assert path.name in str(caught.value)


def test_sizes_of_an_image_listed_twice_do_not_depend_on_the_order(tmp_path: Path) -> None:
    rows = [{"image_id": 1, "width": 5, "height": 9}, {"image_id": 1, "width": 4, "height": 10}]
    for order in (rows, rows[::-1]):
        (tmp_path / "image_data.json").write_text(json.dumps(order))
        assert read_sizes(tmp_path) == {1: (4, 10)}


def test_readers_give_only_what_is_wanted(tmp_path: Path) -> None:
    genome({1: [of_one()]}, {10: ["red"], 11: ["tin"]}).write(tmp_path)
    assert read_known_ids(tmp_path, {10, 12}) == {10}
    assert read_attributes(tmp_path, {11, 12}) == {11: ("tin",)}


def test_report_has_flat_counts(tmp_path: Path) -> None:
    report = ReadingReport()
    made = genome({1: [of_one(1), of_one(2, predicate="near"), of_one(3, predicate=None)]})
    read_regions(made.write(tmp_path), report=report)
    assert report.as_counts() == {
        "annotated images": 1,
        "annotated relationships": 3,
        "annotated regions": 1,
        "skipped: name missing or unusable": 1,
        "skipped: outside the vocabulary": 1,
    }


def test_progress_goes_through_every_file(tmp_path: Path) -> None:
    made = genome({1: [of_one()]})
    made.relationships[0]["padding"] = "x" * (3 << 20)
    told = Recorder.new()
    read_regions(made.write(tmp_path), told)
    assert told.stages == [
        ("relationships", 3, "MiB"),
        ("objects", 0, "MiB"),
        ("attributes", 0, "MiB"),
        ("image data", 0, "MiB"),
    ]
    assert told.advanced["relationships"] == 3
