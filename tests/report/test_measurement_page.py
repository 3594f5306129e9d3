import shutil
from pathlib import Path

import pytest
import torch
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bisector.data.embeddings import EmbeddingTable
from bisector.measurement.measure import measure
from bisector.measurement.measurement import Measurement
from bisector.report.measurement_files import write_measurement
from bisector.report.measurement_page import render_measurement
from bisector.report.measurement_text import format_measurement

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
    x[200], x[17] = x[0], x[16]
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


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    if shutil.which("chromedriver") is None:
        pytest.skip("there is no chromedriver")
    options = webdriver.ChromeOptions()
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=shutil.which("chromedriver")))
    driver.set_page_load_timeout(SECONDS)
    yield driver
    driver.quit()


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


def test_without_predictions_the_page_says_less(hostile: Measurement) -> None:
    random = torch.Generator().manual_seed(0)
    table = EmbeddingTable(torch.randn(60, 20, generator=random), torch.arange(60) % 3, ("a", "b", "c"))
    found = measure(table)
    page = render_measurement(found).partition("<script")[0]
    assert "Balanced accuracy" not in page
    assert "Taken for each other" not in page
    assert "Nearest mean directions" in page
    assert "No predictions" in page
    assert "Accuracy" not in format_measurement(found).splitlines()[1]


def test_the_text_names_the_hardest_class_and_the_next_step(hostile: Measurement) -> None:
    text = format_measurement(hostile)
    assert "Next: Take out the examples that are in more than one split" in text
    assert "1 row of validation and test in an earlier split too" in text
    assert "Left out: <img src=x onerror=window.pwned=1>: cannot be read" in text
    worst = min(one.accuracy for one in hostile.classes)
    assert f"{100 * worst:.1f}" in text.split("Hardest classes")[1].splitlines()[2]
