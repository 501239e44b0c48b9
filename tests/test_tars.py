"""The table of a tar against Python's own reader, and tars that nobody should have made."""

from __future__ import annotations

import bz2
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import pack_tar, special

from simat.errors import ImageError
from simat.tars import BLOCK, GOES_ON, LONGEST, NO_END, Member, TarTable

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40)
NAMES = st.lists(WORDS.filter(lambda word: word not in {".", ".."}), min_size=1, max_size=6).map("/".join)
FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


def by_tarfile(path: Path) -> dict[str, tuple[int, int]]:
    """Where Python's reader finds each file; of several of one name the last."""
    with tarfile.open(path) as tar:
        return {"/".join(p for p in m.name.split("/") if p): (m.offset_data, m.size) for m in tar if m.isreg()}


@settings(max_examples=30)
@given(files=st.dictionaries(NAMES, st.binary(max_size=1200), max_size=6), format=FORMATS)
def test_table_is_that_of_pythons_reader(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], format: int
) -> None:
    path = tmp_path_factory.mktemp("tars") / "a.tar"
    try:
        pack_tar(path, files, format)
    except ValueError:  # ustar holds no long names
        return
    table = TarTable.of(path)
    assert {name: (member.start, member.size) for name, member in table.members.items()} == by_tarfile(path)
    assert table.damage is None
    data = path.read_bytes()
    stored = {name: data[member.start : member.start + member.size] for name, member in table.members.items()}
    assert stored == {"/".join(part for part in name.split("/") if part): content for name, content in files.items()}


def test_table_keeps_the_order_of_the_tar_and_the_last_of_one_name(tmp_path: Path) -> None:
    files = {"b.jpg": b"b", "./a.jpg": b"first", "sub//c.jpg": b"c", "a.jpg": b"second"}
    table = TarTable.of(pack_tar(tmp_path / "a.tar", files))
    assert [*table.members] == ["b.jpg", "a.jpg", "sub/c.jpg"]
    assert table.members["a.jpg"].size == len("second")


def test_table_keeps_names_of_any_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe.jpg")
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert [*TarTable.of(pack_tar(tmp_path / "a.tar", {name: b"x"}, format)).members] == [name]


@pytest.mark.parametrize(
    ("name", "kind", "problem"),
    [
        ("link.jpg", tarfile.SYMTYPE, "a link inside a tar"),
        ("hard.jpg", tarfile.LNKTYPE, "a link inside a tar"),
        ("tty.jpg", tarfile.CHRTYPE, "a device inside a tar"),
        ("disk.jpg", tarfile.BLKTYPE, "a device inside a tar"),
        ("pipe.jpg", tarfile.FIFOTYPE, "a pipe inside a tar"),
        ("sparse.jpg", tarfile.GNUTYPE_SPARSE, "a sparse file inside a tar"),
        ("odd.jpg", b"Z", "a special file inside a tar"),
    ],
)
def test_what_is_no_file_has_a_problem(tmp_path: Path, name: str, kind: bytes, problem: str) -> None:
    files = {"1.jpg": b"one", name: special(name, kind, "/etc/passwd"), "2.jpg": b"two"}
    table = TarTable.of(pack_tar(tmp_path / "a.tar", files, tarfile.GNU_FORMAT))
    assert [*table.members] == ["1.jpg", name, "2.jpg"]
    assert table.members[name].problem == problem
    assert table.members["2.jpg"].problem is None


def test_directories_are_no_members(tmp_path: Path) -> None:
    files = {"d": special("d", tarfile.DIRTYPE), "d/1.jpg": b"one"}
    assert [*TarTable.of(pack_tar(tmp_path / "a.tar", files)).members] == ["d/1.jpg"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [("/etc/x.jpg", "an absolute name inside a tar"), ("a/../../x.jpg", "a name inside a tar that leads out of it")],
)
def test_names_that_lead_elsewhere_have_a_problem(tmp_path: Path, name: str, problem: str) -> None:
    table = TarTable.of(pack_tar(tmp_path / "a.tar", {name: b"evil", "ok.jpg": b"fine"}))
    assert [member.problem for member in table.members.values()] == [problem, None]
    assert not [shown for shown in table.members if shown.startswith("/") or ".." in shown.split("/")]


def test_a_bad_name_hides_no_good_one(tmp_path: Path) -> None:
    table = TarTable.of(pack_tar(tmp_path / "a.tar", {"x.jpg": b"good", "/x.jpg": b"evil"}))
    assert table.members["x.jpg"].problem is None
    assert table.members["x.jpg"].size == len("good")


def test_sparse_files_of_pax_headers_have_a_problem(tmp_path: Path) -> None:
    member = tarfile.TarInfo("s.jpg")
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.name": "s.jpg"}
    table = TarTable.of(pack_tar(tmp_path / "a.tar", {"s.jpg": member}))
    assert [one.problem for one in table.members.values()] == ["a sparse file inside a tar"]


@settings(max_examples=40)
@given(cut=st.integers(1, 3 * 2 * BLOCK + 2 * BLOCK))
def test_of_a_tar_cut_short_what_is_whole_is_read(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("tars") / "a.tar"
    files = {f"{i}.jpg": bytes([i]) * 300 for i in range(3)}
    whole = pack_tar(path, files, tarfile.USTAR_FORMAT).read_bytes()
    path.write_bytes(whole[:cut])
    table = TarTable.of(path)
    sound = [name for name, member in table.members.items() if member.problem is None]
    assert sound == [f"{i}.jpg" for i in range(3) if cut >= i * 2 * BLOCK + BLOCK + 300]
    for member in table.members.values():
        assert member.problem in {None, "the tar is cut short inside this file"}
    assert (table.damage is None) == (cut > 3 * 2 * BLOCK + BLOCK - 1)


def test_a_tar_without_an_end_may_have_been_cut(tmp_path: Path) -> None:
    path = pack_tar(tmp_path / "a.tar", {"1.jpg": b"x" * 600}, tarfile.USTAR_FORMAT)
    path.write_bytes(path.read_bytes()[: 3 * BLOCK])
    assert TarTable.of(path) == TarTable({"1.jpg": Member(BLOCK, 600)}, NO_END)


@settings(max_examples=60)
@given(place=st.integers(0, 6 * BLOCK - 1), value=st.integers(0, 255))
def test_no_changed_byte_raises_or_leads_out_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    path = tmp_path_factory.mktemp("tars") / "a.tar"
    data = bytearray(pack_tar(path, {"ä" * 80: b"1" * 600, "b": b"2"}).read_bytes())
    data[place] = value
    path.write_bytes(data)
    for member in TarTable.of(path).members.values():
        assert member.problem is not None or 0 <= member.start <= member.start + member.size <= len(data)


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A header with any size field, and the right checksum."""
    block = bytearray(tarfile.TarInfo(name.decode()).tobuf(tarfile.GNU_FORMAT))
    block[124:136], block[156:157] = size, kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(("kind", "more"), [(b"Z", 0), (b"M", 0), (b"S", 0), (b"S", 1), (b"S", 3)])
def test_what_follows_a_special_file_is_found(tmp_path: Path, kind: bytes, more: int) -> None:
    first = bytearray(header(b"s.jpg", b"%011o\0" % 700, kind))
    maps = [bytearray(BLOCK) for _ in range(more)]
    if more:
        first[482] = 1
        first[148:156] = b" " * 8
        first[148:156] = b"%06o\0 " % sum(first)
    for block in maps[:-1]:
        block[504] = 1
    data = b"".join([first, *maps, b"s" * 2 * BLOCK, header(b"2.jpg", b"%011o\0" % 3), b"two".ljust(3 * BLOCK, b"\0")])
    (tmp_path / "a.tar").write_bytes(data)
    table = TarTable.of(tmp_path / "a.tar")
    assert [*table.members] == ["s.jpg", "2.jpg"]
    assert (table.damage, table.members["2.jpg"].start) == (None, BLOCK * (4 + more))


def test_a_map_of_a_sparse_file_that_never_ends_ends_with_the_tar(tmp_path: Path) -> None:
    block = bytearray(header(b"s.jpg", b"%011o\0" % 0, b"S"))
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    (tmp_path / "a.tar").write_bytes(block + b"\1" * 5 * BLOCK)
    assert TarTable.of(tmp_path / "a.tar").damage == "the tar is cut short inside a header"


@pytest.mark.parametrize("size", [9 * 2**30, 10**12, 2**87])
def test_sizes_over_eight_gigabytes_are_read(tmp_path: Path, size: int) -> None:
    (tmp_path / "a.tar").write_bytes(header(b"x.jpg", b"\x80" + size.to_bytes(11, "big")) + b"x" * BLOCK)
    table = TarTable.of(tmp_path / "a.tar")
    assert table.members == {"x.jpg": Member(BLOCK, size, "the tar is cut short inside this file")}


@pytest.mark.parametrize("size", [b"\xff" * 12, b"notanumber \0", b"\xff" + b"\0" * 11])
def test_sizes_that_lead_back_end_the_tar(tmp_path: Path, size: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(header(b"x.jpg", size) + b"\0" * 2 * BLOCK)
    table = TarTable.of(tmp_path / "a.tar")
    assert table.members == {}
    assert "a file of no possible size" in (table.damage or "")


def test_a_header_that_claims_more_than_the_file_has_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(header(b"x", b"77777777777\0", b"x") + b"\0" * BLOCK)
    assert "cut short inside a header" in (TarTable.of(tmp_path / "a.tar").damage or "")


def test_of_a_huge_header_no_more_than_its_beginning_is_kept(tmp_path: Path) -> None:
    name = b"n" * (2 * LONGEST)
    parts = header(b"././@LongLink", b"%011o\0" % len(name), b"L") + name, header(b"x", b"%011o\0" % 0), bytes(1024)
    (tmp_path / "a.tar").write_bytes(b"".join(parts))
    assert [len(name) for name in TarTable.of(tmp_path / "a.tar").members] == [LONGEST]


def test_a_thousand_headers_for_one_file_are_read_one_after_another(tmp_path: Path) -> None:
    chain = header(b"././@LongLink", b"%011o\0" % 4, b"L") + b"name".ljust(BLOCK, b"\0")
    (tmp_path / "a.tar").write_bytes(chain * 1000 + header(b"x", b"%011o\0" % 0) + bytes(1024))
    assert [*TarTable.of(tmp_path / "a.tar").members] == ["name"]


def test_what_is_no_tar_is_damaged_from_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"hello, world" * 100)
    assert TarTable.of(tmp_path / "a.tar") == TarTable({}, "not a tar")
    (tmp_path / "b.tar").write_bytes(b"short")
    assert TarTable.of(tmp_path / "b.tar").damage == "the tar is cut short inside a header"


@pytest.mark.parametrize(("mode", "kind"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_a_compressed_tar_is_refused_with_the_remedy(tmp_path: Path, mode: str, kind: str) -> None:
    with tarfile.open(tmp_path / "a.tar", mode) as tar:  # type: ignore[call-overload]
        tar.addfile(tarfile.TarInfo("x"), io.BytesIO())
    with pytest.raises(ImageError, match=f"compressed with {kind} cannot be read in place; got a.tar; unpack it"):
        TarTable.of(tmp_path / "a.tar")


def test_a_missing_tar_says_so(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"cannot read the tar: No such file or directory; got a\.tar"):
        TarTable.of(tmp_path / "a.tar")


@pytest.mark.parametrize("padding", [0, 9 * BLOCK, 2**18])
def test_a_tar_that_goes_on_after_its_end_says_so(tmp_path: Path, padding: int) -> None:
    one = pack_tar(tmp_path / "a.tar", {"1.jpg": b"one"}).read_bytes()
    two = pack_tar(tmp_path / "b.tar", {"2.jpg": b"two"}).read_bytes()
    (tmp_path / "a.tar").write_bytes(one + bytes(padding) + two)
    assert TarTable.of(tmp_path / "a.tar") == TarTable({"1.jpg": Member(BLOCK, 3)}, GOES_ON)
    (tmp_path / "a.tar").write_bytes(one + bytes(padding))
    assert TarTable.of(tmp_path / "a.tar").damage is None


@pytest.mark.parametrize("name", ["BZh", "BZh9.jpg", "BZhang/1.jpg"])
def test_a_name_is_no_mark_of_compression(tmp_path: Path, name: str) -> None:
    assert [*TarTable.of(pack_tar(tmp_path / "a.tar", {name: b"x"})).members] == [name]


def test_an_empty_file_of_bzip2_is_compressed(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(bz2.compress(b""))
    with pytest.raises(ImageError, match="compressed with bzip2"):
        TarTable.of(tmp_path / "a.tar")


def test_a_name_with_a_nul_is_shown_without_it_and_has_a_problem(tmp_path: Path) -> None:
    member = tarfile.TarInfo("x.jpg")
    member.pax_headers = {"path": "n\0ul.jpg"}
    table = TarTable.of(pack_tar(tmp_path / "a.tar", {"x.jpg": member}))
    assert table.members == {"n\ufffdul.jpg": Member(0, 0, "a name inside a tar that leads out of it")}
