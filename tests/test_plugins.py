"""The one door for encoders, backends and commands."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from helpers import ColourEncoder

from simat import plugins
from simat.encoders import load_encoder
from simat.encoders.catalogue import catalogue
from simat.errors import EncoderError, SimatError
from simat.types import Backend, Encoder, PixelEncoder

STRANGER = """
from helpers import ColourEncoder

def load(argument, options):
    return ColourEncoder(argument or "no argument") if argument != "broken" else object()
"""


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed distribution that registers the encoder ``colours``, as any stranger's would."""
    (tmp_path / "stranger.py").write_text(STRANGER)
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[simat.encoders]\ncolours = stranger:load\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.registered.cache_clear()
    yield
    plugins.registered.cache_clear()
    sys.modules.pop("stranger", None)


@pytest.mark.parametrize(
    ("group", "names"),
    [
        (plugins.ENCODERS, {"offline", "open_clip"}),
        (plugins.BACKENDS, {"retrieve"}),
        (plugins.COMMANDS, {"index", "search", "edit", "encoders", "demo"}),
    ],
)
def test_built_ins_come_through_the_same_door(group: str, names: set[str]) -> None:
    found = plugins.registered(group)
    assert names <= set(found)
    assert [*found] == sorted(found)
    assert all(callable(plugins.load(group, name)) for name in names)


def test_load_lists_the_names_there_are() -> None:
    with pytest.raises(SimatError, match=r"no such backend; got 'paint'; there are: .*retrieve"):
        plugins.load(plugins.BACKENDS, "paint")


def test_registered_imports_nothing() -> None:
    assert all(isinstance(point, EntryPoint) for point in plugins.registered(plugins.ENCODERS).values())


def test_load_encoder_takes_a_strangers_encoder(stranger: None) -> None:
    encoder = load_encoder("colours:f00d:1/2")
    assert encoder.space.fingerprint == "f00d:1/2"
    assert load_encoder("colours").space.fingerprint == "no argument"
    assert [entry.description for entry in catalogue() if entry.spec == "colours"] == ["plugin stranger:load"]


def test_load_encoder_refuses_what_is_no_encoder(stranger: None) -> None:
    with pytest.raises(EncoderError, match="the plugin 'colours' returned no Encoder; got object"):
        load_encoder("colours:broken")


@pytest.mark.parametrize("spec", ["", "nothing", "nothing:offline", "Offline", ":"])
def test_load_encoder_refuses_an_unknown_name(spec: str) -> None:
    with pytest.raises(EncoderError, match=f"no such encoder; got '{spec}'; there are: .*offline, open_clip"):
        load_encoder(spec)


def test_catalogue_names_what_runs_without_a_network() -> None:
    entries = {entry.spec: entry for entry in catalogue()}
    assert (entries["offline"].state, entries["offline"].dim) == ("ready", 384)
    assert entries["open_clip:ViT-B-32-quickgelu/openai"].state == "download"
    assert entries["offline"].as_dict()["licence"] == "Apache-2.0"


def test_catalogue_names_models_that_open_clip_knows() -> None:
    import open_clip

    for entry in catalogue():
        model, _, tag = entry.spec.removeprefix("open_clip:").partition("/")
        if entry.spec.startswith("open_clip:") and tag and not tag.startswith("/"):
            assert tag in open_clip.list_pretrained_tags_by_model(model), entry.spec
            assert open_clip.get_model_config(model)["embed_dim"] == entry.dim


def test_protocols_tell_encoders_from_pixel_encoders_and_backends() -> None:
    from helpers import PixelColourEncoder

    assert isinstance(ColourEncoder(), Encoder)
    assert not isinstance(ColourEncoder(), PixelEncoder)
    assert isinstance(PixelColourEncoder(), PixelEncoder)
    assert not isinstance(object(), Backend)


def test_a_library_that_is_there_is_imported_and_one_that_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plugins.required("json.decoder", EncoderError, "").JSONDecoder
    monkeypatch.setitem(sys.modules, "json.decoder", None)
    with pytest.raises(EncoderError, match=r"^json.decoder is not installed; pip install it$"):
        plugins.required("json.decoder", EncoderError, "pip install it")
