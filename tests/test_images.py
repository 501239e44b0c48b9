"""Decoding: hostile files end in an ImageError, good ones in exactly the picture they hold."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers import blotches, encoded, plain
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from simat import images
from simat.errors import ImageError
from simat.images import ImageTransform, decode, decode_sized, load_image, read_bytes

PHOTO = blotches(5, (160, 120))
SEEDS = [encoded(PHOTO.resize((40, 30)), format) for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]
NEEDS_AVIF = pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")
SMALL = st.integers(1, 60)
SIZES = st.tuples(SMALL, SMALL).filter(lambda size: max(size) <= 7 * min(size))  # thinner ones, open_clip cannot do


def png(width: int, height: int, rows: bytes, bits: int = 8, kind: int = 2, extra: bytes = b"") -> bytes:
    """A PNG assembled by hand from an already compressed row stream."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


# hostile files


@given(st.binary(max_size=300))
def test_decode_of_random_bytes_is_an_image_error(data: bytes) -> None:
    with pytest.raises(ImageError):
        decode(data)


@settings(max_examples=300)
@given(st.sampled_from(SEEDS), st.data())
def test_decode_of_damaged_files_raises_nothing_but_image_errors(seed: bytes, data: st.DataObject) -> None:
    damaged = bytearray(seed[: data.draw(st.integers(1, len(seed)))])
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture, (width, height) = decode_sized(bytes(damaged), data.draw(st.sampled_from([None, 8, 224])))
    except ImageError as error:
        assert str(error)
    else:
        assert picture.mode == "RGB"
        assert 1 <= picture.width <= width and 1 <= picture.height <= height


@NEEDS_AVIF
def test_decode_of_avif_with_one_byte_changed_raises_nothing_but_image_errors() -> None:
    good = encoded(PHOTO.resize((40, 30)), "AVIF")
    refused = 0
    for place in range(len(good)):
        try:
            decode(good[:place] + bytes([good[place] ^ 0x5A]) + good[place + 1 :])
        except ImageError:
            refused += 1
    assert 0 < refused < len(good)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_decode_refuses_truncated_files(format: str, share: float) -> None:
    data = encoded(PHOTO, format)
    with pytest.raises(ImageError, match=r"truncated|format we read"):
        decode(data[: int(share * len(data))])


@pytest.mark.parametrize(
    "data",
    [b"this is a shopping list\n" * 9, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"%!PS-Adobe-3.0"],
    ids=["text", "svg", "pdf", "postscript"],
)
def test_decode_refuses_other_formats(data: bytes) -> None:
    with pytest.raises(ImageError, match="not an image in a format we read; use JPEG"):
        decode(data)


def test_decode_refuses_a_bomb_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    def unpacked(*_: object) -> None:
        raise AssertionError("the bomb went off")

    packer = zlib.compressobj(9)
    line = b"\0" + b"\0" * 60_000
    rows = b"".join(packer.compress(line) for _ in range(200)) + packer.flush()  # 20,000 rows would be 6 MB more
    monkeypatch.setattr(Image.Image, "load", unpacked)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", unpacked)
    with pytest.raises(ImageError, match="more than 128 megapixels"):
        decode(png(20_000, 20_000, rows))


def test_decode_has_limits_of_its_own_whatever_pillow_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match="more than 128 megapixels; got 20000 × 20000"):
        decode(png(20_000, 20_000, zlib.compress(b"\0")))


@pytest.mark.parametrize(("size", "fits"), [((200, 1), True), ((201, 1), False), ((1, 200), True), ((1, 201), False)])
def test_decode_refuses_thin_strips(size: tuple[int, int], fits: bool) -> None:
    data = encoded(Image.new("RGB", size))
    if fits:
        assert decode(data).size == size
    else:
        with pytest.raises(ImageError, match=f"longer than 200 times its width; got {size[0]} × {size[1]}"):
            decode(data)


def test_load_image_has_the_same_limits_for_pictures_and_arrays() -> None:
    with pytest.raises(ImageError, match="longer than 200 times"):
        load_image(Image.new("RGB", (300, 1)))
    with pytest.raises(ImageError, match="no pixels; got 0 × 3"):
        load_image(np.zeros((3, 0, 3), np.uint8))


# exact colours


def test_decode_takes_the_first_frame_of_an_animation() -> None:
    frames = [plain("red"), plain("blue"), plain("green")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(np.asarray(decode(data)), np.asarray(plain("red")))


def test_decode_reads_cmyk() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    pixels = np.asarray(decode(encoded(cmyk, "TIFF")))
    np.testing.assert_array_equal(pixels, np.broadcast_to([255, 0, 0], (16, 16, 3)).astype(np.uint8))
    assert np.abs(np.asarray(decode(encoded(cmyk, "JPEG"))).astype(int) - [255, 0, 0]).max() < 8


def test_decode_scales_16_bit_grey() -> None:
    deep = np.array([[0, 257, 12 * 257, 65535]] * 4, np.uint16)
    pixels = np.asarray(decode(encoded(Image.fromarray(deep))))
    expected = np.repeat(np.array([[0, 1, 12, 255]] * 4, np.uint8)[..., None], 3, 2)
    np.testing.assert_array_equal(pixels, expected)


def test_decode_reads_16_bit_colour() -> None:
    rows = b"".join(b"\0" + struct.pack(">6H", 65535, 0, 257 * 7, 257 * 3, 65535, 0) for _ in range(2))
    pixels = np.asarray(decode(png(2, 2, zlib.compress(rows), bits=16)))
    np.testing.assert_array_equal(pixels, np.array([[[255, 0, 7], [3, 255, 0]]] * 2, np.uint8))


def test_decode_reads_palettes() -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([9, 8, 7, 200, 100, 50])
    np.testing.assert_array_equal(np.asarray(decode(encoded(palette))), np.full((4, 4, 3), (200, 100, 50), np.uint8))


def test_decode_puts_transparent_palette_colours_on_white() -> None:
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([9, 8, 7, 200, 100, 50])
    palette.putpixel((1, 1), 1)
    pixels = np.asarray(decode(encoded(palette, transparency=0)))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 1].tolist() == [200, 100, 50]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGBA", (100, 50, 0, 0), (255, 255, 255)),
        ("RGBA", (100, 50, 0, 255), (100, 50, 0)),
        ("RGBA", (255, 0, 0, 51), (255, 204, 204)),
        ("LA", (100, 255), (100, 100, 100)),
        ("LA", (0, 51), (204, 204, 204)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_decode_puts_transparency_on_white(mode: str, colour: object, expected: tuple[int, int, int]) -> None:
    pixels = np.asarray(decode(encoded(Image.new(mode, (3, 5), colour))))
    np.testing.assert_array_equal(pixels, np.full((5, 3, 3), expected, np.uint8))


# orientation


@pytest.mark.parametrize("value", range(1, 9))
def test_decode_turns_exif_orientations_upright(value: int) -> None:
    lying = PHOTO.crop((0, 0, 80, 48))
    data = encoded(lying, "PNG", exif=orientation(value))
    upright, size = decode_sized(data)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(np.asarray(upright), np.asarray(expected))
    assert size == expected.size == ((48, 80) if value > 4 else (80, 48))
    np.testing.assert_array_equal(np.asarray(load_image(Image.open(io.BytesIO(data)))), np.asarray(expected))


@pytest.mark.parametrize("value", range(2, 9))
def test_decode_of_a_turned_jpeg_matches_the_upright_photo(value: int) -> None:
    inverse = {5: 5, 6: 8, 7: 7, 8: 6}.get(value, value)
    lying = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(PHOTO, exif=orientation(inverse)))))
    upright = decode(encoded(lying, "JPEG", quality=97, exif=orientation(value)))
    assert upright.size == PHOTO.size
    assert np.abs(np.asarray(upright).astype(int) - np.asarray(PHOTO)).mean() < 2


@pytest.mark.parametrize("value", [0, 9, 255])
def test_decode_ignores_orientations_that_do_not_exist(value: int) -> None:
    np.testing.assert_array_equal(
        np.asarray(decode(encoded(PHOTO, exif=orientation(value)))), np.asarray(decode(encoded(PHOTO)))
    )


# draft scaling


@given(st.tuples(st.integers(1, 900), st.integers(1, 900)), st.integers(1, 500))
@settings(max_examples=60)
def test_draft_never_goes_below_the_edge(size: tuple[int, int], edge: int) -> None:
    size = (max(size[0], size[1] // 150 + 1), max(size[1], size[0] // 150 + 1))
    data = encoded(Image.new("RGB", size, (9, 99, 199)), "JPEG")
    picture, original = decode_sized(data, edge)
    assert original == size
    assert min(picture.size) >= min(edge, *size)


def test_draft_scales_a_large_photo_down() -> None:
    data = encoded(PHOTO.resize((2048, 1600)), "JPEG")
    assert decode(data, 256).size == (512, 400)
    assert decode(data, 200).size == (256, 200)
    assert decode(data, 801).size == (2048, 1600)
    assert decode(data).size == (2048, 1600)


def test_draft_tells_the_upright_size_of_the_original() -> None:
    data = encoded(PHOTO.resize((1600, 1200)), "JPEG", exif=orientation(6))
    picture, size = decode_sized(data, 256)
    assert (picture.size, size) == ((300, 400), (1200, 1600))


def test_draft_leaves_other_formats_alone() -> None:
    assert decode(encoded(PHOTO.resize((640, 480))), 16).size == (640, 480)


# files


@pytest.mark.parametrize("name", ["a b.png", "a\nb.png", os.fsdecode(b"\xff\xfe.png"), "名前.png"])
def test_read_bytes_takes_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(SEEDS[1])
    assert read_bytes(tmp_path / name) == read_bytes(str(tmp_path / name)) == SEEDS[1]


def test_read_bytes_refuses_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").touch()
    with pytest.raises(ImageError, match="the file is empty"):
        read_bytes(tmp_path / "x.jpg")


def test_read_bytes_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"cannot read the file: No such file or directory; got .*x\.jpg"):
        read_bytes(tmp_path / "x.jpg")


def test_read_bytes_refuses_a_huge_file(tmp_path: Path) -> None:
    with (tmp_path / "x.jpg").open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)
    with pytest.raises(ImageError, match="larger than 256 MiB; got 256 MiB"):
        read_bytes(tmp_path / "x.jpg")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_read_bytes_refuses_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(SEEDS[0])
    path.chmod(0)
    with pytest.raises(ImageError, match="cannot read the file: Permission denied"):
        read_bytes(path)


def test_read_bytes_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jpg")
    caught: list[str] = []

    def attempt() -> None:
        try:
            read_bytes(tmp_path / "x.jpg")
        except ImageError as error:
            caught.append(str(error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(5)
    assert caught == ["not a regular file; got x.jpg"]


def test_read_bytes_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="a folder that cannot be read; got "):
        read_bytes(tmp_path)


def test_load_image_reads_paths_pictures_and_arrays_alike(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "x.png")
    expected = np.asarray(PHOTO)
    for source in (tmp_path / "x.png", str(tmp_path / "x.png"), PHOTO, expected):
        np.testing.assert_array_equal(np.asarray(load_image(source)), expected)


# transforms


def transform(resize: str, frame: tuple[int, int], interpolation: str = "BICUBIC", fill: int = 0) -> ImageTransform:
    return ImageTransform(*frame, frame[0], (0.5,) * 3, (0.5,) * 3, resize, interpolation, fill)  # type: ignore[arg-type]


@settings(max_examples=80)
@given(SIZES, st.integers(4, 48), st.sampled_from(["BICUBIC", "BILINEAR"]), st.integers(0, 255))
@pytest.mark.parametrize("resize", ["shortest", "longest", "squash"])
def test_transform_is_that_of_open_clip_pixel_for_pixel(
    resize: str, size: tuple[int, int], edge: int, interpolation: str, fill: int
) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    picture = blotches(edge, size)
    config = PreprocessCfg(
        size=edge,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        resize_mode=resize,
        interpolation=interpolation.lower(),
        fill_color=fill,
    )
    theirs = image_transform_v2(config, is_train=False)(picture)
    theirs = np.rint(theirs.numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
    ours = transform(resize, (edge, edge), interpolation, fill).pixels(picture)
    np.testing.assert_array_equal(ours, theirs)


@given(SIZES, st.tuples(st.integers(4, 40), st.integers(4, 40)))
@pytest.mark.parametrize("resize", ["longest", "squash"])
def test_transform_fills_frames_that_are_no_squares(resize: str, size: tuple[int, int], frame: tuple[int, int]) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    picture = blotches(1, size)
    config = PreprocessCfg(size=frame, mean=(0.0,) * 3, std=(1.0,) * 3, resize_mode=resize)
    theirs = image_transform_v2(config, is_train=False)(picture).numpy().transpose(1, 2, 0)
    np.testing.assert_array_equal(transform(resize, frame).pixels(picture), np.rint(theirs * 255).astype(np.uint8))


@given(st.tuples(SMALL, SMALL))
def test_transform_with_an_edge_beyond_the_crop_is_resize_and_centre_crop(size: tuple[int, int]) -> None:
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    picture = blotches(2, size)
    ours = ImageTransform(28, 28, edge=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    theirs = CenterCrop(28)(Resize(32, InterpolationMode.BICUBIC)(picture))
    np.testing.assert_array_equal(ours.pixels(picture), np.asarray(theirs))
    assert ours.draft_edge == 32


def test_transform_survives_a_journey_through_plain_values() -> None:
    import json

    ours = transform("longest", (24, 32), "BILINEAR", 127)
    assert ImageTransform.from_dict(json.loads(json.dumps(ours.as_dict()))) == ours
