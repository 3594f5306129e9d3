"""One palette for all figures: a head or a class keeps its colour down the page."""

from bisector.training.results import Comparison

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

SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "cross",
    "x",
    "triangle-down",
    "pentagon",
    "star",
    "hexagon",
)
"""A second sign beside the colour, for those who cannot tell the colours apart."""


def head_color(comparison: Comparison, head: str) -> str:
    """The colour of a head: the palette in the order in which the heads were first run."""
    return PALETTE[comparison.heads.index(head) % len(PALETTE)]


def head_symbol(comparison: Comparison, head: str) -> str:
    """The marker of a head."""
    return SYMBOLS[comparison.heads.index(head) % len(SYMBOLS)]


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
