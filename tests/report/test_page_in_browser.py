import math
from dataclasses import replace

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bisector.files import write_whole
from bisector.metrics.summary import METRICS
from bisector.report.comparison import render_page
from bisector.report.names import shorten
from on_paper import cut_on_paper

SECONDS = 60  # enough for a busy machine; a page that is ready does not wait


@pytest.fixture(scope="module")
def path(hostile, tmp_path_factory):
    # One head has no value in one column, for the sorting.
    last = hostile.heads[0]
    runs = [
        replace(run, metrics=run.metrics | {"few": math.nan}) if run.head == last else run
        for run in hostile.runs
    ]
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_whole(path, render_page(replace(hostile, runs=runs)))
    return path


@pytest.fixture
def page(browser, path):
    show(browser, path, 1200, "light")
    yield browser
    assert browser.execute_script("return window.pwned") is None
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def show(browser, path, width, scheme):
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(path.as_uri())
    drawn = "return [...document.querySelectorAll('.plot')].every(plot => plot.querySelector('svg.main-svg'))"
    WebDriverWait(browser, SECONDS).until(lambda driver: driver.execute_script(drawn))


def test_every_figure_is_drawn(page):
    places = page.find_elements(By.CSS_SELECTOR, ".plot")
    assert len(places) == 2 + 3 + 8 + 3 + 2 + 4  # the baseline has no value in one of the four differences
    for place in places:
        assert "js-plotly-plot" in place.get_attribute("class").split()
        assert place.find_elements(By.CSS_SELECTOR, "svg.main-svg")
        assert place.find_elements(By.CSS_SELECTOR, ".bars path, .hm image, .points path, .lines path")


def test_names_are_shown_as_they_are(page, hostile):
    script = (
        "return [...document.querySelectorAll('#train-counts .xtick text')].map(text => text.textContent)"
    )
    shown = page.execute_script(script)
    assert sorted(shown) == sorted(shorten(name, 10) for name in hostile.class_names)
    assert hostile.data in page.find_element(By.TAG_NAME, "h1").text
    assert hostile.command in page.find_element(By.TAG_NAME, "pre").text


def test_hovering_shows_the_whole_name_as_it_is(page, hostile):
    point = "Plotly.Fx.hover('train-counts', [{curveNumber: 0, pointNumber: arguments[0]}]);"
    read = "return document.querySelector('#train-counts .hoverlayer').textContent"
    counts = sorted(hostile.train_counts, reverse=True)
    for position, count in enumerate(counts):
        name = hostile.class_names[hostile.train_counts.index(count)]
        page.execute_script(point, position)
        WebDriverWait(page, SECONDS).until(
            lambda driver, name=name, count=count: (
                driver.execute_script(read) == f"{shorten(name, 60)}: {count}"
            )
        )


def first_cells(page, column):
    rows = "[...document.querySelectorAll('#summary tbody tr')]"
    return page.execute_script(f"return {rows}.map(row => row.cells[arguments[0]].dataset.value)", column)


@pytest.mark.parametrize("key", ["balanced_accuracy", "bias", "few", "r_amount_accuracy"])
def test_a_click_sorts_the_better_end_first_and_another_turns_it_round(page, key):
    column = 1 + [info.key for info in METRICS].index(key)
    lower = METRICS[column - 1].better == "lower"
    header = page.find_elements(By.CSS_SELECTOR, "#summary thead th")[column]
    before = first_cells(page, column)
    values = sorted(float(value) for value in before if value)
    for turn, ascending in enumerate([lower, not lower, lower]):
        page.execute_script("arguments[0].querySelector('button').click()", header)
        after = first_cells(page, column)
        gaps = [""] * before.count("")
        assert after[len(values) :] == gaps, turn
        assert [float(value) for value in after if value] == (values if ascending else values[::-1])
        assert header.get_attribute("aria-sort") == ("ascending" if ascending else "descending")
    assert len(page.find_elements(By.CSS_SELECTOR, "th[aria-sort]")) == 1


def test_heads_sort_by_name(page):
    header = page.find_element(By.CSS_SELECTOR, "#summary thead th")
    names = first_cells(page, 0)
    page.execute_script("arguments[0].querySelector('button').click()", header)
    compare = "return arguments[0].sort((a, b) => a.localeCompare(b))"
    assert first_cells(page, 0) == page.execute_script(compare, names)


@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_in_any_light(page, path, width, scheme):
    show(page, path, width, scheme)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    luminance = """
        const [r, g, b] = getComputedStyle(arguments[0])[arguments[1]].match(/[\\d.]+/g).map(c => {
          c /= 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
        });
        return .2126 * r + .7152 * g + .0722 * b;"""
    paper = page.execute_script(luminance, page.find_element(By.TAG_NAME, "body"), "backgroundColor")
    assert (paper > 0.5) == (scheme == "light")
    texts = page.find_elements(By.CSS_SELECTOR, "h1, .lead, td, .spread, code")[:20]
    inks = [page.execute_script(luminance, text, "color") for text in texts]
    ticks = page.find_elements(By.CSS_SELECTOR, ".xtick text, .ytick text")[:20]
    inks += [page.execute_script(luminance, text, "fill") for text in ticks]
    assert len(inks) == 40
    for ink in inks:
        # The contrast that the Web Content Accessibility Guidelines ask of text.
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5


@pytest.mark.parametrize("width", [1200, 400])
def test_nothing_is_cut_on_paper(page, path, width):
    show(page, path, width, "dark")
    assert cut_on_paper(page) == []


def test_sections_have_air_around_their_content(page):
    sections = page.find_elements(By.TAG_NAME, "section")
    assert len(sections) == 8
    gaps = """
        const around = arguments[0].getBoundingClientRect();
        return [...arguments[0].children].flatMap(child => {
          const box = child.getBoundingClientRect();
          return [box.left - around.left, around.right - box.right, box.top - around.top,
                  around.bottom - box.bottom];
        });"""
    for section in sections:
        assert min(page.execute_script(gaps, section)) >= 12


def test_figures_follow_a_change_of_light(page):
    fill = "return getComputedStyle(document.querySelector('.xtick text')).fill"
    light = page.execute_script(fill)
    media = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    WebDriverWait(page, SECONDS).until(lambda driver: driver.execute_script(fill) != light)


def test_the_policy_stops_a_script_that_got_in_all_the_same(page):
    page.execute_script(
        "const intruder = document.createElement('script');"
        "intruder.textContent = 'window.pwned = 1';"
        "document.body.append(intruder);"
    )
    refused = [entry["message"] for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    assert len(refused) == 1
    assert "Content Security Policy" in refused[0]
