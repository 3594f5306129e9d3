import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from bisector.data.boxes import BoxSet
from bisector.data.tables import EmbeddingTable
from bisector.detection.evaluation import classify_boxes
from bisector.measurement.measure import measure
from bisector.measurement.measurement import Measurement
from bisector.metrics.verification import Verification
from bisector.report.detection_run import DetectionRun
from bisector.training.results import Comparison
from report_cases import HOSTILE, Composed, make_comparison, make_detection, make_truth, make_verification


@pytest.fixture(scope="session")
def build() -> Callable[..., Comparison]:
    return make_comparison


@pytest.fixture(scope="session")
def comparison() -> Comparison:
    return make_comparison()


@pytest.fixture(scope="session")
def hostile() -> Comparison:
    """Every text that comes from outside tries to become code."""
    comparison = make_comparison(HOSTILE, reshuffled=False)
    renamed = {"c2am": HOSTILE[0], "am-softmax": HOSTILE[1]}
    return replace(
        comparison,
        command=f"bisector compare --data {HOSTILE[1]}",
        data=HOSTILE[0],
        version=HOSTILE[1],
        recipe={HOSTILE[0]: HOSTILE[1]},
        left_out=[HOSTILE[0]],
        baseline=HOSTILE[1],
        runs=[replace(run, head=renamed.get(run.head, run.head)) for run in comparison.runs],
        planes=[replace(plane, head=renamed.get(plane.head, plane.head)) for plane in comparison.planes],
    )


@pytest.fixture(scope="session")
def verified() -> dict[str, list[Verification]]:
    noise = {"normalized-softmax": 1.2, "am-softmax:margin=0.2": 0.9, HOSTILE[1]: 1.5}
    return {head: [make_verification(seed, n) for seed in range(3)] for head, n in noise.items()}


@pytest.fixture(scope="session")
def truth(tmp_path_factory) -> BoxSet:
    return make_truth(tmp_path_factory.mktemp("shapes"), kind=Composed)


@pytest.fixture(scope="session")
def runs(truth) -> list[DetectionRun]:
    """Two seeds of three heads, the first seed of all first."""
    given = classify_boxes(torch.eye(6)[[0, 1, 2, 2]], torch.tensor([1, 2, 3, 4]))
    heads = [("linear-softmax", 0.4), (HOSTILE[0], 0.6), ("igam", 0.9)]
    return [make_detection(truth, name, skill, s, classified=given) for s in (0, 1) for name, skill in heads]


@pytest.fixture(scope="session")
def measured() -> Measurement:
    """Every text that comes from outside tries to become code, and every section has something to show."""
    names = tuple(HOSTILE[k] for k in (0, 1, 2, 3, 4, 5, 6, 8))
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
        names,
        predictions=scores.argmax(dim=1),
        losses=torch.rand(320, generator=random),
        scores=scores,
        names=[f"images/{names[row % 8]}/{row}.jpg" for row in range(320)],
        splits=["train"] * 160 + ["test"] * 160,
        left_out=(f"{HOSTILE[0]}: cannot be read",),
        model=HOSTILE[1],
        data=HOSTILE[0],
    )
    return measure(table, file=HOSTILE[1], command=f"bisector measure {HOSTILE[1]}")


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A real browser, offline in all that a page could ask of it, which notes what goes wrong in the page."""
    if shutil.which("chromedriver") is None:
        pytest.skip("there is no chromedriver")
    options = webdriver.ChromeOptions()
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=shutil.which("chromedriver")))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()
