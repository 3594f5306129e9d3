import math
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from bisector.report.colors import PALETTE
from bisector.report.guidance import amount_history, margins
from bisector.report.planes import planes
from bisector.report.plots import amount_accuracy, class_accuracy, train_counts

COLORS = ("<--ink>", "<--faint>", "<--line>", "<--low>", "<--middle>", "<--high>")


def in_color(value):
    if isinstance(value, dict):
        return {key: in_color(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [in_color(item) for item in value]
    return "#123456" if isinstance(value, str) and value in COLORS else value


@pytest.mark.parametrize("data", ["comparison", "hostile"])
@pytest.mark.parametrize(
    "draw", [train_counts, class_accuracy, amount_accuracy, margins, amount_history, planes]
)
def test_figures_are_legal_plotly(draw, data, request):
    drawn = draw(request.getfixturevalue(data))
    for figure in drawn if isinstance(drawn, list) else [drawn]:
        go.Figure(data=in_color(figure.data), layout=in_color(figure.layout))
        assert figure.description.endswith(".")


def test_counts_run_from_the_commonest_class_to_the_rarest(comparison):
    figure = train_counts(comparison)
    assert figure.data[0]["y"] == sorted(comparison.train_counts, reverse=True)
    names = [comparison.class_names[c] for c in np.argsort(comparison.train_counts)[::-1]]
    assert figure.layout["xaxis"]["ticktext"] == names


@pytest.mark.parametrize("reshuffled", [True, False])
def test_class_accuracy_is_averaged_by_rank(build, reshuffled):
    comparison = build([f"n{i}" for i in range(10)], seeds=3, reshuffled=reshuffled)
    figure = class_accuracy(comparison)
    profile = sorted(comparison.train_counts, reverse=True)
    for head, row in zip(comparison.heads, figure.data[0]["z"], strict=True):
        ranked = [
            [run.class_accuracy[run.class_count.index(count)] for count in profile]
            for run in comparison.runs
            if run.head == head
        ]
        np.testing.assert_allclose(row, 100 * np.mean(ranked, axis=0))
    ticks = figure.layout["xaxis"]["ticktext"]
    if reshuffled:
        assert ticks == [str(count) for count in profile]
    else:
        assert ticks == [f"n{comparison.train_counts.index(count)}" for count in profile]


def test_runs_that_do_not_say_their_counts_have_those_of_the_comparison(comparison):
    silent = replace(comparison, runs=[replace(run, class_count=[]) for run in comparison.runs])
    ticks = class_accuracy(silent).layout["xaxis"]["ticktext"]
    assert ticks == [str(c) for c in np.argsort(comparison.train_counts)[::-1]]


def test_untested_classes_leave_gaps(comparison):
    run = comparison.runs[0]
    single = replace(comparison, runs=[replace(run, class_accuracy=[math.nan, *run.class_accuracy[1:]])])
    (row,) = class_accuracy(single).data[0]["z"]
    assert sum(map(math.isnan, row)) == 1


def test_every_class_of_every_run_is_a_point(comparison):
    figure = amount_accuracy(comparison)
    assert len(figure.data) == len(comparison.heads)
    drawn = {
        (x, y, text, *custom)
        for trace in figure.data
        for x, y, text, custom in zip(trace["x"], trace["y"], trace["text"], trace["customdata"], strict=True)
        if not math.isnan(x)
    }
    assert drawn == {
        (amount, 100 * accuracy, comparison.class_names[c], count, run.seed)
        for run in comparison.runs
        for c, (amount, accuracy, count) in enumerate(
            zip(run.class_amount, run.class_accuracy, run.class_count, strict=True)
        )
        if not math.isnan(amount)
    }


def test_no_amounts_no_scatter(comparison):
    unknown = [replace(run, class_amount=[math.nan] * 10) for run in comparison.runs]
    assert amount_accuracy(replace(comparison, runs=unknown)) is None


def test_heads_keep_their_colours(comparison):
    colors = [trace["marker"]["color"] for trace in amount_accuracy(comparison).data]
    assert colors == list(PALETTE[: len(comparison.heads)])


def test_margins_stand_in_the_order_of_the_amounts_that_made_them(comparison):
    figures = margins(comparison)
    assert [figure.title.partition(":")[0] for figure in figures] == [
        "C2AM",
        "IGAM (paper)",
        "IGAM (max margin 0.3, press)",
    ]
    run = next(run for run in comparison.runs if run.head == "igam:preset=paper")
    amounts = np.nan_to_num(run.amount_history[-1], nan=-np.inf)
    order = np.argsort(-amounts, kind="stable")
    np.testing.assert_array_equal(figures[1].data[0]["z"], np.array(run.margins)[np.ix_(order, order)])
    assert figures[1].data[0]["customdata"][0][1] == [str(order[0]), str(order[1])]
    assert f"up to {np.max(run.margins):.2g} rad" in figures[1].title


def test_margins_of_many_classes_are_thinned_out(comparison):
    run = replace(
        comparison.runs[0],
        class_amount=list(range(500)),
        margins=[[float(i)] * 500 for i in range(500)],
    )
    (figure,) = margins(replace(comparison, runs=[run], class_names=[str(i) for i in range(500)]))
    rows = [row[0] for row in figure.data[0]["z"]]
    assert rows == list(range(499, -1, -5))
    assert {len(row) for row in figure.data[0]["z"]} == {100}


def test_zero_margins_have_a_scale(comparison):
    run = replace(comparison.runs[0], margins=[[0.0] * 10] * 10)
    (figure,) = margins(replace(comparison, runs=[run]))
    assert (figure.data[0]["zmin"], figure.data[0]["zmax"]) == (0, 1)


def test_history_has_a_line_a_class(comparison):
    figures = amount_history(comparison)
    runs = [run for run in comparison.runs if run.seed == 0 and run.amount_history]
    assert len(figures) == len(runs) == 2
    for figure, run in zip(figures, runs, strict=True):
        assert len(figure.data) == 10
        for trace in figure.data:
            history = [amounts[int(trace["name"])] for amounts in run.amount_history]
            np.testing.assert_array_equal(trace["y"], history)
            assert trace["x"] == list(range(1, 21))


def test_a_single_refresh_is_no_history(comparison):
    runs = [replace(run, amount_history=run.amount_history[:1]) for run in comparison.runs]
    assert amount_history(replace(comparison, runs=runs)) == []
