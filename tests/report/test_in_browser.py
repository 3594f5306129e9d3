"""Every page in a real browser: nothing is executed, cut or stuck out, and what is clicked does what it says."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
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
from bisector.report.measurement_pictures import Album, Pictures, Thumbnail
from bisector.report.verification import render_verification_page
from bisector.report.words import shorten
from in_browser import SECONDS, complaints, cut_on_paper, draw_all, open_page, show
from report_cases import HOSTILE, with_decisions

# Sections and figures.
EXPECTED = {"comparison": (10, 27), "detection": (5, 4), "measurement": (8, 2), "verification": (2, 1)}


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


def test_differences_that_are_all_0_are_drawn_within_their_figure(browser, comparison, tmp_path):
    one = replace(comparison.runs[0], seed=0)
    runs = [replace(one, head=head, seed=seed) for head in ("linear-softmax", "igam") for seed in (0, 1, 2)]
    page = render_page(replace(comparison, runs=runs, planes=[]))
    write_whole(tmp_path / "page.html", page)
    show(browser, tmp_path / "page.html")
    ranges = (
        "return [...document.querySelectorAll('[id^=difference-]')].map(one => one._fullLayout.xaxis.range)"
    )
    found = browser.execute_script(ranges)
    assert found
    assert all(low < 0 < high for low, high in found)


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
    assert sorted(cells(page, f"{table} tbody th")) == sorted(HOSTILE[:6])  # what is shown may be shorter
    (column,) = (k for k, text in enumerate(texts(page, f"{table} thead th")) if text.startswith("IGAM"))
    click(page, page.find_elements(By.CSS_SELECTOR, f"{table} thead th")[column])
    values = cells(page, f"{table} tbody td:nth-child({column + 1})")
    known = [float(value) for value in values if value]
    assert known == sorted(known)
    assert values[len(known) :] == [""] * (6 - len(known))


# A measurement's page


def column_of(driver, heading):
    """The number and the heading of a column of the classes, from 1 on."""
    headers = driver.find_elements(By.CSS_SELECTOR, "[aria-label=Classes] th[data-first]")
    named = [text.startswith(heading) for text in texts(driver, "[aria-label=Classes] th[data-first]")]
    return named.index(True) + 1, headers[named.index(True)]


def names_shown(driver):
    return texts(driver, "[aria-label=Classes] th[scope=row][data-value]")


@on("measurement")
def test_a_click_sorts_the_classes(page, measured):
    label = "[aria-label=Classes] th[scope=row][data-value]"
    assert sorted(cells(page, label)) == sorted(one.name for one in measured.classes)
    assert sorted(cells(page, f"{label}[title]", "title")) == sorted(HOSTILE[k] for k in (4, 8))
    column, header = column_of(page, "Amount, bits")
    click(page, header)
    amounts = [float(value) for value in cells(page, f"[aria-label=Classes] td:nth-child({column})")]
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
    nothing: dict = {"confused": [], "nearest": [], "angles": [], "squared_distances": []}
    found = replace(measured, classes=classes, scores=scores, **nothing)
    write_whole(tmp_path / "page.html", render_measurement(found))
    show(browser, tmp_path / "page.html", width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert len(names_shown(browser)) == 100  # the others become elements when somebody scrolls to them
    box = browser.find_element(By.CSS_SELECTOR, "[aria-label=Classes]")
    assert box.size["height"] < 900  # the rest of the page is not thousands of pixels away
    for _ in range(20):
        browser.execute_script("arguments[0].scrollTop = 1e6; arguments[0].scrollIntoView()", box)
        browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    assert sorted(names_shown(browser)) == sorted(one.name for one in classes)
    assert browser.execute_script("return arguments[0].querySelector('table').ariaRowCount", box) == "1204"
    browser.find_element(By.CSS_SELECTOR, ".columns").click()
    column, head = column_of(browser, "Amount, bits")
    top = "return arguments[0].getBoundingClientRect().top"
    assert browser.execute_script(top, head) == pytest.approx(browser.execute_script(top, box), abs=2)
    click(browser, head)
    first = cells(browser, f"[aria-label=Classes] td:nth-child({column})")[0]
    assert float(first) == max(one.amount for one in classes)
    assert complaints(browser) == []
    search = browser.find_element(By.CSS_SELECTOR, "[type=search]")
    search.send_keys("NAME 120")
    assert set(names_shown(browser)) == {f"a class that has a name {c}" for c in (120, 1200, 1201, 1202)}
    assert texts(browser, ".tools output")[0] == "4 of 1,203 rows"
    search.send_keys(Keys.CONTROL, "a", Keys.NULL, Keys.BACKSPACE)
    assert cut_on_paper(browser) == []
    assert len(names_shown(browser)) == 100


MANY = [
    *HOSTILE,
    "عربى \u202e right to left",
    "x" * 299 + "1",
    "x" * 299 + "2",
    *(f"ordinary {k}" for k in range(110)),
]


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """A page of more classes than are elements of it, whose names try to become code, with pictures."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(len(MANY)).repeat_interleave(8)
    predictions = torch.where(
        torch.rand(len(labels), generator=random) < 0.7, labels, (labels + 1) % len(MANY)
    )
    x = torch.randn(len(MANY), 12, generator=random)[labels] + torch.randn(len(labels), 12, generator=random)
    found = measure(EmbeddingTable(x, labels, tuple(MANY), predictions=predictions))
    dot = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    album = Album(HOSTILE[1], [Thumbnail(dot, name, name, name) for name in MANY[:13]])
    path = tmp_path_factory.mktemp("many") / "page.html"
    write_whole(path, render_measurement(found, Pictures([album], HOSTILE[0])))
    return path


@pytest.mark.parametrize("width", [1200, 400])
def test_names_of_many_classes_stay_text_and_are_found_again(browser, many, width):
    path = many
    show(browser, path, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert cells(browser, ".album img", "alt") == MANY[:13]
    assert browser.find_elements(By.CSS_SELECTOR, "#confusion .hm image")
    search = browser.find_element(By.CSS_SELECTOR, "[type=search]")
    label = "[aria-label=Classes] th[scope=row][data-value]"
    for name in MANY[:13]:
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
        browser.execute_script(script, search, " ".join(name.split()))
        shown = cells(browser, label)
        assert name in shown
        assert len(set(names_shown(browser))) == len(shown)  # what is shortened is told apart
    click(browser, column_of(browser, "Class")[1])
    browser.execute_script("arguments[0].value = ''; arguments[0].dispatchEvent(new Event('input'))", search)
    assert texts(browser, ".tools output")[0] == f"{len(MANY)} rows"
    assert cut_on_paper(browser) == []
    assert complaints(browser) == []


def test_the_keyboard_alone_sorts_searches_and_asks_for_columns(browser, many):
    path = many
    show(browser, path)
    search = browser.find_element(By.CSS_SELECTOR, "[type=search]")
    search.send_keys("ORDINARY 10", Keys.TAB, Keys.SPACE)
    assert sorted(names_shown(browser)) == sorted(f"ordinary {k}" for k in (10, *range(100, 110)))
    column, amount = column_of(browser, "Amount, bits")
    assert amount.is_displayed()
    browser.execute_script("arguments[0].querySelector('button').focus()", amount)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert amount.get_attribute("aria-sort") == "descending"
    values = [float(value) for value in cells(browser, f"[aria-label=Classes] td:nth-child({column})")]
    assert values == sorted(values, reverse=True)
    assert len(values) == 11
    assert complaints(browser) == []


def test_tables_answer_before_any_figure_is_drawn_and_figures_move_nothing(browser, many):
    open_page(browser, many)
    browser.find_element(By.CSS_SELECTOR, "[type=search]").send_keys("ORDINARY 10")
    click(browser, column_of(browser, "Class")[1])
    assert names_shown(browser) == [f"ordinary {k}" for k in (10, *range(100, 110))]
    assert browser.execute_script("return typeof Plotly") == "undefined"
    places = """
        return [...document.querySelectorAll("section, .plot")].map(one => {
          const box = one.getBoundingClientRect();
          return [box.top + scrollY, box.height];
        });"""
    kept = browser.execute_script(places)
    draw_all(browser)
    assert browser.execute_script(places) == kept
    assert complaints(browser) == []


def test_a_page_that_is_printed_at_once_has_its_figures(browser, many):
    open_page(browser, many)
    assert browser.execute_script("return typeof Plotly") == "undefined"
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    plots = browser.find_elements(By.CSS_SELECTOR, ".plot")
    assert plots
    assert all(plot.find_elements(By.CSS_SELECTOR, "svg.main-svg") for plot in plots)
    assert complaints(browser) == []


def test_any_two_classes_are_told_as_they_were_measured(browser, pages, measured):
    show(browser, pages / "measurement.html")
    place = {one.name: c for c, one in enumerate(measured.classes)}
    write = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
    fields = browser.find_elements(By.CSS_SELECTOR, ".two input")
    one, other = (measured.classes[c] for c in (1, 4))
    for field, each in zip(fields, (one, other), strict=True):
        browser.execute_script(write, field, each.name)
    told = [texts(browser, f".two tbody tr:nth-child({k}) td") for k in range(1, 8)]
    assert told[0] == [str(one.count), str(other.count)]
    assert [float(text) for text in told[1]] == pytest.approx([one.amount, other.amount], abs=0.05)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert all(
        field.is_displayed() for field in fields
    )  # else nobody could tell of which classes the paper is
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert told[4] == [
        str(measured.mistakes.get(a.name, {}).get(b.name, 0)) for a, b in ((one, other), (other, one))
    ]
    between = [
        matrix[place[one.name]][place[other.name]] for matrix in (measured.angles, measured.squared_distances)
    ]
    assert [float(told[k][0].replace("−", "-")) for k in (5, 6)] == pytest.approx(between, abs=0.06)
    browser.execute_script(write, fields[0], "nobody")
    assert fields[0].get_attribute("aria-invalid") == "true"
    assert texts(browser, ".two tbody tr:nth-child(5) td") == ["–", "–"]
    assert complaints(browser) == []
