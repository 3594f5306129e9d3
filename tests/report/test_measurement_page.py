"""A measurement as page, as text, and as files."""

import csv
import json
import math
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy import stats

from bisector.data.tables import EmbeddingTable
from bisector.errors import ArgumentError
from bisector.measurement.class_scores import ClassScores
from bisector.measurement.classes import ClassMeasure
from bisector.measurement.measure import measure
from bisector.measurement.measurement import Measurement
from bisector.measurement.next_step import next_steps
from bisector.measurement.score_measures import accuracy_of, measure_scores
from bisector.report.measurement import format_measurement, render_measurement
from bisector.report.measurement_figures import scatter_plots
from bisector.report.measurement_files import require_no_input, write_measurement
from bisector.report.measurement_lead import lead_lines
from bisector.statistics.relation import chance_limit
from page_text import section
from report_cases import HOSTILE

STEERING = f"{HOSTILE[0]}\x1b[2J"


def random_rows(rows: int, dimensions: int = 20) -> torch.Tensor:
    return torch.randn(rows, dimensions, generator=torch.Generator().manual_seed(0))


def table_of(classes: int = 12) -> EmbeddingTable:
    """Classes of which the later ones have more rows and more mistakes."""
    random = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.full((20 + 4 * c,), c) for c in range(classes)])
    x = torch.randn(len(labels), 16, generator=random) * (1 + labels[:, None] / classes)
    right = torch.rand(len(labels), generator=random) < 1 - labels / (2 * classes)
    names = tuple(f"class {c}" for c in range(classes))
    return EmbeddingTable(x, labels, names, predictions=torch.where(right, labels, 0))


@pytest.fixture(scope="module")
def found() -> Measurement:
    values = [0.01 * c * c for c in range(10)] + [math.nan] * 2
    scores = [
        ClassScores("AP", "ap.csv", values, percent=True, notes=(f"noted {STEERING}",)),
        ClassScores(STEERING, f"{STEERING}.csv", [100.0 * c for c in range(12)], percent=False),
    ]
    return measure(table_of(), scores=scores)


@pytest.fixture(scope="module")
def numbered() -> Measurement:
    """Classes called 0 to 11, of which 7 and 10 are wrong as often; a judge that is as good as chance."""
    counts = (400, 90, 60, 50, 40, 30, 30, 30, 30, 30, 30, 30)
    labels = torch.cat([torch.full((rows,), c) for c, rows in enumerate(counts)])
    predictions = labels.clone()
    for c in (7, 10):
        predictions[(labels == c).nonzero().flatten()[:20]] = 0
    names = tuple(str(c) for c in range(len(counts)))
    return measure(EmbeddingTable(random_rows(len(labels)), labels, names, predictions=predictions))


def page_of(measurement: Measurement) -> str:
    return unescape(without_scripts(render_measurement(measurement)))


def without_scripts(html: str) -> str:
    """A page without its scripts and their data."""
    return re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)


def rows_of(path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def commands_as_lines(html):
    """A page whose commands are not cut into their words."""
    return re.sub(
        r"<pre>\s*<code>(.*?)</code></pre>",
        lambda m: f"<pre><code>{re.sub('</?span.*?>', '', m[1])}</code></pre>",
        html,
    )


def test_the_page_and_the_text_show_every_estimate(found):
    page, text = section(page_of(found), "correlations"), format_measurement(found)
    for score in found.scores:
        assert len(score.relationships) == 5
        for one in score.relationships:
            for each in (one.relation.pearson, one.relation.spearman, one.relation.partial):
                assert f"{abs(each.value):.2f}<br>" in page
                assert f"{abs(each.low):.2f} to " in page
                assert f"{abs(each.value):.2f} (" in text
            assert f"<td>{one.relation.rows}</td>" in page
    amount = found.scores[0].of("amount")
    for told in (
        f"log count alone explains {100 * amount.adds.r2_base:.1f} % of the variance of accuracy",
        f"{100 * amount.adds.gain:.1f} points more",
        "without what few tested rows bring by chance",
    ):
        assert told in page
        assert told in text
    bias = found.scores[0].bias
    assert f"Spread of accuracy over the classes: {math.sqrt(bias):.1f} percentage points" in page
    assert f"Bias, the variance of accuracy over the classes: {bias:.1f} (percentage points squared)" in text
    assert " in its own unit (standard deviation)" in page
    assert "(in its own unit squared)" in text
    assert f"on {found.equal_count} random rows of each of 12 classes" in page
    assert "\x1b" not in text
    assert "<img" not in without_scripts(render_measurement(found))


def test_every_score_has_two_pictures_in_the_colour_of_the_count(found):
    figures = scatter_plots(found)
    assert [figure.key for figure in figures] == [
        f"score-{k}-{q}" for k in range(3) for q in ("amount", "count")
    ]
    for figure in figures:
        (trace,) = figure.data
        assert "<img" not in str(figure.layout)
        counts = [one.count for one in found.classes][: len(trace["x"])]
        assert trace["marker"]["color"] == pytest.approx([math.log10(count) for count in counts])
    equal = replace(found, classes=[replace(one, count=30) for one in found.classes])
    assert isinstance(scatter_plots(equal)[0].data[0]["marker"]["color"], str)


def test_names_beside_points_are_told_apart(found):
    names = [f"functional-{k}-{kind}" for k in range(6) for kind in ("mono", "poly")]
    alike = replace(
        found, classes=[replace(one, name=n) for one, n in zip(found.classes, names, strict=True)]
    )
    for figure in scatter_plots(alike):
        shown = [name for text in figure.data[0]["text"] if text for name in text.split(", ")]
        assert shown
        assert len(set(shown)) == len(shown), shown


def test_the_axis_of_counts_has_ticks_of_its_own_where_counts_differ_much(found, numbered):
    axis = scatter_plots(numbered)[1].layout["xaxis"]
    assert (axis["type"], axis["tickvals"]) == ("log", [20, 50, 100, 200, 500])
    assert axis["ticktext"] == ["20", "50", "100", "200", "500"]
    assert "type" not in scatter_plots(found)[1].layout["xaxis"]


def test_names_of_points_that_coincide_are_joined(numbered):
    points = (("a", 20, 0.1), ("b", 20, 0.1), ("c", 900, 0.1), ("d", 20, 0.9), ("e", 20, 1.0))
    classes = [ClassMeasure(name, count, 10, 5.0, accuracy, 0.0) for name, count, accuracy in points]
    scores = measure_scores(classes, dimensions=20, resamples=100)
    _, counts = scatter_plots(replace(numbered, classes=classes, scores=scores))
    assert [text for text in counts.data[0]["text"] if text] == ["a, b", "c", "d", "e"]


def test_a_label_that_grows_into_another_takes_it_in(numbered):
    bits = {"stork": 0.05, "kite": 0.065, "robin": 0.073, "hawk": 0.079, "finch": 0.148, "swan": 0.194}
    classes = [ClassMeasure(name, 20, 10, amount, 0.0, 0.0) for name, amount in bits.items()]
    classes += [ClassMeasure("heron", 90, 10, 0.21, 1.0, 0.0)]
    scores = measure_scores(classes, dimensions=20, resamples=100)
    amounts, _ = scatter_plots(replace(numbered, classes=classes, scores=scores))
    told = [text for text in amounts.data[0]["text"] if text]
    assert told == ["stork, kite, robin, hawk", "finch", "swan"]


@pytest.mark.parametrize(
    ("rows", "apart", "told"),
    [
        (8, 9.0, "raven has few rows (8) and crow near, where 11 of its 12 errors go"),
        (8, 12.0, ""),  # half of the classes have a nearer one, and are better
        (300, 9.0, "raven has crow near, where 11 of its 12 errors go"),
    ],
)
def test_of_a_class_with_few_rows_and_a_near_neighbour_both_are_told(found, rows, apart, told):
    names = ["crow", *(f"bird {k}" for k in range(10)), "raven"]
    counts = [400, 320, 256, 205, 164, 131, 105, 84, 67, 54, 43, rows]
    rights = [20, 20, 19, 19, 18, 18, 17, 17, 16, 16, 15, 8]
    taken = [0, *[1] * 10, 11]
    classes = [
        ClassMeasure(
            name, n, 20, 9.0, right / 20, 0.1, neighbour=to, squared_distance=far, taken_for_neighbour=k
        )
        for name, n, right, k, to, far in zip(
            names,
            counts,
            rights,
            taken,
            ["bird 0", *["bird 1"] * 10, "crow"],
            [1.0] * 11 + [apart],
            strict=True,
        )
    ]
    classes[0] = replace(classes[0], false_positives=12)
    scores = measure_scores(classes, dimensions=16, tested_on="all rows", resamples=500)
    _, why, _ = lead_lines(replace(found, classes=classes, scores=scores))
    assert ("classes of fewer rows fare worse" in why) == (rows == 8)
    assert " near" in why if told else " near" not in why
    assert told in why


def test_of_few_classes_no_reason_is_denied(found):
    counts, rights = [400, 300, 200, 100, 60, 40, 30, 20], [19, 18, 15, 12, 8, 5, 3, 2]
    classes = [
        ClassMeasure(f"bird {k}", n, 20, 9.0, right / 20, 0.1)
        for k, (n, right) in enumerate(zip(counts, rights, strict=True))
    ]
    scores = measure_scores(classes, dimensions=16, tested_on="all rows", resamples=200)
    _, why, _ = lead_lines(replace(found, classes=classes, scores=scores))
    r = stats.pearsonr(np.log(counts), rights).statistic
    assert "neither" not in why
    assert why.endswith(
        f"nothing is concluded on count and width, though accuracy goes with the count by r = {r:+.2f}."
    )


def test_the_page_tells_what_cannot_be_trusted(numbered, found):
    page = page_of(numbered)
    tiles = page.partition("</dl>")[0]
    assert "<dd>class 7</dd>" in tiles
    assert f"judge unreliable: agrees with {100 * numbered.label_errors.agreement:.1f}\u00a0%" in tiles
    assert "judge that is unreliable" in format_measurement(numbered)
    rows = numbered.scores[0].classes
    chance, partial = chance_limit(rows), chance_limit(rows, held=1)
    assert chance < partial
    assert f"r beyond ±{chance:.2f}, and the partial r beyond ±{partial:.2f}" in page
    for key in ("labels", "duplicates"):
        assert "Split" not in section(page, key)
    small = [replace(one, count=8) for one in found.classes[:3]]
    classes = small + list(found.classes[3:])
    scores = measure_scores(classes, dimensions=16, tested_on="all rows", resamples=200)
    few = replace(found, classes=classes, scores=scores)
    for told in (page_of(few), format_measurement(few)):
        assert (
            "3 of these 12 classes (25 %) are too small for an amount to mean much: fewer than 13 rows."
            in told
        )


def test_confidences_have_significant_digits(measured):
    suspect = replace(measured.label_errors.suspects[0], confidence=3.14e-9)
    errors = replace(measured.label_errors, suspects=[suspect], agreement=0.9)
    one = replace(measured, label_errors=errors)
    assert "<td>3.1e-9</td>" in page_of(one)
    assert "3.1e-9" in format_measurement(one)


def test_a_pair_whose_other_class_was_not_tested_says_so():
    labels, predictions = torch.arange(60) % 2, torch.arange(60) % 2
    predictions[:8:2] = 2
    found = measure(EmbeddingTable(random_rows(60), labels, ("a", "b", "c"), predictions=predictions))
    page = section(page_of(found), "pairs")
    assert "A taken for B" in page
    assert "<td>4</td><td>–</td><td>≥ 6.7</td>" in page
    assert "≥ 6.7" in format_measurement(found)


def test_the_words_before_a_command_say_when_it_is_meant():
    labels = torch.tensor([0] * 80 + [1] * 10 + [2] * 10)
    x = random_rows(100) + 5 * torch.nn.functional.one_hot(labels, 20)
    found = measure(EmbeddingTable(x, labels, ("a", "b", "c")))
    assert found.step.key == "small"
    told = "<p>Until then, a prior may help:</p><pre><code>bisector compare"
    assert told in commands_as_lines(section(page_of(found), "next"))
    assert "Until then, a prior may help:\n  bisector compare" in format_measurement(found)


def test_classes_never_trained_on_are_told_by_page_and_text(tmp_path):
    labels = torch.arange(6).repeat_interleave(20)
    x = 3 * random_rows(6)[labels] + random_rows(120)
    found = measure(EmbeddingTable(x, labels, tuple("abcdef"), splits=["train"] * 60 + ["test"] * 60))
    verified, page = found.verification, page_of(found)
    row = page.partition("At a FAR of 0.01</th>")[2].partition("</tr>")[0]
    assert f"<td>1</td><td>{100 * verified.tar[1e-2]:.1f}</td><td>{verified.thresholds[1e-2]:.3f}</td>" in row
    assert "<td>–</td>" in page.partition("At a FAR of 0.0001</th>")[2].partition("</tr>")[0]
    text = format_measurement(found)
    assert "570 genuine and 1,200 impostor pairs of 60 rows in 3 classes" in text
    assert f"EER {100 * verified.eer:.1f} %" in text
    write_measurement(found, tmp_path)
    stored = json.loads((tmp_path / "measure.json").read_text(encoding="utf-8"))["verification"]
    assert stored["eer"] == verified.eer


def test_without_predictions_the_page_says_less():
    found = measure(EmbeddingTable(random_rows(60), torch.arange(60) % 3, ("a", "b", "c")))
    page = page_of(found)
    assert "Balanced accuracy" not in page
    assert "A taken for B" not in page
    assert "By the angle between the classes' mean directions." in page
    assert "No predictions" in page
    assert "Accuracy" not in format_measurement(found).splitlines()[1]


def test_what_was_tried_is_told_by_text_page_and_record(measured, tmp_path):
    write_measurement(measured, tmp_path)
    read = Measurement.read(tmp_path / "measure.json")
    assert repr(read.trials) == repr(measured.trials)
    (fitted,) = [trial for trial in read.trials.tried if trial.name == "fitted --cross-validate"]
    low, high = (f"{100 * end:+.1f}".replace("-", "−") for end in (fitted.gain.low, fitted.gain.high))
    for told in (format_measurement(read), (tmp_path / "measure.html").read_text(encoding="utf-8")):
        assert "Adjustments tried on 160 test rows, for want of validation rows" in told
        assert f"({low} to {high})" in told
        assert ("Leave the scores as they are" in told) == (read.trials.best is None)
        assert "none of the above" not in told.lower()


def test_the_text_names_the_hardest_class_and_the_next_step(measured):
    text = format_measurement(measured)
    assert "Next: Take out the examples that are in more than one split" in text
    assert "3 rows of validation and test in an earlier split too" in text
    assert f"Left out: {HOSTILE[0]}: cannot be read" in text
    worst = min(one.accuracy for one in measured.classes)
    assert f"{100 * worst:.1f}" in text.split("Hardest classes")[1].splitlines()[2]


def test_errors_have_a_column_where_there_are_any(found):
    off = [replace(one, error_bound=0.25 * (c == 3)) for c, one in enumerate(found.classes)]
    guessed = [replace(one, error_bound=math.nan, error_estimate=0.25) for one in found.classes]
    for classes, bounds, estimates in (
        (found.classes, False, False),
        (off, True, False),
        (guessed, False, True),
    ):
        one = replace(found, classes=classes)
        page, text = page_of(one), format_measurement(one)
        assert ("Error at most, bits" in page) == ("error at most" in text) == bounds
        assert ("Error estimated, bits" in page) == ("error estimated" in text) == estimates
    page = page_of(replace(found, classes=off))
    assert '<td class="extra" data-value="0.25">0.25</td>' in page
    assert '<td class="extra" data-value="0.0">0</td>' in page


def test_page_and_text_say_what_amounts_are_of(found):
    raw = replace(found, embeddings="raw", shrinkage="oas", equal_count=0, scores=[])
    for one, words in (
        (raw, "raw embeddings (as they are), with the shrinkage oas"),
        (found, "unit embeddings (every row at length √D), with the shrinkage quadratic-inverse"),
    ):
        assert words in render_measurement(one)
        assert words in format_measurement(one)


@pytest.mark.parametrize("classes", [1, 2])
def test_one_or_two_classes_have_a_page(classes):
    few = measure(table_of(classes))
    assert "accuracy is known of too few classes to correlate it" in page_of(few)
    assert "nan" not in page_of(few)
    assert "nan" not in format_measurement(few)


def test_a_streamed_measurement_says_what_was_not_looked_for(found, tmp_path):
    write_measurement(found, tmp_path)
    assert (tmp_path / "duplicates.csv").is_file()
    file, columns = (
        "my table.parquet",
        "bisector measure 'my table.parquet' --label 'the class' --embedding=-v",
    )
    about = (table_of(), file, found.classes, accuracy_of(found.scores), None, None)
    steps = next_steps(*about)
    for step in steps[1:3]:
        assert (step.holds, step.command) == (None, "bisector measure 'my table.parquet' --engine memory")
    again = f"{columns} --engine memory"
    for step in next_steps(*about, columns)[1:3]:
        assert again in (step.command, f"{step.command} --engine memory")
    streamed = replace(found, file=file, label_errors=None, duplicates=None, streamed=True, steps=steps)
    page = commands_as_lines(page_of(streamed))
    assert "Not looked for: the table was streamed. --engine memory" in page
    assert "<code>bisector measure 'my table.parquet' --engine memory</code>" in page
    assert f"<code>{again}</code>" in commands_as_lines(page_of(replace(streamed, command=columns)))
    assert "Suspected labels" not in page.partition('class="findings"')[2].partition("</dl>")[0]
    assert 'id="duplicates"' not in page
    assert "Label errors and duplicates: Not looked for" in format_measurement(streamed)
    names = [path.name for path in write_measurement(streamed, tmp_path)]
    assert names == ["measure.html", "measure.json", "classes.csv", "score_correlations.csv"]
    assert not (tmp_path / "duplicates.csv").exists()  # it was of another measurement


# Files


def test_the_tables_hold_the_scores(found, tmp_path):
    write_measurement(found, tmp_path)
    rows = rows_of(tmp_path / "classes.csv")
    assert [row["AP"] for row in rows] == [f"{0.01 * c * c}" for c in range(10)] + [""] * 2
    assert [float(row["equal_amount"]) for row in rows] == [one.equal_amount for one in found.classes]
    lines = rows_of(tmp_path / "score_correlations.csv")
    quantities = (
        "amount",
        "log count",
        "equal amount",
        "distance to the nearest class",
        "intrinsic dimension",
    )
    names = [*(("accuracy", quantity) for quantity in quantities), ("AP", "amount")]
    assert [(line["score"], line["quantity"]) for line in lines[:6]] == names
    amount = found.scores[1].of("amount")
    assert float(lines[5]["spearman_low"]) == amount.relation.spearman.low
    assert float(lines[5]["r2_both"]) == amount.adds.r2_full
    assert lines[5]["bias_corrected"] == ""
    twice = ClassScores("accuracy", "a.csv", [0.5] * 12, percent=True)
    write_measurement(measure(table_of(), scores=[twice]), tmp_path)
    heading = list(rows_of(tmp_path / "classes.csv")[0])
    assert heading[-1] == "accuracy_2"
    assert len(set(heading)) == len(heading)


def test_files_of_the_user_stay_and_old_ones_of_ours_go(found, tmp_path):
    mine = ("scores.csv", "classes.json", "duplicates.csv")
    for name in mine:
        (tmp_path / name).write_text("mine")
    streamed = replace(found, label_errors=None, duplicates=None, scores=[])
    write_measurement(streamed, tmp_path)
    assert all((tmp_path / name).read_text() == "mine" for name in mine)
    (tmp_path / "scores.csv").unlink()
    write_measurement(found, tmp_path, format="json")
    tables = ["classes.csv", "classes.json", "score_correlations.csv", "label_errors.csv", "duplicates.csv"]
    assert Measurement.read(tmp_path / "measure.json").tables == tables
    write_measurement(streamed, tmp_path, format="parquet")
    names = {"measure.html", "measure.json", "classes.csv", "classes.parquet"}
    assert {file.name for file in tmp_path.iterdir()} == names


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_the_table_of_classes_is_the_same_in_every_format(found, tmp_path, kind):
    write_measurement(found, tmp_path, format=kind)
    rows, held = rows_of(tmp_path / "classes.csv"), tmp_path / f"classes.{kind}"
    listed = json.loads(held.read_text()) if kind == "json" else pq.read_table(held).to_pylist()
    assert {"class", "AP"} < set(rows[0])
    told = [{key: "" if value is None else str(value) for key, value in row.items()} for row in listed]
    assert [list(row.items()) for row in told] == [list(row.items()) for row in rows]


def test_a_file_that_is_read_is_not_written_over(tmp_path):
    for name in ("measure.json", "classes.csv", "score_correlations.csv", "classes.parquet"):
        format = "parquet" if name.endswith(".parquet") else "csv"
        with pytest.raises(ArgumentError, match=f"{name} would be written over"):
            require_no_input(tmp_path, [tmp_path / "a" / ".." / name], format=format)
    for folder in (tmp_path, tmp_path / "runs"):
        with pytest.raises(ArgumentError, match="in the folder of embeddings"):
            require_no_input(folder, [tmp_path], format="parquet")
        require_no_input(folder, [tmp_path, tmp_path / "scores.csv", tmp_path / "classes.parquet"])
