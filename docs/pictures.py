"""Take the documentation's pictures from the demo's page: `make pictures`.

Needs Chromium and its driver, and runs/demo/report.html as `make demo` leaves it.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PAGE = Path("runs/demo/report.html")
PICTURES = {"planes": "demo-planes.png"}  # section of the page, file


def main() -> int:
    """Write the pictures to docs/images."""
    driver = shutil.which("chromedriver")
    if driver is None or not PAGE.exists():
        print(f"pictures: needs chromedriver and {PAGE} (make demo)", file=sys.stderr)
        return 2
    options = webdriver.ChromeOptions()
    with tempfile.TemporaryDirectory() as profile:
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"):
            options.add_argument(argument)
        browser = webdriver.Chrome(options=options, service=Service(driver))
        try:
            browser.set_window_size(1000, 4000)
            browser.get(PAGE.resolve().as_uri())
            for section, name in PICTURES.items():
                found = browser.find_element(By.CSS_SELECTOR, f"section[aria-labelledby={section}]")
                browser.execute_script("arguments[0].scrollIntoView()", found)
                WebDriverWait(browser, 60).until(
                    lambda _, found=found: all(
                        plot.find_elements(By.CSS_SELECTOR, ".main-svg")
                        for plot in found.find_elements(By.CSS_SELECTOR, ".plot")
                    )
                )
                found.screenshot(str(Path("docs/images") / name))
        finally:
            browser.quit()
    return 0


if __name__ == "__main__":
    sys.exit(main())
