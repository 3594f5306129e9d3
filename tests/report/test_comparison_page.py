"""The page of a comparison: what it says, that names stay text, and that its figures draw the numbers."""

import base64
import hashlib
import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from scipy import stats

from bisector.errors import install_command
from bisector.metrics.summary import METRICS
from bisector.report.amounts import amount_accuracy, amount_answer, amount_history, size_notes
from bisector.report.comparison import render_page
from bisector.report.comparison_figures import class_accuracy, margins, train_counts
from bisector.report.page import render
from bisector.report.parts import PALETTE, Section, class_color
from bisector.report.planes import direction_arcs, linear_regions, planes
from bisector.report.summary import SummaryRow, summary_rows
from bisector.report.words import head_label, head_summary
from page_text import Page, section

KEY = "r_amount_accuracy_given_count"
COLORS = {
    f"<--{name}>" for name in ("ink", "faint", "line", "low", "middle", "high", "warmmiddle", "warmhigh")
}


@pytest.fixture(scope="module")
def page(comparison):
    return Page(render_page(comparison))


def text_of(comparison):
    return Page(render_page(comparison)).text


def clouds(comparison):
    return amount_accuracy(comparison, summary_rows(comparison))


def traces(figure, mode):
    return [trace for trace in figure.data if trace["mode"] == mode]


def many_classes(comparison, classes, **more):
    names = [str(i) for i in range(classes)]
    runs = [
        replace(
            run,
            class_accuracy=[0.5] * classes,
            class_amount=[1.0] * classes,
            class_count=[1] * classes,
            amount_history=[],
            margins=None,
        )
        for run in comparison.runs
    ]
    return replace(comparison, class_names=names, train_counts=[1] * classes, runs=runs, **more)


# Nothing but what was written for the page


def test_nothing_is_loaded_from_anywhere_and_hostile_names_stay_text(page, hostile):
    hostile_page = Page(render_page(hostile))
    for tag, attributes in page.tags + hostile_page.tags:
        for name in ("src", "srcset", "href", "data", "action", "poster", "background"):
            if name in attributes:
                assert (tag, attributes[name]) == ("link", "data:,")
        assert not any(name.startswith("on") for name in attributes)
        assert tag not in {"iframe", "object", "embed", "base", "img", "a", "b"}
        style = attributes.get("style", "")
        assert "url(" not in style
        assert "background" not in style  # colour means the class and nothing else
    # The very same elements as with harmless names, so that no name became one; the details list what was left out.
    assert len(hostile_page.all("script")) == len(page.all("script")) == 3
    assert {tag for tag, _ in hostile_page.tags} - {"ul", "li"} == {tag for tag, _ in page.tags}
    assert "<" not in hostile_page.scripts[0]
    assert hostile_page.figures
    for name in (hostile.data, hostile.version, hostile.command, *hostile.left_out):
        assert " ".join(name.split()) in hostile_page.text


def test_the_policy_allows_the_two_scripts_of_the_page_and_no_others(page):
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    digests = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script, attributes in zip(page.scripts, page.all("script"), strict=True)
        if attributes.get("type") != "application/json"
    ]
    assert len(digests) == 2
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]


def test_a_section_that_is_not_given_what_its_template_asks_for_is_an_error():
    with pytest.raises(UndefinedError, match="'reshuffled'"):
        render("comparison.html", [Section("class-by-class", "x")], title="x", facts=[], tiles=[])


def test_a_missing_plotly_names_the_extra():
    # A module set to None in sys.modules cannot be imported: the state of a bare installation.
    program = (
        "import sys; sys.modules['plotly'] = None\n"
        "from bisector.errors import MissingExtraError\n"
        "try: import bisector.report.page\n"
        "except MissingExtraError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"plotly is not installed; it comes with: {install_command('report')}"


# What the page says


def test_the_page_holds_all_figures_and_headings_under_unique_names(page):
    keys = [figure["key"] for figure in page.figures]
    places = [div for div in page.all("div") if "plot" in div.get("class", "").split()]
    assert sorted(keys) == sorted(div["id"] for div in places)
    # counts, class accuracy; four metrics' differences, eight clouds, three margins, two histories, four planes
    assert len(keys) == 2 + 4 + 8 + 3 + 2 + 4
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identities) == len(set(identities))
    assert all(div["role"] == "img" and div["aria-label"] for div in places)
    assert [tag for tag, _ in page.tags if tag in {"h1", "h2", "h3"}] == ["h1"] + ["h2"] * 9
    headings = {attributes["id"] for attributes in page.all("h2")}
    assert {section["aria-labelledby"] for section in page.all("section")} == headings


def test_the_page_says_what_was_compared(page, comparison):
    for told in (
        "8 heads compared on digits",
        "digits made long-tailed, imbalance 50",
        "10 classes with 109 to 2 training instances",
        "540 test instances",
        "2 seeds",
        comparison.command,
        *(f"{key.replace('_', ' ')} {value}" for key, value in comparison.recipe.items()),
        *(f"{head_label(head)} {head_summary(head)}" for head in comparison.heads),
        *(info.help for info in METRICS if info.key != "harmonic_mean"),  # too wide for a sheet of paper
        "Nothing can be concluded from 10 classes.",
    ):
        assert told in page.text


def test_a_comparison_read_back_makes_the_same_page(comparison, tmp_path):
    comparison.write(tmp_path / "comparison.json")
    again = comparison.__class__.read(tmp_path / "comparison.json")
    assert render_page(again) == render_page(comparison)


def test_sections_without_content_are_left_out_and_one_head_is_best_at_nothing(comparison):
    (run, *_) = [run for run in comparison.runs if run.head == "am-softmax"]
    unknown = replace(run, metrics={}, class_amount=[math.nan] * 10)
    page = Page(render_page(replace(comparison, runs=[unknown], planes=[], recipe={}, command="")))
    assert [attributes["id"] for attributes in page.all("h2")] == ["results", "class-by-class"]
    assert not page.all("pre")
    page = Page(render_page(replace(comparison, runs=[run])))
    assert "AM-softmax on digits" in page.text
    assert "One seed" in page.text
    assert not any(cell.get("class") == "best" for cell in page.all("td"))
    # The finding, without a winner.
    assert f"Balanced accuracy {100 * run.metrics['balanced_accuracy']:.1f} % Worst class" in page.text
    for absent in ("shaded", "Highest", " ± "):
        assert absent not in page.text


def test_heads_that_tie_are_counted(comparison):
    def tied(heads):
        runs = [
            replace(r, metrics=r.metrics | {"worst_class": 0.5}) for r in comparison.runs if r.head in heads
        ]
        text = text_of(replace(comparison, runs=runs))
        return text.partition("Best worst class 50.0 ± 0.0 % ")[2].partition(" Best on the rarest classes")[0]

    heads = comparison.heads
    assert tied(heads[:2]) == "Softmax and Normalised softmax cannot be told apart"
    assert tied(heads[:5]) == "Softmax, Normalised softmax and 3 others cannot be told apart"


@pytest.mark.parametrize(
    ("worse", "seeds", "names"),
    [
        # The paired differences are 3.1 on average. Student's t over 3 seeds: 3.1 ± 4.303 * 1.85 / sqrt(3).
        ([3.1 - 1.85, 3.1, 3.1 + 1.85], 3, "IGAM (paper) and AM-softmax cannot be told apart"),
        ([3.1 - 0.85, 3.1, 3.1 + 0.85], 3, "IGAM (paper)"),  # 3.1 ± 2.1
        ([3.1], 1, "IGAM (paper); one seed, not tested"),  # it has no interval
    ],
)
def test_a_tile_names_a_winner_only_where_it_can_be_told(build, worse, seeds, names):
    given = [80.0, 60.0, 70.0][:seeds]  # what both share within a seed tells nothing
    values = {
        "am-softmax": [a - d for a, d in zip(given, worse, strict=True)],
        "igam:preset=paper": given,
    }
    comparison = build(seeds=seeds)
    runs = [
        replace(r, metrics=r.metrics | {"balanced_accuracy": values[r.head][r.seed] / 100})
        for r in comparison.runs
        if r.head in values
    ]
    text = text_of(replace(comparison, runs=runs))
    tile = text.partition("Highest balanced accuracy ")[2].partition(" Best worst class")[0]
    assert tile.partition("% ")[2] == names


def test_relax_and_press_are_explained_where_they_are_known(comparison, page):
    assert "Relax moves a competitor away" in page.text
    old = replace(comparison, runs=[replace(run, direction=None) for run in comparison.runs])
    text = text_of(old)
    assert "Margins between pairs of classes" in text
    assert "Relax" not in text
    assert {figure.note for figure in margins(old)} == {""}
    relax, _, press = margins(comparison)
    assert relax.note == "relax: competitors are moved away"
    assert press.note == "press: competitors are moved nearer, samples must clear more"
    assert relax.data[0]["colorscale"] != press.data[0]["colorscale"]


def test_the_planes_are_described_as_they_are_drawn(comparison, page):
    assert "for 120 epochs instead of 40." in page.text
    assert "dashed lines" in page.text
    assert "more than 30 classes" not in page.text
    cosine = [plane for plane in comparison.planes if plane.bias is None]
    recipe = {"epochs": 40, "patience": None, "pretrained": False, "keep": True}
    text = text_of(replace(comparison, planes=cosine, recipe=recipe))
    assert "patience none pretrained no keep yes" in " ".join(text.split())
    assert "embeddings of two dimensions. Points" in text
    assert "inner products divides" not in text
    text = text_of(many_classes(comparison, 31, planes=cosine))
    assert "there are more than 30 classes" in text
    assert "dashed" not in text


# Whether amounts say which classes are hard


def rows(means, deviation=0.1, runs=3):
    return [SummaryRow(str(i), str(i), runs, {KEY: mean}, {KEY: deviation}) for i, mean in enumerate(means)]


@pytest.mark.parametrize(
    ("means", "verdict"),
    [
        ([-0.6, -0.7, 0.0], "For most heads, yes:"),
        ([-0.6, -0.6, 0.0, 0.0], "For some heads only."),
        ([0.6, 0.6, 0.6], "Not here, beyond what the counts say."),
        ([-0.1, 0.1, 0.0], "Not here, beyond what the counts say."),
    ],
)
def test_many_classes_give_a_verdict(means, verdict):
    assert amount_answer(rows(means), 100).startswith(verdict)


def test_what_is_chance_does_not_count():
    answer = amount_answer(rows([-0.9, -0.8, 0.1]), 10)
    assert answer.startswith("Nothing can be concluded from 10 classes.")
    assert "for 2 of 3 heads (2 of them negative)" in answer
    assert amount_answer(rows([-0.9]), 4) == "Nothing can be concluded from 4 classes."
    assert "beyond ±0.20 for 1 of 2 heads" in amount_answer(rows([-0.6, -0.5], deviation=0.55), 100)
    assert "for 0 of 1 head;" in amount_answer(rows([-0.19], deviation=0.01), 100)
    assert "for 0 of 1 head;" in amount_answer(rows([-0.6], deviation=math.nan), 100)
    once = amount_answer(rows([-0.6, -0.6], deviation=math.nan, runs=1), 100)
    assert "deviation" not in once
    assert "±0.20 for 2 of 2 heads (2 of them negative)" in once
    assert amount_answer(rows([math.nan, math.nan]), 100) == ""


@pytest.mark.parametrize("classes", [10, 30, 200])
def test_the_limit_is_what_chance_reaches_in_one_case_of_twenty(classes):
    # Student's distribution of a partial correlation with one quantity held fixed.
    t = stats.t.ppf(0.975, classes - 3)
    exact = t / math.sqrt(classes - 3 + t**2)
    stated = float(amount_answer(rows([0.0]), classes).partition("±")[2].partition(" ")[0])
    assert stated == pytest.approx(exact, abs=0.011)


def noted(comparison, amount):
    """The notes where the last refresh of every head that measured is `amount(count, class, seed)`."""
    runs = [
        replace(
            run,
            amount_history=[
                *run.amount_history[:-1],
                [amount(n, c, run.seed) for c, n in enumerate(run.class_count)],
            ],
        )
        if run.amount_history
        else run
        for run in comparison.runs
    ]
    return size_notes(replace(comparison, runs=runs))


def test_amounts_that_are_any_function_of_the_count_are_told(comparison, page):
    # Falls to 0 and rises again, so that no order of the counts shows it.
    told = noted(comparison, lambda n, c, seed: 80 * (1 - math.sqrt(20 / n)) ** 2 + 0.01 * seed)
    assert [note.partition(":")[0] for note in told] == ["IGAM (paper)", "IGAM (max margin 0.3, press)"]
    assert all("whichever classes they are" in note for note in told)
    assert noted(comparison, lambda n, c, seed: 3.0 * c + 0.01 * seed) == []
    assert noted(comparison, lambda n, c, seed: 5.0) == []
    for draw in range(20):
        rng = np.random.default_rng(draw)
        assert noted(comparison, lambda n, c, seed, rng=rng: float(rng.normal())) == []
    assert "follow the class sizes" not in page.text


def test_where_the_seeds_have_the_same_tail_only_the_order_counts(build):
    comparison = build(reshuffled=False)
    for sign, words in ((-1, "fewer"), (1, "more")):
        told = noted(comparison, lambda n, c, seed, sign=sign: sign * n if n > 2 else math.nan)
        assert len(told) == 2
        assert all(
            f"the {words} training instances a class has, the larger its amount" in one for one in told
        )
    assert noted(comparison, lambda n, c, seed: n if n > 20 else math.nan) == []  # four points are chance
    assert noted(comparison, lambda n, c, seed: abs(n - 12)) == []


# The figures


def in_color(value):
    if isinstance(value, dict):
        return {key: in_color(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [in_color(item) for item in value]
    return "#123456" if isinstance(value, str) and value in COLORS else value


@pytest.mark.parametrize("data", ["comparison", "hostile"])
def test_figures_are_legal_plotly(data, request):
    page = Page(render_page(request.getfixturevalue(data)))
    for figure in page.figures:
        go.Figure(data=in_color(figure["data"]), layout=in_color(figure["layout"]))


@pytest.mark.parametrize("reshuffled", [True, False])
def test_counts_and_accuracies_run_from_the_commonest_class_to_the_rarest(build, reshuffled):
    comparison = build([f"n{i}" for i in range(10)], seeds=3, reshuffled=reshuffled)
    counts, accuracies = train_counts(comparison), class_accuracy(comparison)
    profile = sorted(comparison.train_counts, reverse=True)
    names = [f"n{comparison.train_counts.index(count)}" for count in profile]
    assert counts.data[0]["y"] == profile
    assert counts.layout["xaxis"]["visible"] != reshuffled
    for head, row in zip(comparison.heads, accuracies.data[0]["z"], strict=True):
        ranked = [
            [run.class_accuracy[run.class_count.index(count)] for count in profile]
            for run in comparison.runs
            if run.head == head
        ]
        np.testing.assert_allclose(row, 100 * np.mean(ranked, axis=0))
    ticks = accuracies.layout["xaxis"]["ticktext"]
    if reshuffled:  # a rank is not a class
        assert ticks == [str(count) for count in profile]
        assert counts.data[0]["marker"]["color"] == "<--faint>"
        assert counts.data[0]["hovertext"][:2] == ["rank 1", "rank 2"]
        assert "differs between the seeds" in counts.note
    else:
        assert ticks == counts.layout["xaxis"]["ticktext"] == names
        assert counts.data[0]["marker"]["color"] == [class_color(int(name[1:])) for name in names]
        assert not counts.note


def test_names_that_begin_alike_are_told_apart_where_there_is_little_room(comparison):
    names = [f"solar cell {kind}-{k}" for k in range(5) for kind in ("monocrystalline", "polycrystalline")]
    alike = replace(comparison, class_names=names)
    runs = [replace(run, class_count=[100 - k for k in range(10)]) for run in alike.runs]
    for figure in (train_counts(replace(alike, runs=runs)), class_accuracy(replace(alike, runs=runs))):
        ticks = figure.layout["xaxis"]["ticktext"]
        assert len(set(ticks)) == 10
        assert max(map(len, ticks)) <= 12


def test_mean_counts_are_whole_and_what_is_not_known_leaves_gaps(comparison):
    run, other = comparison.runs[0], next(run for run in comparison.runs if run.seed == 1)
    mixed = replace(
        comparison, runs=[run, replace(other, class_count=[count + 1 for count in other.class_count])]
    )
    counts = [round(count + 0.5) for count in sorted(run.class_count, reverse=True)]
    assert train_counts(mixed).data[0]["y"] == counts
    assert class_accuracy(mixed).layout["xaxis"]["ticktext"] == [str(count) for count in counts]
    silent = replace(comparison, runs=[replace(run, class_count=[]) for run in comparison.runs])
    ticks = class_accuracy(silent).layout["xaxis"]["ticktext"]
    assert ticks == [str(c) for c in np.argsort(comparison.train_counts)[::-1]]
    single = replace(comparison, runs=[replace(run, class_accuracy=[math.nan, *run.class_accuracy[1:]])])
    (row,) = class_accuracy(single).data[0]["z"]
    assert sum(map(math.isnan, row)) == 1


def test_every_class_of_every_run_is_a_point_of_its_head(comparison):
    figures = clouds(comparison)
    assert [figure.title for figure in figures] == [row.label for row in summary_rows(comparison)]
    for head, figure in zip(comparison.heads, figures, strict=True):
        (trace,) = figure.data
        columns = (trace["x"], trace["y"], trace["text"], trace["customdata"])
        drawn = {
            (x, y, text, *custom) for x, y, text, custom in zip(*columns, strict=True) if not math.isnan(x)
        }
        assert drawn == {
            (amount, 100 * run.class_accuracy[c], comparison.class_names[c], run.class_count[c], run.seed)
            for run in comparison.runs
            if run.head == head
            for c, amount in enumerate(run.class_amount)
            if not math.isnan(amount)
        }
        assert trace["marker"]["color"] == [class_color(int(text)) for text in trace["text"]]
        low, high = figure.layout["yaxis"]["range"]
        assert low < min(trace["y"]) <= max(trace["y"]) < high
    assert len({tuple(figure.layout["yaxis"]["range"]) for figure in figures}) == 1


def test_the_clouds_name_their_correlations_and_need_amounts(comparison):
    known = {"r_amount_accuracy": (-0.5, -0.3), KEY: (0.1, 0.3)}
    runs = [
        replace(run, metrics=run.metrics | {key: pair[run.seed] for key, pair in known.items()})
        for run in comparison.runs
        if run.head == "c2am"
    ]
    (figure,) = clouds(replace(comparison, runs=runs))
    assert figure.note == "r −0.40 ± 0.14\ncount held fixed: 0.20 ± 0.14"
    (single,) = clouds(replace(comparison, runs=runs[:1]))
    assert single.note == "r −0.50\ncount held fixed: 0.10"
    first, *others = (run for run in comparison.runs if run.seed == 0)
    unknown = replace(first, class_amount=[math.nan] * 10)
    assert len(clouds(replace(comparison, runs=[unknown, *others]))) == 7
    assert clouds(replace(comparison, runs=[unknown])) == []
    untested = replace(comparison, runs=[replace(first, class_accuracy=[math.nan] * 10)])
    assert clouds(untested)[0].layout["yaxis"]["range"] is None  # the axis is left to plotly


def test_each_square_has_the_order_of_its_own_margins(comparison):
    rng = np.random.default_rng(0)
    guides = {run.head: rng.uniform(0, 0.4, 10) for run in comparison.runs}
    runs = [
        replace(run, margins=np.maximum(0, np.subtract.outer(g, g)).tolist()) if run.margins else run
        for run in comparison.runs
        for g in [guides[run.head]]
    ]
    heads = [head for head in comparison.heads if head.startswith(("igam", "c2am"))]
    for head, figure in zip(heads, margins(replace(comparison, runs=runs)), strict=True):
        order = np.argsort(-guides[head])
        expected = np.maximum(0, np.subtract.outer(guides[head][order], guides[head][order]))
        np.testing.assert_array_equal(figure.data[0]["z"], expected)
        assert figure.data[0]["customdata"][0][1] == [str(order[0]), str(order[1])]
        assert figure.title == f"{head_label(head)}: up to {np.max(expected):.2g} rad"
        scale = figure.data[0]["colorscale"]
        assert [place for place, _ in scale] == [0, pytest.approx(0.02), 1]  # small margins are well seen


def test_all_squares_have_one_scale_and_none_is_drawn_of_zeros(comparison):
    small, large, none = (
        replace(run, margins=[[0.0, top], [0.0, 0.0]])
        for run, top in zip(comparison.runs[:3], (0.01, 0.5, 0.0), strict=True)
    )
    given = replace(comparison, runs=[small, large, none])
    scales = [(figure.data[0]["zmin"], figure.data[0]["zmax"]) for figure in margins(given)]
    assert scales == [(0, 0.5)] * 2
    told = section(render_page(given), "margins")
    assert f"{head_label(none.head)}: no margin between any two classes." in told
    assert told.count("no margin") == 1
    many = replace(small, margins=[[float(i)] * 500 for i in range(500)])
    names = [str(i) for i in range(500)]
    (figure,) = margins(replace(comparison, runs=[many], class_names=names))
    assert [row[0] for row in figure.data[0]["z"]] == list(range(499, -1, -5))  # thinned out
    assert {len(row) for row in figure.data[0]["z"]} == {100}


def test_history_has_a_line_a_class(comparison):
    runs = [run for run in comparison.runs if run.seed == 0 and run.amount_history]
    for figure, run in zip(amount_history(comparison), runs, strict=True):
        assert len(figure.data) == 10
        for trace in figure.data:
            history = [amounts[int(trace["name"])] for amounts in run.amount_history]
            np.testing.assert_array_equal(trace["y"], history)
            assert trace["x"] == list(range(1, 21))
    once = [replace(run, amount_history=run.amount_history[:1]) for run in comparison.runs]
    assert amount_history(replace(comparison, runs=once)) == []


# Embeddings of two dimensions


def test_points_are_drawn_to_scale_and_as_directions(comparison):
    figures = planes(comparison)
    assert figures[0].title == "Softmax: 71.0 % correct in two dimensions"
    for plane, figure in zip(comparison.planes, figures, strict=True):
        assert figure.layout["yaxis"]["scaleanchor"] == "x"
        assert figure.layout["yaxis"]["range"] == figure.layout["xaxis"]["range"]
        cloud, directions = traces(figure, "markers")
        points = np.array(plane.points)
        drawn = np.column_stack([cloud["x"], cloud["y"]])
        ratio = np.linalg.norm(drawn, axis=1) / np.linalg.norm(points, axis=1)
        np.testing.assert_allclose(ratio, ratio[0])
        assert (np.linalg.norm(drawn, axis=1) <= 1 + 1e-9).mean() == pytest.approx(0.98, abs=0.01)
        angles = np.arctan2(*points.T[::-1])
        np.testing.assert_allclose(np.arctan2(directions["y"], directions["x"]), angles, atol=1e-12)
        np.testing.assert_allclose(np.hypot(directions["x"], directions["y"]), 1.06)
        assert cloud["marker"]["color"] == [class_color(label) for label in plane.labels]
        for weight, ray, name in zip(
            plane.weights, traces(figure, "lines+text"), comparison.class_names, strict=True
        ):
            assert ray["text"][-1] == name
            assert math.hypot(ray["x"][1], ray["y"][1]) == pytest.approx(1)
            assert math.atan2(ray["y"][1], ray["x"][1]) == pytest.approx(math.atan2(*weight[::-1]))


def test_boundaries_of_a_cosine_head_are_bisectors_and_its_rim_tells_the_predicted_class(comparison):
    plane, figure = comparison.planes[1], planes(comparison)[1]
    rays, *rim = traces(figure, "lines")
    weights = np.array(plane.weights)
    units = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    for x, y in zip(rays["x"][1::3], rays["y"][1::3], strict=True):
        cosines = np.sort(units @ [x, y])
        assert cosines[-1] == pytest.approx(cosines[-2])
    for area in rim:
        predicted = (units @ [np.mean(area["x"]), np.mean(area["y"])]).argmax()
        assert area["text"] == f"predicted {predicted}"
        red, green, blue = bytes.fromhex(PALETTE[predicted][1:])
        assert area["fillcolor"] == f"rgba({red}, {green}, {blue}, 0.85)"


def test_regions_of_a_head_with_a_bias_hold_the_points_they_win(comparison):
    plane, figure = comparison.planes[0], planes(comparison)[0]
    unit = plane.points[0][0] / traces(figure, "markers")[0]["x"][0]
    for area in traces(figure, "lines"):
        corners = unit * np.column_stack([area["x"], area["y"]])
        scores = corners.mean(axis=0) @ np.array(plane.weights).T + plane.bias
        assert area["text"] == f"predicted {scores.argmax()}"


def test_a_diverged_plane_is_drawn_as_far_as_it_goes_and_many_points_are_sampled(comparison):
    plane = comparison.planes[1]
    for value in (math.nan, 0.0):
        gone = replace(plane, points=[[value] * 2] * len(plane.points), weights=[[value] * 2] * 10)
        (figure,) = planes(replace(comparison, planes=[gone]))
        assert not traces(figure, "lines+text")
    rng = np.random.default_rng(0)
    large = replace(
        plane,
        points=rng.normal(size=(5000, 2)).tolist(),
        labels=rng.integers(0, 50, 5000).tolist(),
        weights=rng.normal(size=(50, 2)).tolist(),
    )
    given = replace(comparison, planes=[large], class_names=[str(i) for i in range(50)])
    (figure,) = planes(given)
    assert [len(trace["x"]) for trace in traces(figure, "markers")] == [2000, 2000]
    assert not traces(figure, "lines+text")
    assert planes(given) == [figure]


seeds, classes = st.integers(0, 2**32 - 1), st.integers(1, 12)


@given(seeds, classes)
def test_arcs_cover_the_circle_once_and_are_of_the_class_with_the_largest_cosine(seed, classes):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(classes, 2)) * rng.lognormal(size=(classes, 1))
    arcs = direction_arcs(weights.tolist())
    assert sum(arc.end - arc.start for arc in arcs) == pytest.approx(2 * math.pi)
    assert all(before.end == pytest.approx(after.start) for before, after in pairwise(arcs))
    units = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    turns = (-2 * math.pi, 0, 2 * math.pi)
    for angle in rng.uniform(-math.pi, math.pi, 50):
        owners = [arc.label for arc in arcs for turn in turns if arc.start <= angle + turn < arc.end]
        cosines = units @ [math.cos(angle), math.sin(angle)]
        top = np.sort(cosines)[-2:]
        if len(top) < 2 or top[1] - top[0] > 1e-9:
            assert owners == [cosines.argmax()]


def test_weights_without_a_direction_own_nothing_and_minus_zero_is_zero():
    weights = [[0.0, 0.0], [math.nan, 1.0], [math.inf, 0.0], [0.0, 3.0], [0.0, 7.0]]
    (arc,) = direction_arcs(weights)
    assert (arc.label, arc.end - arc.start) == (3, pytest.approx(2 * math.pi))
    assert direction_arcs([[0.0, 0.0]]) == []
    assert [arc.label for arc in direction_arcs([[-1.0, 0.0], [-1.0, -0.0]])] == [0]


def inside(polygon, point):
    # Convex and counter-clockwise: the point lies to the left of every edge.
    edges = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return all(
        (bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax) >= -1e-9 for (ax, ay), (bx, by) in edges
    )


@given(seeds, classes)
def test_regions_cover_the_square_once_and_are_of_the_class_with_the_largest_score(seed, classes):
    rng = np.random.default_rng(seed)
    weights, bias = rng.normal(size=(classes, 2)), rng.normal(size=classes)
    regions = linear_regions(weights.tolist(), bias.tolist(), 3.0)
    corners = [np.array(polygon).T for polygon in regions.values()]
    area = sum((x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 for x, y in corners)
    assert area == pytest.approx(36)
    for point in rng.uniform(-3, 3, (50, 2)):
        scores = np.sort(weights @ point + bias)[-2:]
        if len(scores) == 2:
            assume(scores[1] - scores[0] > 1e-6)
        owners = [c for c, polygon in regions.items() if inside(polygon, point)]
        assert owners == [(weights @ point + bias).argmax()]
    assert list(linear_regions([[1.0, 2.0]] * 3, [0.5] * 3, 1.0)) == [0]  # equal classes are drawn once
