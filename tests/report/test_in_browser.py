"""Every page in a real browser: nothing is executed, cut or stuck out, and what is clicked does what it says."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bisector.data.tables import EmbeddingTable
from bisector.files import write_whole
from bisector.measurement.classes import ClassMeasure
from bisector.measurement.measure import measure
from bisector.measurement.score_measures import measure_scores
from bisector.metrics.summary import METRICS
from bisector.report.comparison import render_page
from bisector.report.detection import render_detection_page
from bisector.report.detection_matches import match_all
from bisector.report.measurement import render_measurement
from bisector.report.verification import render_verification_page
from bisector.report.words import shorten
from in_browser import SECONDS, complaints, cut_on_paper, show
from report_cases import HOSTILE, with_decisions

# Sections and figures.
EXPECTED = {"comparison": (9, 27), "detection": (5, 4), "measurement": (7, 2), "verification": (2, 1)}


@pytest.fixture(scope="session")
def pages(hostile, truth, runs, measured, verified, tmp_path_factory):
    # One head has no value in one column, for the sorting.
    gap = [
        replace(run, metrics=run.metrics | {"few": math.nan}) if run.head == hostile.heads[0] else run
        for run in hostile.runs
    ]
    many_heads = verified | {f"igam:gain={k}": verified["normalized-softmax"] for k in range(9)}
    texts = {
        "comparison": render_page(with_decisions(replace(hostile, runs=gap), hostile.heads[1])),
        "detection": render_detection_page(
            runs, truth, title=HOSTILE[0], command=HOSTILE[1], notes=[HOSTILE[1]]
        ),
        "measurement": render_measurement(measured),
        "verification": render_verification_page(many_heads, title=HOSTILE[1], command=HOSTILE[1]),
    }
    folder = tmp_path_factory.mktemp("pages")
    for name, text in texts.items():
        write_whole(folder / f"{name}.html", text)
    return folder


@pytest.fixture
def page(request, browser, pages):
    """One of the pages at 1,200 pixels, of which the browser complains of nothing."""
    show(browser, pages / f"{request.param}.html")
    yield browser
    assert complaints(browser) == []


def on(name):
    return pytest.mark.parametrize("page", [name], indirect=True)


def cells(driver, selector, attribute="data-value"):
    script = (
        "return [...document.querySelectorAll(arguments[0])].map(cell => cell.getAttribute(arguments[1]))"
    )
    return driver.execute_script(script, selector, attribute)


def texts(driver, selector):
    script = "return [...document.querySelectorAll(arguments[0])].map(cell => cell.textContent)"
    return driver.execute_script(script, selector)


def click(driver, element):
    driver.execute_script("arguments[0].querySelector('button').click()", element)


@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("name", EXPECTED)
def test_names_stay_text_nothing_sticks_out_and_nothing_is_cut_on_paper(browser, pages, name, width):
    show(browser, pages / f"{name}.html", width)
    browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert not browser.find_elements(By.CSS_SELECTOR, "main a, main b, td script, main img:not(.shot img)")
    assert HOSTILE[name == "verification"] in browser.find_element(By.TAG_NAME, "h1").text
    sections = browser.find_elements(By.TAG_NAME, "section")
    drawn = """
        return [...document.querySelectorAll('.plot')].map(plot => plot.querySelector(
          '.bars path, .hm image, .points path, .lines path') !== null);"""
    plots = browser.execute_script(drawn)
    assert (len(sections), len(plots)) == EXPECTED[name]
    assert all(plots)
    gaps = """
        const around = arguments[0].getBoundingClientRect();
        return [...arguments[0].children].filter(child => child.tagName !== "STYLE").flatMap(child => {
          const box = child.getBoundingClientRect();
          return [box.left - around.left, around.right - box.right, box.top - around.top,
                  around.bottom - box.bottom];
        });"""
    assert min(min(browser.execute_script(gaps, section)) for section in sections) >= 12
    assert cut_on_paper(browser) == []
    assert complaints(browser) == []


@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_in_any_light(browser, pages, width, scheme):
    show(browser, pages / "comparison.html", width, scheme)
    luminance = """
        const [r, g, b] = getComputedStyle(arguments[0])[arguments[1]].match(/[\\d.]+/g).map(c => {
          c /= 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
        });
        return .2126 * r + .7152 * g + .0722 * b;"""
    paper = browser.execute_script(luminance, browser.find_element(By.TAG_NAME, "body"), "backgroundColor")
    assert (paper > 0.5) == (scheme == "light")
    words = browser.find_elements(By.CSS_SELECTOR, "h1, .lead, td, .spread, code")[:20]
    inks = [browser.execute_script(luminance, text, "color") for text in words]
    ticks = browser.find_elements(By.CSS_SELECTOR, ".xtick text, .ytick text")[:20]
    inks += [browser.execute_script(luminance, text, "fill") for text in ticks]
    assert len(inks) == 40
    for ink in inks:
        # The contrast that the Web Content Accessibility Guidelines ask of text.
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5


@on("comparison")
def test_figures_follow_a_change_of_light(page):
    fill = "return getComputedStyle(document.querySelector('.xtick text')).fill"
    light = page.execute_script(fill)
    media = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    WebDriverWait(page, SECONDS).until(lambda driver: driver.execute_script(fill) != light)


@on("comparison")
def test_the_policy_stops_a_script_that_got_in_all_the_same(page):
    page.execute_script(
        "const intruder = document.createElement('script');"
        "intruder.textContent = 'window.pwned = 1';"
        "document.body.append(intruder);"
    )
    (refused,) = complaints(page)
    assert "Content Security Policy" in refused


@on("comparison")
def test_axes_show_names_and_hovering_shows_them_whole(page, hostile):
    shown = texts(page, "#train-counts .xtick text")
    assert sorted(shown) == sorted(shorten(name, 10) for name in hostile.class_names)
    point = "Plotly.Fx.hover('train-counts', [{curveNumber: 0, pointNumber: arguments[0]}]);"
    read = "return document.querySelector('#train-counts .hoverlayer').textContent"
    for position, count in enumerate(sorted(hostile.train_counts, reverse=True)):
        name = hostile.class_names[hostile.train_counts.index(count)]
        page.execute_script(point, position)
        told = f"{shorten(name, 60)}: {count}"
        WebDriverWait(page, SECONDS).until(lambda driver, told=told: driver.execute_script(read) == told)


@on("comparison")
def test_a_click_sorts_the_better_end_first_and_another_turns_it_round(page):
    headers = page.find_elements(By.CSS_SELECTOR, "#summary thead th")
    for key in ("balanced_accuracy", "bias", "few", "r_amount_accuracy"):
        column = 1 + [info.key for info in METRICS].index(key)
        lower = METRICS[column - 1].better == "lower"
        selector = f"#summary tbody td:nth-child({column + 1})"
        before = cells(page, selector)
        values = sorted(float(value) for value in before if value)
        for turn, ascending in enumerate([lower, not lower, lower]):
            click(page, headers[column])
            after = cells(page, selector)
            assert after[len(values) :] == [""] * before.count(""), turn
            assert [float(value) for value in after if value] == (values if ascending else values[::-1])
            order = "ascending" if ascending else "descending"
            assert headers[column].get_attribute("aria-sort") == order
        assert len(page.find_elements(By.CSS_SELECTOR, "th[aria-sort]")) == 1
    names = cells(page, "#summary tbody th")
    click(page, headers[0])
    compare = "return arguments[0].sort((a, b) => a.localeCompare(b))"
    assert cells(page, "#summary tbody th") == page.execute_script(compare, names)


@on("verification")
def test_every_curve_is_drawn_and_named(page):
    assert len(page.find_elements(By.CSS_SELECTOR, "#roc .scatterlayer .trace")) == 12
    legend = texts(page, "#roc .legendtext")
    assert len(legend) == 12
    assert legend[2] == shorten(HOSTILE[1], 40)


# A detector's page


@pytest.mark.parametrize("width", [1200, 400])
def test_boxes_lie_where_they_belong(browser, pages, truth, width):
    show(browser, pages / "detection.html", width)
    places = """
        return [...document.querySelectorAll('.shot')].map(shot => {
          const image = shot.querySelector('img').getBoundingClientRect();
          const rects = [...shot.querySelectorAll('.truth rect:first-child')].map(rect => {
            const box = rect.getBBox();
            return [box.x / image.width, box.y / image.height, (box.x + box.width) / image.width,
                    (box.y + box.height) / image.height];
          });
          const name = shot.parentElement.querySelector('.note').textContent.split('.')[0];
          return [Number(name), image.width / image.height, rects];
        });"""
    found = browser.execute_script(places)
    assert len(found) == 12
    for i, ratio, rects in found:
        picture = truth.pictures[i]
        assert ratio == pytest.approx(picture.width / picture.height, rel=0.02)
        wanted = (picture.boxes / torch.tensor([picture.width, picture.height] * 2)).reshape(-1)
        assert torch.tensor(rects).reshape(-1).tolist() == pytest.approx(wanted.tolist(), abs=2e-3)


@on("detection")
def test_buttons_choose_the_head_and_the_score(page, truth, runs):
    visible = """
        return [...document.querySelectorAll('.shot svg .' + arguments[0] + ' > g.d')].filter(
          group => getComputedStyle(group).display !== 'none' && group.getClientRects().length).length;"""
    told = (
        "return [...document.querySelectorAll('.tally')].filter(x => x.offsetParent).map(x => x.textContent)"
    )
    named = """
        return [...document.querySelectorAll('.shot svg')].map(svg => [...svg.querySelectorAll('.missed')].filter(
          text => text.getClientRects().length).length);"""
    drawn = [int(text.split(".")[0]) for text in texts(page, ".drawings .note")]
    for k, one in enumerate(runs[:3]):
        page.execute_script(f"document.getElementById('show-r{k}').click()")
        matches = match_all(truth, one.detections)
        for j, level in enumerate((0.1, 0.3, 0.5, 0.7)):
            page.execute_script(f"document.getElementById('show-l{j}').click()")
            wanted = sum(int((one.detections[i].scores >= level).sum()) for i in drawn)
            shown = [page.execute_script(visible, f"r{m}") for m in range(3)]
            assert shown == [wanted if m == k else 0 for m in range(3)]
            tallies, names = page.execute_script(told), page.execute_script(named)
            for i, tally, written in zip(drawn, tallies, names, strict=True):
                missed, objects = len(matches[i].missed(level)), len(truth.pictures[i].labels)
                assert tally.startswith(f"{objects - missed} of {objects} found")
                # Where names would lie on each other, one is written.
                assert min(missed, 1) <= written <= missed
    page.execute_script("document.getElementById('show-none').click()")
    assert [page.execute_script(visible, f"r{m}") for m in range(3)] == [0, 0, 0]
    assert page.execute_script(told) == []


@on("detection")
def test_labels_of_a_head_do_not_cover_each_other_much(page):
    page.execute_script("document.getElementById('show-l0').click()")
    covered = """
        const worst = [];
        for (const shot of document.querySelectorAll('.shot')) {
          const boxes = [...shot.querySelectorAll('svg .r0 text.d')].map(x => x.getBoundingClientRect());
          boxes.forEach((a, i) => boxes.slice(i + 1).forEach(b => {
            const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
            const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            worst.push(Math.max(wide, 0) * Math.max(high, 0) / Math.min(a.width * a.height, b.width * b.height));
          }));
        }
        return worst;"""
    shares = page.execute_script(covered)
    assert len(shares) > 10
    assert max(shares) < 0.5


@on("detection")
def test_classes_sort_by_their_ap_and_show_their_names_as_they_are(page):
    table = "section[aria-labelledby=classes]"
    assert sorted(texts(page, f"{table} tbody th")) == sorted(HOSTILE[:6])
    (column,) = (k for k, text in enumerate(texts(page, f"{table} thead th")) if text.startswith("IGAM"))
    click(page, page.find_elements(By.CSS_SELECTOR, f"{table} thead th")[column])
    values = cells(page, f"{table} tbody td:nth-child({column + 1})")
    known = [float(value) for value in values if value]
    assert known == sorted(known)
    assert values[len(known) :] == [""] * (6 - len(known))


# A measurement's page


@on("measurement")
def test_a_click_sorts_the_classes(page, measured):
    assert sorted(texts(page, "[aria-label=Classes] th[scope=row][data-value]")) == sorted(
        one.name for one in measured.classes
    )
    click(page, page.find_elements(By.CSS_SELECTOR, "[aria-label=Classes] th[data-first]")[2])
    amounts = [float(value) for value in cells(page, "[aria-label=Classes] td:nth-child(3)")]
    assert amounts == sorted((one.amount for one in measured.classes), reverse=True)


def test_at_400_pixels_lines_go_through_names_are_readable_and_the_accuracy_is_in_sight(browser, pages):
    show(browser, pages / "measurement.html", 400)
    box = "return [...document.querySelectorAll(arguments[0])].map(one => one.getBoundingClientRect())"
    assert max(plot["right"] for plot in browser.execute_script(box, ".plot svg")) <= 400
    widths = (
        "return [...document.querySelectorAll('th[scope=row][data-value]')].map(cell => cell.clientWidth)"
    )
    assert min(browser.execute_script(widths)) >= 100
    # Where a row begins at a fraction of a pixel, the cell that stays covers the line of the one above.
    heights = [cell["height"] for cell in browser.execute_script(box, "[data-value]")]
    assert heights == [round(height) for height in heights]
    headers = browser.find_elements(By.CSS_SELECTOR, "[aria-label=Classes] th[data-first]")
    (accuracy,) = [cell for cell in headers if "Accuracy" in cell.text]
    assert accuracy.rect["x"] + accuracy.rect["width"] <= 400


def test_names_that_are_numbers_are_sorted_as_numbers_and_the_order_is_shown(browser, tmp_path):
    labels = torch.arange(12).repeat_interleave(30)
    predictions = labels.clone()
    for c in (7, 10):
        predictions[(labels == c).nonzero().flatten()[:20]] = 0
    x = torch.randn(len(labels), 20, generator=torch.Generator().manual_seed(0))
    names = tuple(str(c) for c in range(12))
    found = measure(EmbeddingTable(x, labels, names, predictions=predictions))
    write_whole(tmp_path / "page.html", render_measurement(found))
    show(browser, tmp_path / "page.html")
    headers = browser.find_elements(By.CSS_SELECTOR, "[aria-label=Classes] th[data-first]")
    mark = "return getComputedStyle(arguments[0].querySelector('button'), '::after').content"
    marks = [browser.execute_script(mark, header) for header in headers]
    sorted_by = [
        text.startswith("Accuracy, %") for text in texts(browser, "[aria-label=Classes] th[data-first]")
    ]
    assert sum(sorted_by) == 1
    assert [header.get_attribute("aria-sort") == "ascending" for header in headers] == sorted_by
    assert ["▴" in mark for mark in marks] == sorted_by
    assert ["↕" in mark for mark in marks] == [not one for one in sorted_by]
    assert set(texts(browser, "[aria-label=Classes] th[scope=row][data-value]")[:2]) == {"7", "10"}
    click(browser, headers[0])
    assert texts(browser, "[aria-label=Classes] th[scope=row][data-value]") == list(names)
    assert "▴" in browser.execute_script(mark, headers[0])


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 400])
def test_a_page_of_1203_classes_can_be_used(browser, measured, tmp_path, width):
    rng = np.random.default_rng(0)
    classes = [
        ClassMeasure(
            f"a class that has a name {c}",
            int(np.exp(rng.normal(3.3, 1.5))) + 1,
            20,
            rng.normal(40, 9),
            rng.integers(21) / 20,
            0.4,
        )
        for c in range(1203)
    ]
    scores = measure_scores(classes, dimensions=256, tested_on="all rows", resamples=200)
    write_whole(tmp_path / "page.html", render_measurement(replace(measured, classes=classes, scores=scores)))
    show(browser, tmp_path / "page.html", width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert len(cells(browser, "[aria-label=Classes] th[scope=row][data-value]")) == 1203
    box = browser.find_element(By.CSS_SELECTOR, "[aria-label=Classes]")
    assert box.size["height"] < 900  # the rest of the page is not thousands of pixels away
    browser.execute_script("arguments[0].scrollTop = 20000; arguments[0].scrollIntoView()", box)
    head = browser.find_elements(By.CSS_SELECTOR, "[aria-label=Classes] th[data-first]")[2]
    top = "return arguments[0].getBoundingClientRect().top"
    assert browser.execute_script(top, head) == pytest.approx(browser.execute_script(top, box), abs=2)
    click(browser, head)
    first = cells(browser, "[aria-label=Classes] td:nth-child(3)")[0]
    assert float(first) == max(one.amount for one in classes)
    assert complaints(browser) == []
