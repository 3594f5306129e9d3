import math
import random
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from bisector.metrics.summary import METRICS
from bisector.training.results import Comparison, Plane, Run

HEADS = [
    "linear-softmax",
    "normalized-softmax",
    "am-softmax",
    "enhanced-am-softmax",
    "c2am",
    "igam:preset=paper",
    "igam:max_margin=0.3:direction=press",
    "logit-adjusted",
]
PLANES = ["linear-softmax", "normalized-softmax", "am-softmax", "igam:preset=paper"]
HOSTILE_NAMES = [
    "<img src=x onerror=window.pwned=1>",
    "</script><script>window.pwned=1</script>",
    "quoted \"name\" with 'both'",
    "naïve café 猫 🐈",
    "<b>bold</b> & <a href='javascript:window.pwned=1'>link</a>",
    "%{x} $x^2$ &lt;",
    "<!--<script>",
    "${window.pwned=1}`",
    "a name that is far too long to be put under any axis of any figure on this page",
    "line\nbreak\u2028\tand tab",
]
PROFILE = [109, 70, 46, 29, 19, 12, 8, 5, 3, 2]


def make_run(head: str, seed: int, counts: list[int], rng: random.Random) -> Run:
    skill = HEADS.index(head) / 40
    accuracy = [
        min(1.0, max(0.0, 0.55 + skill + 0.1 * math.log(n) + rng.gauss(0, 0.05) - 0.02 * (c == 8)))
        for c, n in enumerate(counts)
    ]
    amounts = [
        30 - 20 * a + rng.gauss(0, 2) if n > 1 else math.nan for a, n in zip(accuracy, counts, strict=True)
    ]
    metrics = {info.key: rng.random() for info in METRICS}
    metrics["accuracy"] = metrics["balanced_accuracy"] = sum(accuracy) / 10
    ranked = sorted(accuracy, key=lambda a: -counts[accuracy.index(a)])
    for group, members in (("many", ranked[:4]), ("medium", ranked[4:7]), ("few", ranked[7:])):
        metrics[group] = sum(members) / len(members)
    metrics["worst_class"] = min(accuracy)
    mean = sum(accuracy) / 10
    metrics["bias"] = sum((100 * (a - mean)) ** 2 for a in accuracy) / 10
    metrics["bias_corrected"] = metrics["bias"] - 20
    metrics["separability"] = 60 + 20 * rng.random()
    for key in (info.key for info in METRICS if info.key.startswith("r_")):
        metrics[key] = 2 * metrics[key] - 1
    pairwise = head.startswith(("igam", "c2am"))
    guide = [0.3 * (a or 0) / 30 for a in (0 if math.isnan(a) else a for a in amounts)]
    return Run(
        head=head,
        seed=seed,
        metrics=metrics,
        class_accuracy=accuracy,
        class_amount=amounts,
        class_count=counts,
        amount_history=[
            [a + 8 * math.exp(-step / 5) + rng.gauss(0, 0.3) for a in amounts] for step in range(20)
        ]
        if head.startswith("igam")
        else [],
        margins=[[max(0.0, r - c) for c in guide] for r in guide] if pairwise else None,
        direction=("press" if "press" in head else "relax") if pairwise else None,
        confusion=[[50 if i == j else 1 for j in range(10)] for i in range(10)],
        seconds=rng.uniform(5, 9),
    )


def make_plane(head: str, rng: random.Random) -> Plane:
    angles = [2 * math.pi * c / 10 + rng.uniform(-0.25, 0.25) for c in range(10)]
    rng.shuffle(angles)
    labels = [i % 10 for i in range(540)]
    points = []
    for label in labels:
        angle, length = rng.gauss(angles[label], 0.12), rng.lognormvariate(1.5, 0.35)
        points.append([length * math.cos(angle), length * math.sin(angle)])
    lengths = [rng.uniform(0.5, 1.5) for _ in angles]
    return Plane(
        head=head,
        points=points,
        labels=labels,
        weights=[[r * math.cos(a), r * math.sin(a)] for a, r in zip(angles, lengths, strict=True)],
        accuracy=0.71,
        bias=[rng.gauss(0, 1) for _ in angles] if head == "linear-softmax" else None,
    )


def make_comparison(class_names: list[str], seeds: int = 2, *, reshuffled: bool = True) -> Comparison:
    rng = random.Random(0)
    tails = [rng.sample(PROFILE, 10) for _ in range(seeds)]
    counts = [tails[seed if reshuffled else 0] for seed in range(seeds)]
    return Comparison(
        command="bisector compare --data digits --heads " + ",".join(HEADS),
        version="0.1.0",
        data="digits",
        imbalance=50.0,
        class_names=class_names,
        train_counts=counts[0],
        test_counts=[54] * 10,
        recipe={
            "epochs": 40,
            "batch_size": 64,
            "learning_rate": 0.003,
            "embedding_dim": 32,
            "optimizer": "AdamW, one-cycle learning rate",
            "plane_epochs": 120,
        },
        runs=[make_run(head, seed, counts[seed], rng) for seed in range(seeds) for head in HEADS],
        planes=[make_plane(head, rng) for head in PLANES],
    )


@pytest.fixture(scope="session")
def build() -> Callable[..., Comparison]:
    return make_comparison


@pytest.fixture(scope="session")
def comparison() -> Comparison:
    return make_comparison([str(digit) for digit in range(10)])


@pytest.fixture(scope="session")
def hostile() -> Comparison:
    """Every text that comes from outside tries to become code."""
    comparison = make_comparison(HOSTILE_NAMES, reshuffled=False)
    renamed = {"c2am": HOSTILE_NAMES[0], "am-softmax": HOSTILE_NAMES[1]}
    return replace(
        comparison,
        command=f"bisector compare --data {HOSTILE_NAMES[1]}",
        data=HOSTILE_NAMES[0],
        version=HOSTILE_NAMES[1],
        recipe={HOSTILE_NAMES[0]: HOSTILE_NAMES[1]},
        runs=[replace(run, head=renamed.get(run.head, run.head)) for run in comparison.runs],
        planes=[replace(plane, head=renamed.get(plane.head, plane.head)) for plane in comparison.planes],
    )


@pytest.fixture(scope="module")
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
