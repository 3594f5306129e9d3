import base64
import hashlib
import json
import math
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from bisector.metrics.summary import METRICS
from bisector.report.comparison import render_page
from bisector.report.names import head_label, head_summary


class Page(HTMLParser):
    """Collects what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(comparison):
    return Page(render_page(comparison))


@pytest.fixture(scope="module")
def hostile_page(hostile):
    return Page(render_page(hostile))


def test_nothing_is_loaded_from_anywhere(page, hostile_page):
    for tag, attributes in page.tags + hostile_page.tags:
        for name in ("src", "srcset", "href", "data", "action", "poster", "background"):
            if name in attributes:
                assert (tag, attributes[name]) == ("link", "data:,")
        assert not any(name.startswith("on") for name in attributes)
        assert tag not in {"iframe", "object", "embed", "base", "img", "a", "b"}
        assert "url(" not in attributes.get("style", "")


def test_the_policy_allows_the_two_scripts_of_the_page_and_no_others(page):
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    digests = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script, attributes in zip(page.scripts, page.all("script"), strict=True)
        if attributes.get("type") != "application/json"
    ]
    assert len(digests) == 2
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]


def test_hostile_names_stay_text(page, hostile_page, hostile):
    # The very same elements as with harmless names, so that no name became one.
    assert len(hostile_page.all("script")) == len(page.all("script")) == 3
    assert {tag for tag, _ in hostile_page.tags} == {tag for tag, _ in page.tags}
    figures = json.loads(hostile_page.scripts[0])
    assert "<" not in hostile_page.scripts[0]
    for name in (hostile.data, hostile.version, hostile.command):
        assert name in hostile_page.text
    assert figures["figures"]


def test_the_page_holds_all_figures_under_unique_names(page):
    figures = json.loads(page.scripts[0])["figures"]
    keys = [figure["key"] for figure in figures]
    places = [div for div in page.all("div") if "plot" in div.get("class", "").split()]
    assert sorted(keys) == sorted(div["id"] for div in places)
    # counts, class accuracy; four metrics' differences, eight clouds, three margins, two histories, four planes
    assert len(keys) == 2 + 4 + 8 + 3 + 2 + 4
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identities) == len(set(identities))
    assert all(div["role"] == "img" and div["aria-label"] for div in places)


def test_the_page_says_what_was_compared(page, comparison):
    assert "8 heads compared on digits" in page.text
    assert "digits made long-tailed, imbalance 50" in page.text
    assert "10 classes with 109 to 2 training instances" in page.text
    assert "540 test instances" in page.text
    assert "2 seeds" in page.text
    assert comparison.command in page.text
    for key, value in comparison.recipe.items():
        assert f"{key.replace('_', ' ')} {value}" in page.text
    for info in METRICS:
        assert info.label in page.text
        assert info.help in page.text
    assert "thresholds" not in page.text
    for head in comparison.heads:
        assert f"{head_label(head)} {head_summary(head)}" in page.text


def test_headings_run_without_gaps(page):
    levels = [int(tag[1]) for tag, _ in page.tags if tag in {"h1", "h2", "h3"}]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
    assert page.all("html")[0]["lang"] == "en"
    headings = {attributes["id"] for tag, attributes in page.tags if tag == "h2"}
    assert {section["aria-labelledby"] for section in page.all("section")} == headings


def test_sections_without_content_are_left_out(comparison):
    run = next(run for run in comparison.runs if run.head == "am-softmax")
    unknown = replace(run, metrics={}, class_amount=[math.nan] * 10)
    page = Page(render_page(replace(comparison, runs=[unknown], planes=[], recipe={}, command="")))
    titles = [attributes["id"] for tag, attributes in page.tags if tag == "h2"]
    assert titles == ["results", "class-by-class"]
    assert not page.all("pre")
    assert "1 head on digits" in page.text
    assert "One seed" in page.text


def test_one_head_is_best_at_nothing(comparison):
    page = Page(render_page(replace(comparison, runs=[comparison.runs[0]])))
    assert not any(cell.get("class") == "best" for cell in page.all("td"))
    assert "shaded" not in page.text
    # The finding, without a winner.
    share = comparison.runs[0].metrics["balanced_accuracy"]
    assert f"Balanced accuracy {100 * share:.1f} % Worst class" in page.text
    assert "Highest" not in page.text
    assert " ± " not in page.text


def test_heads_that_tie_are_counted(comparison):
    def tied(heads):
        runs = [
            replace(r, metrics=r.metrics | {"worst_class": 0.5}) for r in comparison.runs if r.head in heads
        ]
        text = Page(render_page(replace(comparison, runs=runs))).text
        return text.partition("Best worst class 50.0 ± 0.0 % ")[2].partition(" Best on the rarest classes")[0]

    heads = comparison.heads
    assert tied(heads[:2]) == "Softmax and Normalised softmax cannot be told apart"
    assert tied(heads[:3]) == "Softmax, Normalised softmax and 1 other cannot be told apart"
    assert tied(heads[:5]) == "Softmax, Normalised softmax and 3 others cannot be told apart"


@pytest.mark.parametrize(
    ("worse", "seeds", "names"),
    [
        # The paired differences are 3.1 on average. Student's t over 3 seeds: 3.1 ± 4.303 * 1.85 / sqrt(3).
        ([3.1 - 1.85, 3.1, 3.1 + 1.85], 3, "IGAM (paper) and AM-softmax cannot be told apart"),
        ([3.1 - 0.85, 3.1, 3.1 + 0.85], 3, "IGAM (paper)"),  # 3.1 ± 2.1
        ([3.1], 1, "IGAM (paper) and AM-softmax cannot be told apart"),  # one seed has no interval
    ],
)
def test_a_tile_names_a_winner_only_where_it_can_be_name_leaders(build, worse, seeds, names):
    given = [80.0, 60.0, 70.0][:seeds]  # what both share within a seed tells nothing
    values = {
        "am-softmax": [a - d for a, d in zip(given, worse, strict=True)],
        "igam:preset=paper": given,
    }
    comparison = build([str(digit) for digit in range(10)], seeds=seeds)
    runs = [
        replace(r, metrics=r.metrics | {"balanced_accuracy": values[r.head][r.seed] / 100})
        for r in comparison.runs
        if r.head in values
    ]
    text = Page(render_page(replace(comparison, runs=runs))).text
    tile = text.partition("Highest balanced accuracy ")[2].partition(" Best worst class")[0]
    assert tile.partition("% ")[2] == names


def test_relax_and_press_are_explained_where_they_are_known(comparison, page):
    assert "Relax moves a competitor away" in page.text
    assert "Press moves it nearer" in page.text
    old = [replace(run, direction=None) for run in comparison.runs]
    text = Page(render_page(replace(comparison, runs=old))).text
    assert "Margins between pairs of classes" in text
    assert "Relax" not in text


def test_amounts_that_follow_the_counts_are_told(comparison, page):
    assert "follow the class sizes" not in page.text
    runs = [
        replace(run, amount_history=[[float(n) for n in run.class_count]] * 2) if run.amount_history else run
        for run in comparison.runs
    ]
    text = Page(render_page(replace(comparison, runs=runs))).text
    assert "IGAM (paper): these amounts follow the class sizes." in text


def test_the_planes_are_described_as_they_are_drawn(comparison, page):
    assert "for 120 epochs instead of 40." in page.text
    assert "dashed lines" in page.text
    assert "more than 30 classes" not in page.text
    cosine = [plane for plane in comparison.planes if plane.bias is None]
    text = Page(render_page(replace(comparison, planes=cosine, recipe={"epochs": 40}))).text
    assert "embeddings of two dimensions. Points" in text
    assert "head with a bias" not in text
    many = [str(i) for i in range(31)]
    large = replace(
        comparison,
        class_names=many,
        train_counts=[1] * 31,
        planes=cosine,
        runs=[
            replace(
                run,
                class_accuracy=[0.5] * 31,
                class_amount=[1.0] * 31,
                class_count=[1] * 31,
                amount_history=[],
                margins=None,
            )
            for run in comparison.runs
        ],
    )
    text = Page(render_page(large)).text
    assert "there are more than 30 classes" in text
    assert "dashed" not in text


def test_colour_means_the_class_and_nothing_else(page):
    assert not any("background" in attributes.get("style", "") for _, attributes in page.tags)


def test_the_question_about_amounts_is_answered(page):
    assert "Nothing can be concluded from 10 classes." in page.text


def test_a_comparison_read_back_makes_the_same_page(comparison, tmp_path):
    comparison.write(tmp_path / "comparison.json")
    again = comparison.__class__.read(tmp_path / "comparison.json")
    assert render_page(again) == render_page(comparison)


def test_a_missing_plotly_names_the_extra():
    # A module set to None in sys.modules cannot be imported: the state of a bare installation.
    program = (
        "import sys; sys.modules['plotly'] = None\n"
        "from bisector.errors import MissingExtraError\n"
        "try: import bisector.report.page\n"
        "except MissingExtraError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "plotly is not installed; it comes with: pip install 'bisector[report]'"
