import csv
import json
import math
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bisector.data.tables import EmbeddingTable
from bisector.errors import ArgumentError
from bisector.measurement.class_scores import ClassScores
from bisector.measurement.classes import ClassMeasure
from bisector.measurement.measure import measure
from bisector.measurement.measurement import Measurement
from bisector.measurement.next_step import next_steps
from bisector.measurement.score_measures import accuracy_of, measure_scores
from bisector.report.measurement import render_measurement
from bisector.report.measurement_figures import scatter_plots
from bisector.report.measurement_files import require_no_input, write_measurement
from bisector.report.measurement_text import format_measurement

HOSTILE = "<img src=x onerror=window.pwned=1>\x1b[2J"


def table_of(classes: int = 12) -> EmbeddingTable:
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
        ClassScores("AP", "ap.csv", values, percent=True, notes=(f"noted {HOSTILE}",)),
        ClassScores(HOSTILE, f"{HOSTILE}.csv", [100.0 * c for c in range(12)], percent=False),
    ]
    return measure(table_of(), scores=scores)


def many(classes: int = 1203) -> Measurement:
    """A measurement with as many classes as LVIS has, whose numbers are drawn."""
    rng = np.random.default_rng(0)
    counts = np.exp(rng.normal(3.3, 1.5, classes)).astype(int) + 1
    measured = [
        ClassMeasure(
            f"a class that has a name {c}", int(counts[c]), 20, rng.normal(40, 9), rng.integers(21) / 20, 0.4
        )
        for c in range(classes)
    ]
    scores = measure_scores(measured, dimensions=256, tested_on="all rows", resamples=200)
    return replace(measure(table_of(3)), classes=measured, scores=scores)


def test_the_page_and_the_text_show_every_estimate(found: Measurement) -> None:
    page = unescape(render_measurement(found).partition("<script")[0])
    section = page.partition('id="correlations"')[2].partition("</section>")[0]
    text = format_measurement(found)
    for score in found.scores:
        assert len(score.relationships) == 3
        for one in score.relationships:
            for each in (one.relation.pearson, one.relation.spearman, one.relation.partial):
                assert f"{abs(each.value):.2f}<br>" in section
                assert f"{abs(each.low):.2f} to " in section
                assert f"{abs(each.value):.2f} (" in text
            assert f"<td>{one.relation.rows}</td>" in section
    amount = found.scores[0].of("amount")
    assert amount is not None
    for told in (section, text):
        assert (
            f"log count alone explains {100 * amount.adds.r2_base:.1f} % of the variance of accuracy" in told
        )
        assert f"{100 * amount.adds.gain:.1f} points more" in told
        assert "Bias, the variance of accuracy over the classes: " in told
        assert "without what few tested rows bring by chance" in told
        assert "(in its own unit squared)" in told
    assert f"on {found.equal_count} random rows of each of 12 classes" in section
    assert "\x1b" not in text
    assert "<img" not in render_measurement(found).partition("<script")[0]


def test_every_score_has_two_pictures_in_the_colour_of_the_count(found: Measurement) -> None:
    figures = scatter_plots(found)
    assert [figure.key for figure in figures] == [
        f"score-{k}-{q}" for k in range(3) for q in ("amount", "count")
    ]
    for figure in figures:
        (trace,) = figure.data
        assert "<img" not in str(figure.layout)
        colors = trace["marker"]["color"]  # type: ignore[index,call-overload]
        counts = [one.count for one, y in zip(found.classes, range(12), strict=True) if y < len(colors)]
        assert colors == pytest.approx([math.log10(count) for count in counts])
    equal = replace(found, classes=[replace(one, count=30) for one in found.classes])
    (trace,) = scatter_plots(equal)[0].data
    assert isinstance(trace["marker"]["color"], str)  # type: ignore[index,call-overload]


def test_the_tables_hold_the_scores(found: Measurement, tmp_path: Path) -> None:
    names = [path.name for path in write_measurement(found, tmp_path)]
    assert names[0] == "measure.html"
    with (tmp_path / "classes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["AP"] for row in rows] == [f"{0.01 * c * c}" for c in range(10)] + [""] * 2
    assert [float(row["equal_amount"]) for row in rows] == [one.equal_amount for one in found.classes]
    with (tmp_path / "score_correlations.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [(line["score"], line["quantity"]) for line in lines[:4]] == [
        ("accuracy", "amount"),
        ("accuracy", "log count"),
        ("accuracy", "equal amount"),
        ("AP", "amount"),
    ]
    amount = found.scores[1].of("amount")
    assert amount is not None
    assert float(lines[3]["spearman_low"]) == amount.relation.spearman.low
    assert float(lines[3]["r2_both"]) == amount.adds.r2_full
    assert lines[3]["bias_corrected"] == ""


def test_a_score_with_the_name_of_a_column_has_its_own(tmp_path: Path) -> None:
    twice = ClassScores("accuracy", "a.csv", [0.5] * 12, percent=True)
    write_measurement(measure(table_of(), scores=[twice]), tmp_path)
    heading = (tmp_path / "classes.csv").read_text().partition("\n")[0].split(",")
    assert heading[-1] == "accuracy_2"
    assert len(set(heading)) == len(heading)


def test_a_streamed_measurement_says_what_was_not_looked_for(found: Measurement, tmp_path: Path) -> None:
    write_measurement(found, tmp_path)
    assert (tmp_path / "duplicates.csv").is_file()
    steps = next_steps(table_of(), "my table.parquet", found.classes, accuracy_of(found.scores), None, None)
    for step in steps[1:3]:
        assert (step.holds, step.command) == (None, "bisector measure 'my table.parquet' --engine memory")
    columns = "bisector measure 'my table.parquet' --label 'the class' --embedding=-v"
    again = "bisector measure 'my table.parquet' --label 'the class' --embedding=-v --engine memory"
    about = (table_of(), "my table.parquet", found.classes, accuracy_of(found.scores), None, None)
    for step in next_steps(*about, columns)[1:3]:
        assert again in (step.command, f"{step.command} --engine memory")
    streamed = replace(
        found, file="my table.parquet", label_errors=None, duplicates=None, streamed=True, steps=steps
    )
    page = unescape(render_measurement(streamed).partition("<script")[0])
    assert "Not looked for: the table was streamed. --engine memory" in page
    assert "<code>bisector measure 'my table.parquet' --engine memory</code>" in page
    told = unescape(render_measurement(replace(streamed, command=columns)))
    assert f"<code>{again}</code>" in told
    assert "Suspected labels" not in page.partition('class="findings"')[2].partition("</dl>")[0]
    assert 'id="duplicates"' not in page
    assert "Label errors and duplicates: Not looked for" in format_measurement(streamed)
    names = [path.name for path in write_measurement(streamed, tmp_path)]
    assert names == ["measure.html", "measure.json", "classes.csv", "score_correlations.csv"]
    assert not (tmp_path / "duplicates.csv").exists()  # it was of another measurement


def test_errors_have_a_column_where_there_are_any(found: Measurement) -> None:
    assert "Error " not in render_measurement(found).partition("<script")[0]
    assert "error at most" not in format_measurement(found)
    assert "error estimated" not in format_measurement(found)
    off = [replace(one, error_bound=0.25 * (c == 3)) for c, one in enumerate(found.classes)]
    page = render_measurement(replace(found, classes=off))
    assert "Error at most, bits" in page
    assert "Error estimated" not in page
    assert "error at most" in format_measurement(replace(found, classes=off))
    assert '<td data-value="0.25">0.25</td>' in page
    assert '<td data-value="0.0">0</td>' in page
    guessed = [replace(one, error_bound=math.nan, error_estimate=0.25) for one in found.classes]
    page = render_measurement(replace(found, classes=guessed))
    assert "Error estimated, bits" in page
    assert "Error at most" not in page
    text = format_measurement(replace(found, classes=guessed))
    assert "error estimated" in text
    assert "at most" not in text


def test_page_and_text_say_what_amounts_are_of(found: Measurement) -> None:
    raw = replace(found, embeddings="raw", shrinkage="oas", equal_count=0, scores=[])
    for told in (render_measurement(raw), format_measurement(raw)):
        assert "raw embeddings (as they are), with the shrinkage oas" in told
    for told in (render_measurement(found), format_measurement(found)):
        assert "unit embeddings (every row at length √D), with the shrinkage quadratic-inverse" in told


@pytest.mark.parametrize("classes", [1, 2])
def test_one_or_two_classes_have_a_page(classes: int, tmp_path: Path) -> None:
    few = measure(table_of(classes))
    write_measurement(few, tmp_path)
    page = (tmp_path / "measure.html").read_text(encoding="utf-8")
    assert "accuracy is known of too few classes to correlate it" in page
    assert "nan" not in page.partition("<script")[0]
    assert "nan" not in format_measurement(few)


def test_classes_that_are_too_small_are_counted() -> None:
    found = many(100)
    small = sum(one.count < 32 for one in found.classes)
    told = f"{small} of these 100 classes ({small} %) are too small for an amount to mean much: fewer than 32 rows."
    assert told in render_measurement(found)
    assert told in format_measurement(found)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 400])
def test_a_page_of_1203_classes_can_be_used(browser: webdriver.Chrome, tmp_path: Path, width: int) -> None:
    found = many()
    page = write_measurement(found, tmp_path)[0]
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(page.as_uri())
    drawn = "return [...document.querySelectorAll('.plot')].every(plot => plot.querySelector('svg.main-svg'))"
    WebDriverWait(browser, 120).until(lambda driver: driver.execute_script(drawn))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    rows = browser.execute_script("return document.querySelectorAll('th[scope=row][data-value]').length")
    assert rows == 1203
    box = browser.find_element(By.CSS_SELECTOR, "[aria-label=Classes]")
    assert box.size["height"] < 900  # the rest of the page is not thousands of pixels away
    browser.execute_script("arguments[0].scrollTop = 20000; arguments[0].scrollIntoView()", box)
    head = browser.find_elements(By.CSS_SELECTOR, "[aria-label=Classes] th[data-first]")[2]
    top = "return arguments[0].getBoundingClientRect().top"
    assert browser.execute_script(top, head) == pytest.approx(browser.execute_script(top, box), abs=2)
    browser.execute_script("arguments[0].querySelector('button').click()", head)
    first = browser.execute_script(
        "return +arguments[0].querySelector('tbody tr').cells[2].dataset.value", box
    )
    assert first == max(one.amount for one in found.classes)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_files_of_the_user_stay_and_old_ones_of_ours_go(found: Measurement, tmp_path: Path) -> None:
    for name in ("scores.csv", "classes.json", "duplicates.csv"):
        (tmp_path / name).write_text("mine")
    streamed = replace(found, label_errors=None, duplicates=None, scores=[])
    write_measurement(streamed, tmp_path)
    for name in ("scores.csv", "classes.json", "duplicates.csv"):
        assert (tmp_path / name).read_text() == "mine"
    (tmp_path / "scores.csv").unlink()
    write_measurement(found, tmp_path, format="json")
    assert Measurement.read(tmp_path / "measure.json").tables == [
        "classes.csv",
        "classes.json",
        "score_correlations.csv",
        "label_errors.csv",
        "duplicates.csv",
    ]
    write_measurement(streamed, tmp_path, format="parquet")
    names = {"measure.html", "measure.json", "classes.csv", "classes.parquet"}
    assert {file.name for file in tmp_path.iterdir()} == names


def test_the_table_of_classes_is_the_same_in_every_format(found: Measurement, tmp_path: Path) -> None:
    for kind in ("json", "parquet"):
        write_measurement(found, tmp_path, format=kind)
        with (tmp_path / "classes.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        held = tmp_path / f"classes.{kind}"
        listed = json.loads(held.read_text()) if kind == "json" else pq.read_table(held).to_pylist()
        assert [list(row) for row in listed] == [list(row) for row in rows]
        assert {"class", "AP"} < set(rows[0])
        told = [["" if value is None else str(value) for value in row.values()] for row in listed]
        assert told == [list(row.values()) for row in rows]


def test_a_file_that_is_read_is_not_written_over(tmp_path: Path) -> None:
    for name in ("measure.json", "classes.csv", "score_correlations.csv", "classes.parquet"):
        format = "parquet" if name.endswith(".parquet") else "csv"
        with pytest.raises(ArgumentError, match=f"{name} would be written over"):
            require_no_input(tmp_path, [tmp_path / "a" / ".." / name], format=format)
    for folder in (tmp_path, tmp_path / "runs"):
        with pytest.raises(ArgumentError, match="in the folder of embeddings"):
            require_no_input(folder, [tmp_path], format="parquet")
        require_no_input(folder, [tmp_path, tmp_path / "scores.csv", tmp_path / "classes.parquet"])
