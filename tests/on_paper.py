"""A page as a printer gets it."""

from selenium import webdriver


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
