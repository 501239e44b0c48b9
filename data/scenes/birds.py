"""The bird: perched or flying."""

from __future__ import annotations

from data.scenes.drawing import Drawing, Pen


def bird(pose: str) -> Drawing:
    """A round bird; anchors as those of the animals.

    Args:
        pose: ``fly`` (chasing, jumping), anything else perches.
    """
    pen, flying = Pen(), pose in {"run", "jump"}
    base = 4.0 if not flying else 2.0
    x, y = 0.0, base + 10
    if not flying:
        for dx in (-1.5, 2.5):
            pen.limb("#e8892b", (dx, base + 2), (dx + 0.4, 1.0), width=1.3)
            pen.limb("#e8892b", (dx - 0.6, 0.9), (dx + 2.6, 0.9), width=1.2)
        pen.cut()
    pen.blob("main-", (x - 8, y + 1), (x - 19, y + 1), (x - 20, y - 4), (x - 8, y - 5))
    pen.cut()
    if flying:
        pen.blob("main-", (x - 3, y + 3), (x - 1, y + 14), (x + 5, y + 18), (x + 6, y + 8), (x + 4, y + 2))
        pen.cut()
    pen.polygon("#f2a52b", (x + 12.5, y + 9.5), (x + 21, y + 6.6), (x + 12.5, y + 4.5))
    pen.cut()
    pen.blob("main", (x - 10, y), (x - 6, y + 6), (x + 1, y + 8), (x + 5, y + 12.4), (x + 11, y + 12), (x + 14, y + 7),
             (x + 11, y - 1), (x + 4, y - 8), (x - 4, y - 7.4))  # fmt: skip
    pen.blob(
        "#fbeedd", (x + 11.5, y + 1), (x + 9.6, y - 2), (x + 4, y - 7), (x - 2, y - 6.4), (x + 4, y - 1), ink=False
    )
    pen.cut()
    pen.eye(x + 9.6, y + 8.4, 1.5)
    if flying:
        pen.blob(
            "main+", (x - 4, y + 3), (x - 12, y + 14), (x - 13, y + 20), (x - 3, y + 15), (x + 4, y + 4), (x, y + 0.5)
        )
    else:
        pen.blob("main-", (x + 3, y + 4), (x - 5, y + 4), (x - 13, y - 2), (x - 5, y - 5), (x + 3, y - 2))
    pen.mark(
        seat=(0.5, 0.0), back=(-2.0, y + 6), mouth=(x + 18.5, y + 6.2), hand=(x + 18.5, y + 6.2), head=(x + 9, y + 7)
    )
    pen.mark(top=(-1.0, y + 6.5), feet=(0.5, 0.0))
    return pen.done()
