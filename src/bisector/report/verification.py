"""Verification by head: the table, the ROC picture and the page."""

import math
import statistics
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from bisector.errors import require
from bisector.files import write_whole
from bisector.metrics.summary import MetricInfo
from bisector.metrics.verification import Verification
from bisector.report.parts import DASHES, MARGIN, PALETTE, Figure, Section, Tile, Trace, axis, scatter
from bisector.report.summary import (
    SummaryRow,
    about_heads,
    leaders,
    legend,
    metric_column,
    name_leaders,
    summary_table,
)
from bisector.report.table import Table
from bisector.report.words import count, head_label, number, plot_text, shorten
from bisector.training.results import Run

Runs: TypeAlias = Mapping[str, Sequence[Verification]]
"""The verifications of each head, one a seed, by the head as it is on the command line."""

_MOST_POINTS = 399
_NAME_WIDTH = 32
_HEADING_WIDTH = 13  # of a column; a longer heading continues on the next line


def verifications(runs: Sequence[Run]) -> dict[str, list[Verification]]:
    """Return what was verified, by head: only trainings with the open-set split were."""
    found: dict[str, list[Verification]] = {}
    for run in runs:
        if run.verification is not None:
            found.setdefault(run.head, []).append(Verification.from_dict(run.verification))
    return found


def write_verification(runs: Sequence[Run], data: str, command: str, folder: Path) -> Path:
    """Write verification.html for trainings with the open-set split; return where it is."""
    path, title = folder / "verification.html", f"Classes never trained on: {data}"
    write_whole(path, render_verification_page(verifications(runs), title=title, command=command))
    return path


def _metrics(runs: Runs) -> list[MetricInfo]:
    """The numbers that these verifications have: the equal error rate, then two or three a false accept rate."""
    every = [run for head in runs.values() for run in head]
    eer = "Equal error rate: as many impostors accepted as genuine pairs refused."
    found = [MetricInfo("eer", "EER %", "", "lower", eer)]
    for far in sorted({far for run in every for far in run.tar}, reverse=True):
        rate = _power(far)
        told = f"Share of the genuine pairs accepted while at most a share of {rate} of the impostors are."
        found.append(MetricInfo(f"tar {far}", f"TAR % at FAR {rate}", "", "higher", told))
    for far in sorted({far for run in every for far in run.carried}, reverse=True):
        at = f"at the threshold for {_power(far)}"
        chosen = f"chosen for a FAR of {_power(far)} on other classes."
        beside = "To be read beside the FAR that came with it."
        accepted = f"accepted at the threshold that was {chosen}"
        # Of what a threshold from elsewhere does, the nearest to what was asked for is best.
        for key, label, told in (
            ("threshold", f"Threshold for {_power(far)}", f"Cosine from which a pair is accepted, {chosen}"),
            ("false", f"FAR % {at}", f"Impostors {accepted}"),
            ("true", f"TAR % {at}", f"Genuine pairs {accepted} {beside}"),
        ):
            found.append(MetricInfo(f"{key} {far}", label, "", "", told))
    return found


def _values(run: Verification) -> dict[str, float]:
    """The numbers of one verification by the key of `_metrics`, shares in percent."""
    found = {"eer": 100 * run.eer, **{f"tar {far}": 100 * tar for far, tar in run.tar.items()}}
    for far, point in run.carried.items():
        found[f"threshold {far}"] = point.threshold
        found[f"false {far}"], found[f"true {far}"] = 100 * point.far, 100 * point.tar
    return found


def _show(info: MetricInfo, value: float) -> str:
    """A mean or a deviation: of rates far below one percent, significant digits count."""
    form = {"threshold": ".4f", "false": ".2g"}.get(info.key.partition(" ")[0], ".2f")
    return f"{value:{form}}" if math.isfinite(value) else "–"


def _summary(runs: Runs) -> tuple[list[SummaryRow], list[MetricInfo]]:
    some = bool(runs) and all(runs.values())
    require(some, "runs", "a head without a run", "at least one run of each head")
    infos = _metrics(runs)
    keys = [info.key for info in infos]
    rows = [SummaryRow.of(head, dict(enumerate(map(_values, own))), keys) for head, own in runs.items()]
    return rows, infos


def format_verification(runs: Runs) -> str:
    """The table as plain text: heads down the side, percentages, mean ± standard deviation over the seeds.

    A star marks the best mean of a column, if there are several heads; a dash stands where there are
    too few impostor pairs to tell.

    >>> found = Verification(4, 2, 2, 4, eer=0.031, eer_threshold=0.5, tar={0.01: 0.9}, thresholds={0.01: 0.7})
    >>> print(format_verification({"am-softmax": [found]}))
                        TAR % at FAR
                EER %           1e-2
    AM-softmax   3.10          90.00
    <BLANKLINE>
    2 genuine and 4 impostor pairs of 4 embeddings in 2 classes
    """
    rows, infos = _summary(runs)
    table = summary_table(rows, infos, show=_show)
    stars = {True: "*", False: " " * (len(runs) > 1)}
    joined = (
        [shorten(name.text, _NAME_WIDTH), *(f"{c.text} {c.spread}".rstrip() + stars[c.best] for c in cells)]
        for name, *cells in table.rows
    )
    text = Table(table.columns, joined).text(wrap=_HEADING_WIDTH, rule=False)
    return "\n".join([text, "", "; ".join(_facts(runs)), *legend(rows, "")[: len(rows) > 1]])


def roc_figure(runs: Runs) -> Figure:
    """The ROC, false accept rate on a logarithmic axis: one curve a head, the mean over its seeds."""
    rows, _ = _summary(runs)
    traces: list[Trace] = []
    floor = least = 1.0
    for place, (head, verified) in enumerate(runs.items()):
        fars, tars = _mean_curve(verified)
        if not fars:
            continue
        floor = min(floor, *(tar for far, tar in zip(fars, tars, strict=True) if far >= 1e-5))
        least = min(least, fars[0])
        label = plot_text(head_label(head), 40)
        curve = scatter(
            "lines",
            fars,
            [100 * tar for tar in tars],
            name=label,
            line={
                "width": 2,
                "color": PALETTE[place % len(PALETTE)],
                "dash": DASHES[place // len(PALETTE) % len(DASHES)],
            },
            hovertemplate=f"{label}<br>FAR %{{x:.2g}}: TAR %{{y:.1f}}%<extra></extra>",
        )
        traces.append(curve)
    told = (
        f"{row.label} equal error rate {row.mean['eer']:.2f}%"
        if math.isfinite(row.mean["eer"])
        else f"{row.label} without a curve"
        for row in rows
    )
    far_range = [math.log10(max(least, 1e-6)) if least < 1 else -4, 0]
    false_rate = axis("False accept rate, logarithmic", type="log", range=far_range)
    return Figure(
        "roc",
        title="True accept rate against false accept rate",
        note=f"Higher is better. {_seeds_note(runs)}",
        description=f"One rising curve for each of {count(len(traces), 'head')}: " + "; ".join(told),
        data=traces,
        layout={
            "xaxis": {**false_rate, "dtick": 1, "exponentformat": "power"},
            "yaxis": axis("True accept rate, %", range=[max(0.0, 100 * floor - 3), 101]),
            "legend": {"orientation": "h", "y": -0.15, "yanchor": "top"},
            "showlegend": True,
            "margin": {**MARGIN, "t": 12},
        },
        height=480 + 22 * math.ceil(len(traces) / 4),
    )


def render_verification_page(runs: Runs, *, title: str, command: str = "") -> str:
    """The table and the ROC as one HTML page that works offline and from `file://`."""
    from bisector.report.page import render  # needs plotly, which a training does without

    rows, infos = _summary(runs)
    every = [run for head in runs.values() for run in head]
    columns = [replace(metric_column(info), help=info.help, better="") for info in infos]
    results = Section(
        "results",
        "Results",
        summary=summary_table(rows, infos, columns, _show),
        about=about_heads(rows),
        note=_seeds_note(runs),
    )
    reading = Section(
        "reading",
        "How to read it",
        unknown=any(math.isnan(tar) for run in every for tar in run.tar.values()),
        carried=any(run.carried for run in every),
    )
    return render(
        "verification.html",
        [Section("roc-curves", figures=[roc_figure(runs)]), results, reading],
        title=title,
        command=command,
        facts=_facts(runs),
        tiles=_tiles(rows, infos),
    )


def _tiles(rows: Sequence[SummaryRow], infos: Sequence[MetricInfo]) -> list[Tile]:
    tiles = []
    for info in [info for info in infos if info.better][:4]:
        if best := leaders(rows, info):
            order = {"lower": "Lowest ", "higher": "Highest "}[info.better] * (len(rows) > 1)
            note = name_leaders([row.label for row in best], max(row.runs for row in best))
            value = number(best[0].mean[info.key], 2)
            tiles.append(Tile(order + info.label.replace(" %", ""), value, unit="%", note=note))
    return tiles


def _mean_curve(verified: Sequence[Verification]) -> tuple[list[float], list[float]]:
    """At the false accept rates of all seeds, the mean over the seeds of the step functions."""
    drawn = [run for run in verified if run.curve_far]
    if not drawn:
        return [], []
    # Below the first rate of a seed its curve is not known: the mean begins where all are.
    start = max(run.curve_far[0] for run in drawn)
    fars = sorted({far for run in drawn for far in run.curve_far if far >= start})
    step = math.ceil(len(fars) / _MOST_POINTS)  # each seed can bring its own rates
    fars = fars[::step] + fars[-1:] * bool((len(fars) - 1) % step)
    # The rate of the last point that is not beyond a false accept rate.
    curves = [[run.curve_tar[bisect_right(run.curve_far, far) - 1] for far in fars] for run in drawn]
    return fars, [statistics.fmean(tars) for tars in zip(*curves, strict=True)]


def _facts(runs: Runs) -> list[str]:
    """What was compared with what; a range where the seeds or the heads differ."""
    every = [run for head in runs.values() for run in head]

    def span(key: str) -> str:
        values = [getattr(run, key) for run in every]
        return f"{min(values)}" if min(values) == max(values) else f"{min(values)} to {max(values)}"

    facts = [
        f"{span('genuine_pairs')} genuine and {span('impostor_pairs')} impostor pairs of {span('embeddings')} "
        f"embeddings in {span('classes')} classes"
    ]
    seeds, resolution = max(map(len, runs.values())), max(run.resolution for run in every)
    facts += [f"± standard deviation over {seeds} seeds"] * (seeds > 1)
    return facts + [f"cosines rounded to {resolution:.1g}"] * bool(resolution)


def _seeds_note(runs: Runs) -> str:
    seeds = max(map(len, runs.values()))
    return f"Mean over {seeds} seeds." if seeds > 1 else "One seed: how much is chance cannot be told."


def _power(far: float) -> str:
    """A rate as the field writes it.

    >>> _power(0.001), _power(0.05)
    ('1e-3', '0.05')
    """
    exponent = round(math.log10(far))
    return f"1e{exponent}" if far == float(f"1e{exponent}") and exponent < 0 else f"{far:g}"
