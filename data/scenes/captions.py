"""Five captions of a scene, from a small grammar."""

from __future__ import annotations

from data.scenes.scene import Scene
from data.scenes.world import PEOPLE, PHRASES

_FRONT = ("{p}, {s} is {r} {O}", "{p}, you can see {s} {r} {O}")
_PICTURE = ("a picture-book drawing of {S} {r} {o} {p}", "a colourful drawing of {S} {r} {o} {p}")
_PLACE = ("there is {s} facing {f} {r} {o} {p}", "{s} {r} {o} {p}, looking {f}")


def captions(scene: Scene) -> tuple[str, str, str, str, str]:
    """What a scene shows: the bare triplet, then everything, then three other ways to say it.

    The second caption tells colours, place and facing. Wordings vary with the scene, not with a further seed.
    """
    subject, relation, thing = scene.triplet
    place = PHRASES[scene.place]
    words = {
        "s": _a(subject), "o": _a(thing), "S": described(subject, scene.colours[0]),
        "O": described(thing, scene.colours[1]), "r": relation, "p": place, "f": scene.facing,
    }  # fmt: skip
    turn = (scene.variant + scene.tints[0][0]) % 2
    patterns = ("{s} {r} {o}", "{S} {r} {O} {p}, facing {f}", _FRONT[turn], _PICTURE[turn], _PLACE[turn])
    one, two, three, four, five = (pattern.format(**words) for pattern in patterns)
    return one, two, three, four, five


def described(name: str, colour: str) -> str:
    """A thing with its colour: ``a man in red``, ``an orange cat``, ``a log``."""
    if not colour:
        return _a(name)
    return f"{_a(name)} in {colour}" if name in PEOPLE else _a(f"{colour} {name}")


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
