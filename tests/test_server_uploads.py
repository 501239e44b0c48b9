from __future__ import annotations

import asyncio
import os
import signal
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from building import bomb
from helpers import blotches, encoded, plain
from PIL import Image, features

from simat.errors import Busy, ImageError
from simat.images import decode
from simat.server import uploads
from simat.server.decoding import decoded
from simat.server.uploads import Decoder

PIXELS = 1_000_000


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    made = Decoder(PIXELS, seconds=20.0, workers=1)
    yield made
    made.close()


def same(a: Image.Image, b: Image.Image) -> bool:
    return a.mode == b.mode == "RGB" and a.size == b.size and a.tobytes() == b.tobytes()


def process_of(decoder: Decoder) -> int:
    """The id of the only idle process."""
    (worker,) = [worker for worker in decoder._slots.queue if worker is not None]
    return worker._process.pid


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_decoder_gives_what_the_engine_reads(decoder: Decoder, format: str) -> None:
    if format in {"AVIF", "WEBP"} and not features.check(format.lower()):
        pytest.skip(f"Pillow was built without {format}")
    data = encoded(blotches(3), format)
    assert same(decoder.decode(data), decode(data))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_decoder_reads_every_mode_as_the_engine_does(decoder: Decoder, mode: str) -> None:
    picture = blotches(5)
    rng = np.random.default_rng(0)
    deep = {"I;16": rng.integers(0, 2**16, (20, 30), dtype=np.uint16), "F": rng.random((20, 30), np.float32)}
    made = Image.fromarray(deep[mode]) if mode in deep else picture.convert(mode)
    data = encoded(made, "TIFF" if mode in {"CMYK", "F"} else "PNG")
    assert same(decoder.decode(data), decode(data))


def test_decoder_takes_the_first_frame_and_turns_by_exif(decoder: Decoder) -> None:
    frames = encoded(plain("red"), "GIF", save_all=True, append_images=[plain("blue")])
    assert decoder.decode(frames).getpixel((3, 3)) == decode(frames).getpixel((3, 3)) != plain("blue").getpixel((3, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decoder.decode(encoded(blotches(1, (40, 20)), "JPEG", exif=exif)).size == (20, 40)


def test_decoder_runs_nothing_of_the_folder_that_the_server_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "struct", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    made = Decoder(PIXELS, seconds=20.0, workers=1)
    assert same(made.decode(encoded(blotches(3))), blotches(3))
    made.close()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks)


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "text": (b"hello", "not an image"),
    "html": (b"<html><img src=x></html>", "not an image"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "not an image"),
    "pdf": (encoded(plain("red"), "PDF"), "not an image"),
    "eps": (encoded(plain("red"), "EPS"), "not an image"),
    "icon": (encoded(plain("red"), "ICO"), "not an image"),
    "sgi": (encoded(plain("red"), "SGI"), "not an image"),
    "truncated": (encoded(blotches(0), "JPEG")[:-300], "truncated"),
    "half a header": (encoded(blotches(0))[:20], "corrupt or truncated|not an image"),
    "no pixels": (png(0, 5, chunk(b"IEND", b"")), "pixels|corrupt|not an image"),
    "bomb": (bomb(20_000, 20_000), "more than 1 megapixels; got 20000 × 20000"),
    "a strip": (bomb(20_000, 40), "longer than 200 times"),
    "a lie about its size": (png(900, 900, chunk(b"IDAT", zlib.compress(b"x")), chunk(b"IEND", b"")), "truncated"),
    "text that inflates": (
        png(9, 9, chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 2**27, 9)), chunk(b"IEND", b"")),
        "corrupt",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_decoder_refuses_with_the_reason(decoder: Decoder, name: str) -> None:
    data, reason = BAD[name]
    with pytest.raises(ImageError, match=reason):
        decoder.decode(data)
    assert decoder.decode(encoded(plain("red"))).size == (32, 32)


def test_decoder_takes_exactly_the_pixels_it_may(decoder: Decoder) -> None:
    assert decoder.decode(encoded(Image.new("L", (1000, 1000)))).size == (1000, 1000)
    with pytest.raises(ImageError, match="more than 1 megapixels"):
        decoder.decode(encoded(Image.new("L", (1000, 1001))))


def test_decoder_reads_no_name_in_a_file(decoder: Decoder, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    plain("red").save(secret)
    with pytest.raises(ImageError, match="not an image"):
        decoder.decode(str(secret).encode())


def stopped(decoder: Decoder) -> int:
    """A decoder whose process hangs."""
    decoder.decode(encoded(plain("red")))
    process = process_of(decoder)
    os.kill(process, signal.SIGSTOP)
    return process


def test_decoder_replaces_a_process_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder(PIXELS, seconds=1.0, workers=1)
    process = stopped(decoder)
    begun = time.monotonic()
    with pytest.raises(ImageError, match="too much time or memory"):
        decoder.decode(encoded(blotches(0, (900, 900))))  # more than a socket holds
    assert time.monotonic() - begun > 2.5
    assert decoder.decode(encoded(plain("red"))).size == (32, 32)
    assert process_of(decoder) != process
    decoder.close()


def test_decoder_replaces_a_process_that_dies_at_work() -> None:
    decoder = Decoder(PIXELS, workers=1)
    process = stopped(decoder)
    threading.Timer(0.2, os.kill, (process, signal.SIGKILL)).start()
    with pytest.raises(ImageError, match="cannot be decoded safely"):
        decoder.decode(encoded(plain("red")))
    assert decoder.decode(encoded(plain("red"))).size == (32, 32)
    decoder.close()


def test_decoder_does_not_blame_a_picture_for_a_process_that_died_before(decoder: Decoder) -> None:
    decoder.decode(encoded(plain("red")))
    os.kill(process_of(decoder), signal.SIGKILL)
    time.sleep(0.1)
    assert decoder.decode(encoded(plain("blue"))).size == (32, 32)


def test_decoder_kills_a_file_that_takes_too_much_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = "import simat.server.decoding as d; d.decoded = lambda *_: sum(range(10**12)); d.main()"
    monkeypatch.setattr(uploads, "_PROGRAM", busy)
    monkeypatch.setattr(uploads, "PATIENCE", 100.0)
    decoder = Decoder(PIXELS, seconds=0.2, workers=1)
    with pytest.raises(ImageError, match="too much time or memory"):
        decoder.decode(encoded(plain("red")))
    decoder.close()


def test_decoder_survives_a_file_that_takes_too_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    greedy = "import simat.server.decoding as d; d.decode_sized = lambda *_, **__: bytearray(2**31); d.main()"
    monkeypatch.setattr(uploads, "_PROGRAM", greedy)
    decoder = Decoder(PIXELS, workers=1)
    with pytest.raises(ImageError, match="too much memory"):
        decoder.decode(encoded(plain("red")))
    decoder.close()


def test_a_process_can_write_no_file_and_sees_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    looking = (
        "import os, pathlib, simat.server.decoding as d; d.decoded = lambda *_: ({'what': told()}, b'')\n"
        "def told():\n"
        "    try: pathlib.Path('{}').write_text('x' * 9)\n"
        "    except OSError as error: return error.strerror + ' ' + os.environ.get('SIMAT_SECRET', 'unknown')\n"
        "d.main()"
    )
    monkeypatch.setenv("SIMAT_SECRET", "known")
    monkeypatch.setattr(uploads, "_PROGRAM", looking.replace("{}", str(tmp_path / "x")))
    decoder = Decoder(PIXELS, workers=1)
    with pytest.raises(ImageError, match="File too large unknown"):
        decoder.decode(b"x")
    decoder.close()


@pytest.mark.parametrize(
    "said",
    [
        *('{"width": 2000, "height": 2000}', '{"width": 2, "height": 2}', '{"width": -1, "height": -1}', "{}", "[]"),
        *('{"width": 1.5, "height": 2}', '{"width": true, "height": 1}', '{"x": 1}', "no JSON", "", "x" * 100_000),
    ],
)
def test_decoder_trusts_no_word_of_a_process(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    decoder = Decoder(PIXELS, workers=1)
    monkeypatch.setattr(decoder, "_take", lambda: Liar(said))
    with pytest.raises(ImageError, match="cannot be decoded safely"):
        decoder.decode(b"x")


class Liar:
    """A worker that a file has taken over."""

    def __init__(self, said: str) -> None:
        self._said = said

    def decode(self, data: bytes) -> tuple[bytes, bytes]:
        return self._said.encode(), b"abc"


def test_decoder_says_that_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_PROGRAM", "raise SystemExit(3)")
    decoder = Decoder(PIXELS, workers=1)
    for _ in range(2):
        with pytest.raises(Busy, match="no decoder could be started"):
            decoder.decode(b"x")
    decoder.close()


def test_decoder_makes_a_picture_wait_only_so_long(decoder: Decoder) -> None:
    busy = Decoder(PIXELS, seconds=1.0, workers=1, waiting=0.1)
    stopped(busy)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(busy.decode, encoded(plain("red")))
        time.sleep(0.1)
        with pytest.raises(Busy, match="too many pictures at once"):
            busy.decode(encoded(plain("red")))
        with pytest.raises(ImageError):
            first.result()
    busy.close()


def test_decoder_serves_many_threads(decoder: Decoder) -> None:
    pictures = [encoded(blotches(seed)) for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(decoder.decode, pictures)]
    assert all(same(answer, decode(data)) for answer, data in zip(answers, pictures, strict=True))


def test_decoder_closed_ends_its_processes_and_takes_nothing_more() -> None:
    decoder = Decoder(PIXELS, workers=1)
    decoder.decode(encoded(plain("red")))
    process = process_of(decoder)
    decoder.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    with pytest.raises(Busy, match="shutting down"):
        decoder.decode(encoded(plain("red")))
    with pytest.raises(Busy, match="shutting down"):
        asyncio.run(decoder.decoded(encoded(plain("red"))))


def test_decoder_decodes_for_coroutines() -> None:
    async def both(decoder: Decoder) -> list[Image.Image]:
        return await asyncio.gather(*(decoder.decoded(encoded(plain(colour))) for colour in ("red", "blue")))

    decoder = Decoder(PIXELS, workers=1)
    assert [picture.getpixel((0, 0)) for picture in asyncio.run(both(decoder))] == [(220, 30, 30), (30, 40, 220)]
    decoder.close()


def test_decoder_leaves_no_file_open() -> None:
    decoder = Decoder(PIXELS, workers=1)
    counts = []
    for _ in range(3):
        threading.Timer(0.1, os.kill, (stopped(decoder), signal.SIGKILL)).start()
        with pytest.raises(ImageError):
            decoder.decode(encoded(plain("red")))
        counts.append(len([*Path("/proc/self/fd").iterdir()]))
    assert counts[1] == counts[2]
    decoder.close()


def test_decoded_answers_any_bytes_with_a_picture_or_a_reason() -> None:
    rng = np.random.default_rng(7)
    whole = {format: encoded(blotches(2), format) for format in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")}
    kept = 0
    for data in [*whole.values()] * 40:
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[rng.integers(0, len(damaged), 8)] = rng.integers(0, 256, 8)
        header, pixels = decoded(damaged.tobytes(), PIXELS)
        if "what" in header:
            assert header["what"]
            assert not pixels
        else:
            kept += 1
            assert len(pixels) == header["width"] * header["height"] * 3
    assert 10 < kept < 230


def test_decoder_waits_until_there_is_room_for_another_picture() -> None:
    great = encoded(Image.new("RGB", (500, 500)))
    decoder = Decoder(PIXELS, workers=1, waiting=0.1, held=1_000_000)
    pictures = [decoder.decode(great), decoder.decode(great)]
    with pytest.raises(Busy, match="too many great pictures at once"):
        decoder.decode(great)
    copy = pictures.pop().convert("L")  # what others make of a picture is theirs
    assert decoder.decode(great).size == copy.size
    with ThreadPoolExecutor(1) as pool:
        pictures.append(decoder.decode(great))
        patient = Decoder(PIXELS, workers=1, waiting=10.0, held=1_000_000)
        patient._room = decoder._room
        later = pool.submit(patient.decode, great)
        time.sleep(0.05)
        assert not later.done()
        pictures.clear()
        assert later.result(5).size == (500, 500)
    for one in (decoder, patient):
        one.close()


def test_decoder_counts_out_every_picture_that_nobody_uses(decoder: Decoder) -> None:
    with ThreadPoolExecutor(4) as pool:
        pictures = [*pool.map(decoder.decode, [encoded(blotches(seed)) for seed in range(30)])]
    assert decoder._room._filled == sum(len(picture.tobytes()) for picture in pictures)
    with pytest.raises(ImageError):
        decoder.decode(b"no picture")
    del pictures
    assert decoder._room._filled == 0
