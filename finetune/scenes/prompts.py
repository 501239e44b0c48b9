"""What may be said about a scene, and of which scenes it is true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from data.scenes.captions import captions, described
from data.scenes.scene import Scene
from data.scenes.world import PHRASES
from data.simat.captions import write_caption

BARE = 0.3  # share of prompts that name only one or two facts
STRANGE = 0.03  # share of prompts with a word that no scene knows
PREFIXES = ("a photo of ", "a picture of ", "a drawing of ", "an image of ")
STRANGER = "zzz"


@dataclass(frozen=True)
class Prompt:
    """A text about a scene.

    Attributes:
        facts: what it claims; it is true of every scene that has all of them.
    """

    text: str
    facts: frozenset[str]


def facts(scene: Scene) -> frozenset[str]:
    """Everything that a prompt may claim of a scene."""
    subject, relation, thing = scene.triplet
    found = {f"subject {subject}", f"relation {relation}", f"object {thing}", f"place {scene.place}"}
    found |= {f"thing {subject}", f"thing {thing}", f"facing {scene.facing}"}
    for name, colour in zip((subject, thing), scene.colours, strict=True):
        if colour:
            found |= {f"colour {colour}", f"{colour} {name}"}
    return frozenset(found)


def sentences(scene: Scene) -> list[Prompt]:
    """The captions of the scene, and the caption that a SIMAT corpus gives its triplet."""
    return [Prompt(text, _claimed(text, scene)) for text in (*captions(scene), write_caption(scene.triplet))]


def words(scene: Scene) -> tuple[list[Prompt], list[Prompt], list[Prompt]]:
    """Prompts of one or two facts, mostly bare words: of things, of the relation, of colours and place."""
    subject, relation, thing = scene.triplet
    riding, place = frozenset({f"relation {relation}"}), frozenset({f"place {scene.place}"})
    relations = [Prompt(relation, riding), Prompt(f"{relation} {described(thing, '')}", riding | {f"object {thing}"})]
    looks = [
        Prompt(scene.place, place),
        Prompt(PHRASES[scene.place], place),
        Prompt(f"{described(subject, '')} {PHRASES[scene.place]}", place | {f"thing {subject}"}),
    ]
    things = []
    for name, colour in zip((subject, thing), scene.colours, strict=True):
        things += [Prompt(text, frozenset({f"thing {name}"})) for text in (name, described(name, ""))]
        if colour:
            looks.append(Prompt(colour, frozenset({f"colour {colour}"})))
            looks.append(Prompt(described(name, colour), frozenset({f"{colour} {name}"})))
    return things, relations, looks


def draw_prompt(scene: Scene, generator: np.random.Generator) -> Prompt:
    """One prompt: mostly a sentence, sometimes bare words; now and then with a prefix or a strange word in it."""
    choices = words(scene)[int(generator.integers(3))] if generator.random() < BARE else sentences(scene)
    chosen = choices[int(generator.integers(len(choices)))]
    text = chosen.text
    if text.startswith(("a ", "an ")) and generator.random() < 0.1:
        text = PREFIXES[int(generator.integers(len(PREFIXES)))] + text
    if generator.random() < STRANGE:
        parts = text.split()
        parts.insert(int(generator.integers(len(parts) + 1)), STRANGER)
        text = " ".join(parts)
    return Prompt(text, chosen.facts)


def true_of(prompts: list[Prompt], scenes: list[Scene]) -> Bool[np.ndarray, "scenes prompts"]:
    """Whether each prompt is true of each scene."""
    known = [facts(scene) for scene in scenes]
    number = {fact: n for n, fact in enumerate(sorted({fact for prompt in prompts for fact in prompt.facts}))}
    claims = np.zeros((len(prompts), len(number)), np.float32)
    has = np.zeros((len(scenes), len(number)), np.float32)
    for row, prompt in enumerate(prompts):
        claims[row, [number[fact] for fact in prompt.facts]] = 1
    for row, facts_of_scene in enumerate(known):
        has[row, [number[fact] for fact in facts_of_scene & number.keys()]] = 1
    met: Bool[np.ndarray, "scenes prompts"] = has @ claims.T >= claims.sum(1) - 0.5
    return met


def _claimed(text: str, scene: Scene) -> frozenset[str]:
    """Facts of a sentence: the triplet, and whatever of the rest it tells."""
    subject, relation, thing = scene.triplet
    found = {f"subject {subject}", f"relation {relation}", f"object {thing}"}
    if PHRASES[scene.place] in text:
        found.add(f"place {scene.place}")
    if f"facing {scene.facing}" in text or f"looking {scene.facing}" in text:
        found.add(f"facing {scene.facing}")
    for name, colour in zip((subject, thing), scene.colours, strict=True):
        if colour and described(name, colour) in text:
            found.add(f"{colour} {name}")
    return frozenset(found)
