import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bisector.data.tables import EmbeddingTable
from bisector.measurement.classes import ClassMeasure
from bisector.measurement.measure import measure
from bisector.measurement.measurement import Measurement
from bisector.measurement.score_measures import measure_scores
from bisector.report.measurement import render_measurement
from bisector.report.measurement_figures import scatter_plots
from bisector.report.measurement_files import write_measurement
from bisector.report.measurement_text import format_measurement
from bisector.statistics.relation import chance_limit
from on_paper import cut_on_paper

SECONDS = 60
NAMES = (
    "<img src=x onerror=window.pwned=1>",
    "</script><script>window.pwned=1</script>",
    "quoted \"name\" with 'both'",
    "naïve café 猫",
    "<b>bold</b> & <a href='javascript:window.pwned=1'>link</a>",
    "%{x} $x^2$ &lt;",
    "<!--<script>",
    "a name that is far too long to be put beside any point of any figure on this page, or into any table",
)


@pytest.fixture(scope="module")
def hostile() -> Measurement:
    """Every text that comes from outside tries to become code, and every section has something to show."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(320) % 8
    means = 5 * torch.randn(8, 24, generator=random)
    x = means[labels] + torch.randn(320, 24, generator=random)
    x[200:203], x[17] = x[:3], x[16]
    scores = x @ means.T - 0.5 * means.square().sum(dim=1) + 20 * torch.randn(320, 8, generator=random)
    given = labels.clone()
    given[8:20] = (given[8:20] + 3) % 8
    table = EmbeddingTable(
        x,
        given,
        NAMES,
        predictions=scores.argmax(dim=1),
        losses=torch.rand(320, generator=random),
        scores=scores,
        names=[f"images/{NAMES[row % 8]}/{row}.jpg" for row in range(320)],
        splits=["train"] * 160 + ["test"] * 160,
        left_out=(f"{NAMES[0]}: cannot be read",),
        model=NAMES[1],
        data=NAMES[0],
    )
    return measure(table, file=NAMES[1], command=f"bisector measure {NAMES[1]}")


def show(browser: webdriver.Chrome, path: Path, width: int) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(path.as_uri())
    drawn = "return [...document.querySelectorAll('.plot')].every(plot => plot.querySelector('svg.main-svg'))"
    WebDriverWait(browser, SECONDS).until(lambda driver: driver.execute_script(drawn))


@pytest.mark.parametrize("width", [1200, 400])
def test_nothing_is_executed_and_nothing_sticks_out(
    browser: webdriver.Chrome, hostile: Measurement, tmp_path: Path, width: int
) -> None:
    page = write_measurement(hostile, tmp_path)[0]
    show(browser, page, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    for details in browser.find_elements(By.CSS_SELECTOR, "details"):
        browser.execute_script("arguments[0].open = true", details)
    names = browser.execute_script(
        "return [...document.querySelectorAll('th[scope=row][data-value]')].map(cell => cell.textContent)"
    )
    assert sorted(names) == sorted(NAMES)
    assert hostile.data in browser.find_element(By.TAG_NAME, "h1").text
    assert not browser.find_elements(By.CSS_SELECTOR, "main img, main a, main b, td script")
    sections = [heading.text for heading in browser.find_elements(By.TAG_NAME, "h2")]
    assert len(sections) == 7
    assert len(browser.find_elements(By.CSS_SELECTOR, ".plot svg.main-svg .points path")) >= 16
    assert browser.execute_script("return window.pwned") is None
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_a_click_sorts_the_classes(browser: webdriver.Chrome, hostile: Measurement, tmp_path: Path) -> None:
    show(browser, write_measurement(hostile, tmp_path)[0], 1200)
    header = browser.find_elements(By.CSS_SELECTOR, "th[data-first]")[2]
    browser.execute_script("arguments[0].querySelector('button').click()", header)
    script = (
        "return [...arguments[0].closest('table').tBodies[0].rows].map(row => +row.cells[2].dataset.value)"
    )
    amounts = browser.execute_script(script, header)
    assert amounts == sorted((one.amount for one in hostile.classes), reverse=True)


def numbered(counts: tuple[int, ...] = (400, 90, 60, 50, 40, 30, 30, 30, 30, 30, 30, 30)) -> Measurement:
    """Classes called 0 to 11, of which 7 and 10 are wrong as often; a judge that is as good as chance."""
    random = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.full((rows,), c) for c, rows in enumerate(counts)])
    predictions = labels.clone()
    for c in (7, 10):
        predictions[(labels == c).nonzero().flatten()[:20]] = 0
    names = tuple(str(c) for c in range(len(counts)))
    x = torch.randn(len(labels), 20, generator=random)
    return measure(EmbeddingTable(x, labels, names, predictions=predictions))


def test_names_that_are_numbers_are_sorted_as_numbers_and_the_order_is_shown(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    show(browser, write_measurement(numbered(), tmp_path)[0], 1200)
    headers = browser.find_elements(By.CSS_SELECTOR, "th[data-first]")
    mark = "return getComputedStyle(arguments[0].querySelector('button'), '::after').content"
    order = "return [...document.querySelectorAll('th[scope=row][data-value]')].map(cell => cell.textContent)"
    marks = [browser.execute_script(mark, header) for header in headers]
    sorted_by = [label.partition("\n")[0].strip() == "Accuracy, %" for label in (h.text for h in headers)]
    assert sum(sorted_by) == 1
    assert [header.get_attribute("aria-sort") for header in headers] == [
        "ascending" if one else None for one in sorted_by
    ]
    assert ["▴" in mark for mark in marks] == sorted_by
    assert ["↕" in mark for mark in marks] == [not one for one in sorted_by]
    assert set(browser.execute_script(order)[:2]) == {"7", "10"}
    browser.execute_script("arguments[0].querySelector('button').click()", headers[0])
    assert browser.execute_script(order) == [str(c) for c in range(12)]
    assert "▴" in browser.execute_script(mark, headers[0])


def test_at_400_pixels_lines_go_through_and_names_are_readable(
    browser: webdriver.Chrome, hostile: Measurement, tmp_path: Path
) -> None:
    show(browser, write_measurement(hostile, tmp_path)[0], 400)
    plots = browser.execute_script(
        "return [...document.querySelectorAll('.plot svg')].map(plot => plot.getBoundingClientRect().right)"
    )
    assert max(plots) <= 400
    widths = browser.execute_script(
        "return [...document.querySelectorAll('th[scope=row][data-value]')].map(cell => cell.clientWidth)"
    )
    assert min(widths) >= 100
    # Where a row begins at a fraction of a pixel, the cell that stays covers the line of the one above.
    heights = browser.execute_script(
        "return [...document.querySelectorAll('[data-value]')].map(cell => cell.getBoundingClientRect().height)"
    )
    assert [height for height in heights if height != round(height)] == []


def test_at_400_pixels_the_accuracy_is_in_sight_and_on_paper_nothing_is_cut(
    browser: webdriver.Chrome, hostile: Measurement, tmp_path: Path
) -> None:
    page = write_measurement(hostile, tmp_path)[0]
    show(browser, page, 400)
    (accuracy,) = [
        cell for cell in browser.find_elements(By.CSS_SELECTOR, "th[data-first]") if "Accuracy" in cell.text
    ]
    assert accuracy.rect["x"] + accuracy.rect["width"] <= 400
    assert cut_on_paper(browser) == []
    show(browser, page, 1200)
    assert cut_on_paper(browser) == []


def test_the_axis_of_counts_has_ticks_of_its_own() -> None:
    _, counts = scatter_plots(numbered())
    axis = counts.layout["xaxis"]
    assert axis["type"] == "log"
    assert axis["tickvals"] == [20, 50, 100, 200, 500]
    assert axis["ticktext"] == ["20", "50", "100", "200", "500"]
    _, narrow = scatter_plots(numbered((90, 80, 70, 60, 50, 40, 40, 40, 40, 40, 40)))
    assert "type" not in narrow.layout["xaxis"]


def test_names_of_points_that_coincide_are_joined() -> None:
    classes = [
        ClassMeasure(name, count, 10, 5.0, accuracy, 0.0)
        for name, count, accuracy in (
            ("a", 20, 0.1),
            ("b", 20, 0.1),
            ("c", 900, 0.1),
            ("d", 20, 0.9),
            ("e", 20, 1.0),
        )
    ]
    scores = measure_scores(classes, dimensions=20, resamples=100)
    _, counts = scatter_plots(replace(numbered(), classes=classes, scores=scores))
    texts = [text for text in counts.data[0]["text"] if text]
    assert texts == ["a, b", "c", "d", "e"]


def test_the_page_tells_what_cannot_be_trusted() -> None:
    found = numbered()
    page = render_measurement(found).partition("<script")[0]
    tiles = page.partition("</dl>")[0]
    assert "<dd>class 7</dd>" in tiles
    assert f"judge unreliable: agrees with {100 * found.label_errors.agreement:.1f}\u00a0%" in tiles
    assert "judge that is unreliable" in format_measurement(found)
    rows = found.scores[0].classes
    chance, partial = chance_limit(rows), chance_limit(rows, held=1)
    assert chance < partial
    assert f"r beyond ±{chance:.2f}, and the partial r beyond ±{partial:.2f}" in page
    assert "Held fixed</th>" in page
    for section in ("labels", "duplicates"):
        assert "Split" not in page.partition(f'id="{section}"')[2].partition("</section>")[0]


def test_confidences_have_significant_digits(hostile: Measurement) -> None:
    suspect = replace(hostile.label_errors.suspects[0], confidence=3.14e-9)
    found = replace(hostile, label_errors=replace(hostile.label_errors, suspects=[suspect], agreement=0.9))
    assert "<td>3.1e-9</td>" in render_measurement(found)
    assert "3.1e-9" in format_measurement(found)


def test_a_pair_whose_other_class_was_not_tested_says_so() -> None:
    random = torch.Generator().manual_seed(0)
    labels, predictions = torch.arange(60) % 2, torch.arange(60) % 2
    predictions[:8:2] = 2
    x = torch.randn(60, 20, generator=random)
    found = measure(EmbeddingTable(x, labels, ("a", "b", "c"), predictions=predictions))
    page = render_measurement(found).partition('id="pairs"')[2]
    assert "A taken for B" in page
    assert "<td>4</td><td>–</td><td>≥ 6.7</td>" in page
    assert "≥ 6.7" in format_measurement(found)


def test_the_words_before_a_command_say_when_it_is_meant() -> None:
    x = torch.randn(100, 20, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0] * 80 + [1] * 10 + [2] * 10)
    found = measure(EmbeddingTable(x + 5 * torch.nn.functional.one_hot(labels, 20), labels, ("a", "b", "c")))
    assert found.step.key == "small"
    page = render_measurement(found).partition('id="next"')[2]
    assert "<p>Until then, a prior may help:</p><pre><code>bisector compare" in page
    assert "Until then, a prior may help:\n  bisector compare" in format_measurement(found)


def test_classes_never_trained_on_are_told_by_page_and_text(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(6).repeat_interleave(20)
    x = 3 * torch.randn(6, 20, generator=random)[labels] + torch.randn(120, 20, generator=random)
    found = measure(EmbeddingTable(x, labels, tuple("abcdef"), splits=["train"] * 60 + ["test"] * 60))
    verified = found.verification
    assert verified is not None
    page = render_measurement(found).partition("<script")[0]
    row = page.partition("At a FAR of 0.01</th>")[2].partition("</tr>")[0]
    assert f"<td>1</td><td>{100 * verified.tar[1e-2]:.1f}</td><td>{verified.thresholds[1e-2]:.3f}</td>" in row
    assert "<td>–</td>" in page.partition("At a FAR of 0.0001</th>")[2].partition("</tr>")[0]
    text = format_measurement(found)
    assert "570 genuine and 1,200 impostor pairs of 60 rows in 3 classes" in text
    assert f"EER {100 * verified.eer:.1f} %" in text
    write_measurement(found, tmp_path)
    stored = json.loads((tmp_path / "measure.json").read_text(encoding="utf-8"))["verification"]
    assert stored["eer"] == verified.eer


def test_without_predictions_the_page_says_less(hostile: Measurement) -> None:
    random = torch.Generator().manual_seed(0)
    table = EmbeddingTable(torch.randn(60, 20, generator=random), torch.arange(60) % 3, ("a", "b", "c"))
    found = measure(table)
    page = render_measurement(found).partition("<script")[0]
    assert "Balanced accuracy" not in page
    assert "Taken for each other" not in page
    assert "By the angle between the classes' mean directions." in page
    assert "No predictions" in page
    assert "Accuracy" not in format_measurement(found).splitlines()[1]


def test_what_was_tried_is_told_by_text_page_and_record(hostile: Measurement, tmp_path: Path) -> None:
    write_measurement(hostile, tmp_path)
    read = Measurement.read(tmp_path / "measure.json")
    assert read.trials is not None
    assert repr(read.trials) == repr(hostile.trials)
    (fitted,) = [trial for trial in read.trials.tried if trial.name == "fitted --cross-validate"]
    low, high = (f"{100 * end:+.1f}".replace("-", "−") for end in (fitted.gain.low, fitted.gain.high))
    for told in (format_measurement(read), (tmp_path / "measure.html").read_text(encoding="utf-8")):
        assert "Adjustments tried on 160 test rows, for want of validation rows" in told
        assert f"({low} to {high})" in told
        assert ("Leave the scores as they are" in told) == (read.trials.best is None)
        assert "none of the above" not in told.lower()


def test_the_text_names_the_hardest_class_and_the_next_step(hostile: Measurement) -> None:
    text = format_measurement(hostile)
    assert "Next: Take out the examples that are in more than one split" in text
    assert "3 rows of validation and test in an earlier split too" in text
    assert "Left out: <img src=x onerror=window.pwned=1>: cannot be read" in text
    worst = min(one.accuracy for one in hostile.classes)
    assert f"{100 * worst:.1f}" in text.split("Hardest classes")[1].splitlines()[2]
