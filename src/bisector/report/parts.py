"""What a page is made of beside its tables: sections, tiles and figures, as plain data that the templates draw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Trace: TypeAlias = Mapping[str, Json]

# Style properties of the page: its script puts in the colours that they have in the light or in the dark. No
# name of a class can be taken for one, because `plot_text` leaves no "<" in it.
INK, FAINT, LINE, PAPER, PANEL, ACCENT, WARM = (
    "<--ink>",
    "<--faint>",
    "<--line>",
    "<--paper>",
    "<--panel>",
    "<--accent>",
    "<--warmhigh>",
)
CLEAR = "rgba(0, 0, 0, 0)"

PALETTE = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
"""Ten colours that remain apart with defective colour vision (Petroff 2021, arXiv 2107.02270)."""

DASHES = ("solid", "dash", "dot", "dashdot")

MARGIN: Mapping[str, Json] = {"l": 8, "r": 8, "t": 8, "b": 8}

THEME: Mapping[str, Json] = {
    "layout": {
        "autosize": True,
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "margin": MARGIN,
        "font": {
            "family": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif",
            "size": 12,
            "color": INK,
        },
        "hoverlabel": {"bgcolor": PANEL, "bordercolor": LINE, "align": "left", "font": {"color": INK}},
    },
    "axis": {"gridcolor": LINE, "zerolinecolor": LINE, "automargin": True},
}
"""What all figures share."""


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


class Tile(NamedTuple):
    """A key number at the top of a page."""

    term: str
    value: str
    spread: str = ""  # in small print behind the value
    unit: str = ""
    note: str | None = None  # below


class Section:
    """A part of a page: its heading, and what the macro of the same name in the page's template draws.

    Args:
        key: of the section, and with underscores of the macro.
        title: the heading; a section without one stands in no box.
        when: whether there is anything to show; else the page leaves the section out.
        content: the arguments of the macro; `figures` among them are drawn by the page's script.
    """

    def __init__(self, key: str, title: str = "", *, when: bool = True, **content: Any) -> None:
        self.key = key
        self.title = title
        self.when = when
        self.content = content


def scatter(mode: str, x: Sequence[Json], y: Sequence[Json], **more: Json) -> dict[str, Json]:
    """A trace of points, of lines, or of both."""
    return {"type": "scatter", "mode": mode, "x": x, "y": y, **more}


def heatmap(z: Sequence[Sequence[float]], *, gap: int, **more: Json) -> dict[str, Json]:
    """A matrix of colours, with gaps of some pixels between its cells."""
    return {"type": "heatmap", "z": z, "xgap": gap, "ygap": gap, **more}


def axis(title: str, **more: Json) -> dict[str, Json]:
    """An axis of quantities."""
    return {"title": {"text": title, "standoff": 10}, "zeroline": False, **more}


def log_ticks(values: Sequence[int]) -> dict[str, Json]:
    """A logarithmic axis with these ticks."""
    return {"type": "log", "tickvals": values, "ticktext": [f"{value:,}" for value in values]}


def class_color(label: int) -> str:
    """The colour of a class, which it keeps down the page."""
    return PALETTE[label % len(PALETTE)]
