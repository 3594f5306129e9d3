import pytest
import torch
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bisector.files import write_whole
from bisector.metrics.verification import verify
from bisector.report.names import shorten
from bisector.report.verification import render_verification_page

SECONDS = 60
HOSTILE = "</script><img src=x onerror=window.pwned=1>"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    labels = torch.arange(20).repeat_interleave(8)
    runs = {}
    for place, head in enumerate(
        ["normalized-softmax", "am-softmax", HOSTILE, *(f"igam:gain={k}" for k in range(9))]
    ):
        generator = torch.Generator().manual_seed(place)
        centers = torch.randn(20, 16, generator=generator)[labels]
        x = centers + (0.5 + 0.1 * place) * torch.randn(centers.shape, generator=generator)
        runs[head] = [verify(x, labels, thresholds={1e-2: 0.5})]
    path = tmp_path_factory.mktemp("page") / "verification.html"
    write_whole(path, render_verification_page(runs, title=HOSTILE, command=HOSTILE))
    return path


@pytest.mark.parametrize("width", [1200, 400])
def test_every_curve_is_drawn_nothing_sticks_out_and_no_name_becomes_code(browser, path, width):
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(path.as_uri())
    curves = "return document.querySelectorAll('#roc .scatterlayer .trace').length"
    WebDriverWait(browser, SECONDS).until(lambda driver: driver.execute_script(curves) == 12)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    legend = browser.find_elements(By.CSS_SELECTOR, "#roc .legendtext")
    assert len(legend) == 12
    assert shorten(HOSTILE, 40) == legend[2].get_attribute("textContent")
    first = browser.find_element(By.CSS_SELECTOR, "#summary th[data-first=ascending]:not([data-text]) button")
    first.click()
    column = browser.find_elements(By.CSS_SELECTOR, "#summary tbody tr td:nth-child(2)")
    rates = [float(cell.get_attribute("data-value")) for cell in column]
    assert rates == sorted(rates)
    assert browser.execute_script("return window.pwned") is None
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
