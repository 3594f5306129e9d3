"""A page as a browser shows it, and as a printer gets it."""

from pathlib import Path

from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 60  # enough for a busy machine; a page that is ready does not wait


def show(driver: webdriver.Chrome, path: Path, width: int = 1200, scheme: str = "light") -> None:
    """Open a page and wait until every figure is drawn."""
    open_page(driver, path, width, scheme)
    draw_all(driver)


def open_page(driver: webdriver.Chrome, path: Path, width: int = 1200, scheme: str = "light") -> None:
    """Open a page, at its top, where figures further down are not drawn yet."""
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.get(path.as_uri())


def draw_all(driver: webdriver.Chrome) -> None:
    """Go to one figure after another until every one is drawn."""
    drawn = """
        const next = [...document.querySelectorAll(".plot")].find(plot => !plot.querySelector("svg.main-svg"));
        (next ?? document.body).scrollIntoView();
        return next === undefined;"""
    WebDriverWait(driver, SECONDS, poll_frequency=0.05).until(lambda driver: driver.execute_script(drawn))


def complaints(driver: webdriver.Chrome) -> list[str]:
    """What the browser complained of, and whether a name became code."""
    executed = ["a name was executed"] if driver.execute_script("return window.pwned") is not None else []
    return executed + [one["message"] for one in driver.get_log("browser") if one["level"] == "SEVERE"]


def cut_on_paper(driver: webdriver.Chrome) -> list[str]:
    """What would be cut where the open page is printed on A4: cells, figures and drawings that end outside."""
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    screen = {"width": 703, "height": 1032, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        cut: list[str] = driver.execute_script("""
            const cut = (what, right) => what.getBoundingClientRect().right > right + 1;
            const found = [...document.querySelectorAll("th, td, figure, pre, h1, p, dl")]
              .filter(what => cut(what, 703)).map(what => what.outerHTML.slice(0, 80));
            for (const plot of document.querySelectorAll(".plot"))
              for (const drawn of plot.querySelectorAll("svg.main-svg"))
                if (cut(drawn, plot.getBoundingClientRect().right)) found.push("#" + plot.id);
            for (const box of document.querySelectorAll(".scroll, .plot"))
              if (box.scrollHeight > box.clientHeight + 1) found.push("hidden in " + box.outerHTML.slice(0, 80));
            return found;""")
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        driver.execute_script("dispatchEvent(new Event('afterprint'))")
    return cut
