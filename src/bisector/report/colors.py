"""The colours of the classes: a class keeps its colour down the page, and no colour means anything else."""

PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
"""Ten colours that remain apart with defective colour vision (Petroff 2021, arXiv 2107.02270)."""


def class_color(label: int) -> str:
    """The colour of a class."""
    return PALETTE[label % len(PALETTE)]


def translucent(color: str, opacity: float) -> str:
    """The colour with an opacity from 0 to 1.

    >>> translucent("#3f90da", 0.25)
    'rgba(63, 144, 218, 0.25)'
    """
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return f"rgba({red}, {green}, {blue}, {opacity:g})"
