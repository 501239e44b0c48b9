"""What may be asked over HTTP, field by field; the same fields as JSON and as a multipart form.

Pictures and masks are base64 in JSON, and files in a form. Lists and dictionaries are JSON in a field of a form.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

MOST_TEXT = 2000  # characters
MOST_FILTER = 20_000
MOST_RESULTS = 10_000
MOST_SAMPLES = 16
MOST_SEGMENTS = 16
MOST_TEXTS = 256
MOST_IMAGES = 64
MOST_NUMBERS = 65_536


def _from_form(value: Any) -> Any:
    """A list or a dictionary that came as a text; other text is a list of one."""
    if isinstance(value, str):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return [value]
    return value


def _empty_is_missing(value: Any) -> Any:
    return None if value == "" else value


MISSING = BeforeValidator(_empty_is_missing)
JSON_TEXT = BeforeValidator(_from_form)
Text = Annotated[str, Field(min_length=1, max_length=MOST_TEXT)]
Words = Annotated[Text | None, MISSING]
Index = Annotated[str | None, MISSING, Field(description="Name of an index; the first one.")]
Picture = Annotated[str | None, MISSING, Field(description="The bytes of an image file, in base64.")]
Id = Annotated[Annotated[int, Field(ge=0, lt=2**63)] | None, MISSING, Field(description="Of the index.")]
Count = Annotated[
    Annotated[int, Field(ge=1, le=MOST_RESULTS)] | None, MISSING, Field(description="How many answers; 10.")
]
Scale = Annotated[float, Field(allow_inf_nan=False, description="λ: how much the words weigh.")]
Composer = Annotated[str | None, MISSING, Field(description="How words and an image are brought together.")]
Vector = Annotated[
    Annotated[list[float], Field(max_length=MOST_NUMBERS)] | None,
    MISSING,
    JSON_TEXT,
    Field(description="A vector of the index's space, in place of an image."),
]
Settings = Annotated[dict[str, Any], JSON_TEXT, Field(description="Values for the settings of the backend.")]
Strength = Annotated[Annotated[float, Field(ge=0, le=1)] | None, MISSING]
Seed = Annotated[Annotated[int, Field(ge=0, lt=2**63)] | None, MISSING]
Samples = Annotated[Annotated[int, Field(ge=1, le=MOST_SAMPLES)] | None, MISSING]
Where = Annotated[
    Annotated[str, Field(max_length=MOST_FILTER)] | None,
    MISSING,
    Field(description="Only images for which this condition on the metadata is true, as after WHERE in SQL."),
]


class Fields(BaseModel):
    """What every question may hold; an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    index: Index = None


class SearchFields(Fields):
    """Images nearest to words, to an image (a file, an id or a vector), or to words and an image by a composer."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "a dog on a beach", "k": 5, "where": "width >= 640"}, {"id": 17}]}
    )

    text: Words = None
    image: Picture = None
    id: Id = None
    vector: Vector = None
    composer: Composer = None
    scale: Scale = 1.0
    k: Count = None
    include_self: bool = False
    where: Where = None


class EditFields(Fields):
    """Pictures like this one, but edited; found by ``retrieve``, made by the other backends."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"id": 17, "edits": "dog -> cat", "k": 5},
                {"id": 17, "edits": "dog -> cat", "backend": "diffedit", "settings": {"steps": 20}},
            ]
        }
    )

    edits: Annotated[Text | None, Field(validation_alias=AliasChoices("edits", "edit"))] = None
    text: Words = None
    image: Picture = None
    id: Id = None
    vector: Vector = None
    backend: str = "retrieve"
    composer: Composer = None
    scale: Scale = 1.0
    k: Count = None
    include_self: bool = False
    reference: Words = None
    mask: Picture = None
    strength: Strength = None
    seed: Seed = None
    samples: Samples = None
    settings: Settings = {}
    where: Where = None


class DrawFields(Fields):
    """A picture from words, each where its mask wants it; a form has the masks as files named ``segments.WORDS``."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "a dog on a beach", "segments": {"dog": "iVBORw0KGgo…"}, "seed": 7}]}
    )

    text: Text
    segments: Annotated[dict[str, str], JSON_TEXT, Field(max_length=MOST_SEGMENTS)] = {}
    backend: str = "zestguide"
    image: Picture = None
    id: Id = None
    mask: Picture = None
    strength: Strength = None
    seed: Seed = None
    samples: Samples = None
    settings: Settings = {}


class EncodeFields(Fields):
    """Texts and images to encode; a form has the images as files, all named ``images``."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"texts": ["a dog", "a cat"]}]})

    texts: Annotated[list[Text], JSON_TEXT, Field(max_length=MOST_TEXTS)] = []
    images: Annotated[list[str], JSON_TEXT, Field(max_length=MOST_IMAGES)] = []


Question = SearchFields | EditFields | DrawFields


class JobFields(BaseModel):
    """What a job is to do: a kind of question, and beside it the fields of that question."""

    model_config = ConfigDict(extra="allow")

    kind: Literal["search", "edit", "draw"]


class ResultOut(BaseModel):
    """One picture of an answer, found (``id``, ``path``, ``url``, ``thumbnail``) or made (``image``)."""

    score: float
    id: int | None = None
    path: str | None = Field(None, description="Relative to the folder that was indexed.")
    caption: str | None = None
    url: str | None = None
    thumbnail: str | None = None
    image: str | None = Field(None, description="PNG in base64.")


class AnswerOut(BaseModel):
    """An answer, best first."""

    results: list[ResultOut]
    backend: str
    timings: dict[str, float] = Field(description="Seconds by stage.")
    extras: dict[str, Any] = Field(description="Pictures as {'png': base64}, masks as {'masks': [base64, …]}.")


class JobOut(BaseModel):
    """A job: where it is, and its answer or its problem once it has ended."""

    id: str
    kind: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    position: int | None = Field(description="How many are before one that waits.")
    created: float = Field(description="Seconds since 1970.")
    finished: float | None
    step: dict[str, Any] | None = Field(description="stage, step and total of the last step.")
    problem: ProblemOut | None
    answer: AnswerOut | None
    url: str
    events: str = Field(description="Server-sent events: state and step, the latter with a preview as a data URL.")


class SpaceOut(BaseModel):
    """The identity of an embedding space: vectors of two spaces never meet."""

    encoder: str
    fingerprint: str
    dim: int
    heads: str | None


class VectorsOut(BaseModel):
    """Unit vectors, one for each text and each image."""

    index: str
    space: SpaceOut
    texts: list[list[float]]
    images: list[list[float]]


class IndexOut(BaseModel):
    """An open index."""

    name: str
    images: int
    space: SpaceOut
    factory: str = Field(description="FAISS factory of every shard.")
    exact: bool
    words: bool = Field(description="Whether its encoder reads words.")
    changed: bool = Field(description="Whether its folder holds something else by now; to be reloaded.")


class BackendOut(BaseModel):
    """A way to answer."""

    name: str
    makes_pictures: bool
    requires: list[str]
    optional: list[str]
    settings: dict[str, Any] = Field(description="By name, with their defaults.")


class ComposerOut(BaseModel):
    """A way to bring an image and words together."""

    name: str
    about: str


class IndicesOut(BaseModel):
    """What this server can do."""

    indices: list[IndexOut]
    backends: list[BackendOut]
    composers: list[ComposerOut]
    model: str


class ProblemOut(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    got: str | None
    remedy: str | None
    request: str | None
