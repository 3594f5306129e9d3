"""What a figure is before plotly draws it: traces and layout, colours and axes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

# Style properties of the page: its script puts in the colours that they have in the light or in the dark. No
# name of a class can be taken for one, because `plot_text` leaves no "<" in it.
INK, FAINT, LINE, PANEL = "<--ink>", "<--faint>", "<--line>", "<--panel>"
CLEAR = "rgba(0, 0, 0, 0)"

PALETTE = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
"""Ten colours that remain apart with defective colour vision (Petroff 2021, arXiv 2107.02270)."""

DASHES = ("solid", "dash", "dot", "dashdot")

SCALE: Json = [[0, "<--low>"], [0.5, "<--middle>"], [1, "<--high>"]]
"""The colour scale of matrices: one hue, so that only lightness counts."""

_SMALL = 0.02
"""Share of the largest margin whose colour is the middle one: else a head of small margins is a blank square."""

MARGIN_SCALE: Json = [[0, "<--low>"], [_SMALL, "<--middle>"], [1, "<--high>"]]
"""The colour scale of margins, on which small ones are seen too."""

RELAX_SCALE: Json = [[0, "<--low>"], [_SMALL, "<--warmmiddle>"], [1, "<--warmhigh>"]]
"""The same in another hue, for margins that relax: they mean the opposite of those that press."""

MARGIN: Mapping[str, Json] = {"l": 8, "r": 8, "t": 8, "b": 8}

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"

THEME: Mapping[str, Json] = {
    "layout": {
        "autosize": True,
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "margin": MARGIN,
        "font": {"family": _FONT, "size": 12, "color": INK},
        "hoverlabel": {"bgcolor": PANEL, "bordercolor": LINE, "align": "left", "font": {"color": INK}},
    },
    "axis": {"gridcolor": LINE, "zerolinecolor": LINE, "automargin": True},
}
"""What all figures share."""

Trace: TypeAlias = Mapping[str, Json]


def heatmap(z: Sequence[Sequence[float]], *, gap: int, **more: Json) -> dict[str, Json]:
    """A matrix of colours, with gaps of some pixels between its cells."""
    return {"type": "heatmap", "z": z, "xgap": gap, "ygap": gap, **more}


def scatter(mode: str, x: Sequence[Json], y: Sequence[Json], **more: Json) -> dict[str, Json]:
    """A trace of points, of lines, or of both."""
    return {"type": "scatter", "mode": mode, "x": x, "y": y, **more}


def axis(title: str, **more: Json) -> dict[str, Json]:
    """An axis of quantities."""
    return {"title": {"text": title, "standoff": 10}, "zeroline": False, **more}


def ticks(values: Sequence[int]) -> dict[str, Json]:
    """A logarithmic axis with these ticks."""
    return {"type": "log", "tickvals": values, "ticktext": [f"{value:,}" for value in values]}


def class_color(label: int) -> str:
    """The colour of a class, which it keeps down the page."""
    return PALETTE[label % len(PALETTE)]


def translucent(color: str, opacity: float) -> str:
    """The colour with an opacity from 0 to 1.

    >>> translucent("#3f90da", 0.25)
    'rgba(63, 144, 218, 0.25)'
    """
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return f"rgba({red}, {green}, {blue}, {opacity:g})"


@dataclass(frozen=True)
class Figure:
    """Traces and layout in plotly's schema, with what a reader needs who does not see them.

    Colours may name a style property of the page, such as `INK`. NaN stands for no value.
    """

    key: str  # unique on the page
    title: str
    description: str  # in place of the picture
    data: Sequence[Trace]
    layout: Mapping[str, Json]
    note: str = ""  # below the title
    height: int | None = None  # pixels; None for a square
    wide: bool = False  # scrolls where the screen is narrow
