import math
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from bisector.report.comparison import render_page
from bisector.report.comparison_figures import (
    amount_accuracy,
    amount_history,
    class_accuracy,
    difference_figures,
    margins,
    train_counts,
)
from bisector.report.differences import difference_rows, summary_rows
from bisector.report.figure import class_color
from bisector.report.names import head_label
from bisector.report.planes import planes

COLORS = {
    f"<--{name}>" for name in ["ink", "faint", "line", "low", "middle", "high", "warmmiddle", "warmhigh"]
}


def clouds(comparison):
    return amount_accuracy(comparison, summary_rows(comparison))


def forest(comparison):
    return difference_figures(difference_rows(comparison))


def in_color(value):
    if isinstance(value, dict):
        return {key: in_color(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [in_color(item) for item in value]
    return "#123456" if isinstance(value, str) and value in COLORS else value


@pytest.mark.parametrize("data", ["comparison", "hostile"])
@pytest.mark.parametrize(
    "draw", [train_counts, class_accuracy, forest, clouds, margins, amount_history, planes]
)
def test_figures_are_legal_plotly(draw, data, request):
    drawn = draw(request.getfixturevalue(data))
    for figure in drawn if isinstance(drawn, list) else [drawn]:
        go.Figure(data=in_color(figure.data), layout=in_color(figure.layout))
        assert figure.description.endswith(".")


def test_counts_run_from_the_commonest_class_to_the_rarest(build):
    comparison = build([f"n{i}" for i in range(10)], reshuffled=False)
    figure = train_counts(comparison)
    order = np.argsort(comparison.train_counts)[::-1]
    assert figure.data[0]["y"] == sorted(comparison.train_counts, reverse=True)
    assert figure.layout["xaxis"]["visible"]
    assert figure.layout["xaxis"]["ticktext"] == [f"n{c}" for c in order]
    assert figure.data[0]["marker"]["color"] == [class_color(c) for c in order]
    assert not figure.note


def test_counts_of_other_classes_in_each_seed_are_ranks_and_not_classes(comparison):
    figure = train_counts(comparison)
    assert figure.data[0]["y"] == sorted(comparison.train_counts, reverse=True)
    assert not figure.layout["xaxis"]["visible"]
    assert figure.data[0]["marker"]["color"] == "<--faint>"
    assert figure.data[0]["hovertext"][:2] == ["rank 1", "rank 2"]
    assert "differs between the seeds" in figure.note


def test_mean_counts_are_whole_numbers(comparison):
    run, other = comparison.runs[0], next(run for run in comparison.runs if run.seed == 1)
    odd = replace(other, class_count=[count + 1 for count in other.class_count])
    mixed = replace(comparison, runs=[run, odd])
    counts = [round(count + 0.5) for count in sorted(run.class_count, reverse=True)]
    assert train_counts(mixed).data[0]["y"] == counts
    assert class_accuracy(mixed).layout["xaxis"]["ticktext"] == [str(count) for count in counts]


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


def test_every_class_of_every_run_is_a_point_of_its_head(comparison):
    figures = clouds(comparison)
    assert [figure.title for figure in figures] == [row.label for row in summary_rows(comparison)]
    for head, figure in zip(comparison.heads, figures, strict=True):
        (trace,) = figure.data
        drawn = {
            (x, y, text, *custom)
            for x, y, text, custom in zip(
                trace["x"], trace["y"], trace["text"], trace["customdata"], strict=True
            )
            if not math.isnan(x)
        }
        assert drawn == {
            (amount, 100 * accuracy, comparison.class_names[c], count, run.seed)
            for run in comparison.runs
            if run.head == head
            for c, (amount, accuracy, count) in enumerate(
                zip(run.class_amount, run.class_accuracy, run.class_count, strict=True)
            )
            if not math.isnan(amount)
        }
        assert trace["marker"]["color"] == [class_color(int(text)) for text in trace["text"]]
        low, high = figure.layout["yaxis"]["range"]
        assert low < min(trace["y"]) <= max(trace["y"]) < high
    assert len({tuple(figure.layout["yaxis"]["range"]) for figure in figures}) == 1


def test_the_clouds_name_their_correlations(comparison):
    runs = [run for run in comparison.runs if run.head == "c2am"]
    known = {"r_amount_accuracy": (-0.5, -0.3), "r_amount_accuracy_given_count": (0.1, 0.3)}
    set_runs = [
        replace(run, metrics=run.metrics | {key: pair[run.seed] for key, pair in known.items()})
        for run in runs
    ]
    (figure,) = clouds(replace(comparison, runs=set_runs))
    assert figure.note == "r −0.40 ± 0.14\ncount held fixed: 0.20 ± 0.14"
    (single,) = clouds(replace(comparison, runs=set_runs[:1]))
    assert single.note == "r −0.50\ncount held fixed: 0.10"


def test_no_amounts_no_cloud(comparison):
    unknown = [replace(run, class_amount=[math.nan] * 10) for run in comparison.runs]
    assert clouds(replace(comparison, runs=unknown)) == []
    first = [unknown[0], *comparison.runs[1:]]
    assert len(clouds(replace(comparison, runs=[run for run in first if run.seed == 0]))) == 7


def test_untested_classes_leave_an_axis_to_plotly(comparison):
    untested = [replace(run, class_accuracy=[math.nan] * 10) for run in comparison.runs]
    assert {figure.layout["yaxis"]["range"] for figure in clouds(replace(comparison, runs=untested))} == {
        None
    }


def test_each_square_has_the_order_of_its_own_margins(comparison):
    figures = margins(comparison)
    assert [figure.title.partition(":")[0] for figure in figures] == [
        "C2AM",
        "IGAM (paper)",
        "IGAM (max margin 0.3, press)",
    ]
    rng = np.random.default_rng(0)
    guides = {run.head: rng.uniform(0, 0.4, 10) for run in comparison.runs}
    runs = [
        replace(run, margins=np.maximum(0, np.subtract.outer(g, g)).tolist()) if run.margins else run
        for run in comparison.runs
        for g in [guides[run.head]]
    ]
    drawn = margins(replace(comparison, runs=runs))
    heads = [head for head in comparison.heads if head.startswith(("igam", "c2am"))]
    for head, figure in zip(heads, drawn, strict=True):
        order = np.argsort(-guides[head])
        expected = np.maximum(0, np.subtract.outer(guides[head][order], guides[head][order]))
        np.testing.assert_array_equal(figure.data[0]["z"], expected)
        assert figure.data[0]["customdata"][0][1] == [str(order[0]), str(order[1])]
        assert figure.title.endswith(f"up to {np.max(expected):.2g} rad")


def test_all_squares_have_one_scale_and_none_is_drawn_of_zeros(comparison):
    small = replace(comparison.runs[0], margins=[[0.0, 0.01], [0.0, 0.0]])
    large = replace(comparison.runs[1], margins=[[0.0, 0.5], [0.0, 0.0]])
    none = replace(comparison.runs[2], margins=[[0.0, 0.0], [0.0, 0.0]])
    given = replace(comparison, runs=[small, large, none])
    figures = margins(given)
    assert [(figure.data[0]["zmin"], figure.data[0]["zmax"]) for figure in figures] == [(0, 0.5)] * 2
    told = render_page(given).partition('aria-labelledby="margins"')[2].partition("</section>")[0]
    assert f"{head_label(none.head)}: no margin between any two classes." in told
    assert told.count("no margin") == 1


def test_small_margins_are_no_blank_square(comparison):
    for figure in margins(comparison):
        scale = figure.data[0]["colorscale"]
        assert [place for place, _ in scale] == [0, pytest.approx(0.02), 1]  # the middle colour is well seen


def test_squares_say_what_their_margins_do(comparison):
    relax, _, press = margins(comparison)
    assert relax.note == "relax: competitors are moved away"
    assert press.note == "press: competitors are moved nearer, samples must clear more"
    assert relax.data[0]["colorscale"] != press.data[0]["colorscale"]
    old = [replace(run, direction=None) for run in comparison.runs]
    assert {figure.note for figure in margins(replace(comparison, runs=old))} == {""}


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
