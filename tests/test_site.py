import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_site_builds_strictly_and_fetches_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe|source)[^>]* src=\"?([^\" >]+)", text)
        fetched += re.findall(
            r"<link[^>]* rel=\"?(?:stylesheet|preload|icon|preconnect)[^>]* href=\"?([^\" >]+)", text
        )
        assert not [address for address in fetched if address.startswith(("http", "//"))], page.name
        # For drawings of these the theme fetches a script from elsewhere; without it they stand there as text.
        assert not re.search(r'class="(language-)?mermaid', text)
        assert ".. math::" not in text
        assert "&gt;&gt;&gt;</code>" not in text


PACKAGES = ["bisector", *(f"bisector.{room}" for room in ("posthoc", "detection", "training", "information"))]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_every_public_name(package: str) -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    named = set(re.findall(r"^::: ([\w.]+)$", pages, flags=re.MULTILINE))
    public = importlib.import_module(package).__all__
    assert {f"{package}.{name}" for name in public if name != "__version__"} <= named
