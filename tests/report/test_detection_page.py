import base64
import io
import math
import re
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch
from markupsafe import escape
from PIL import Image, ImageDraw
from plotly.offline import get_plotlyjs
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bisector.cli.detect_options import say_page
from bisector.data.boxes import BoxSet, Picture
from bisector.detection.evaluation import Detections, classify_boxes, evaluate_boxes
from bisector.errors import ArgumentError
from bisector.files import write_whole
from bisector.report.detection import render_detection_page
from bisector.report.detection_figures import count_figures
from bisector.report.detection_matches import match_all
from bisector.report.detection_pictures import choose_pictures
from bisector.report.detection_run import DetectionRun
from bisector.report.detection_text import format_scores

SECONDS = 60
NAMES = (
    "<script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    "quoted \"name\" with 'both'",
    "naïve café 猫",
    "%{x} $x^2$ &lt;",
    "a name that is far too long to be written beside any box of any picture on this page",
)
COUNTS = torch.tensor([3, 8, 40, 90, 400, 0])
IMAGE_COUNTS = torch.tensor([2, 8, 40, 90, 200, 0])


class Composed(BoxSet):
    composed = True


def make_truth(folder, kind=BoxSet, pictures=18, names=NAMES, alone=False, **more):
    g = torch.Generator().manual_seed(0)
    held, first = [], 1
    for i in range(pictures):
        width, height = (160, 120) if i % 3 else (90, 200)
        n = i % 5
        corners = torch.rand(n, 2, generator=g) * 0.6
        boxes = torch.cat([corners, corners + 0.15 + 0.2 * torch.rand(n, 2, generator=g)], 1)
        boxes *= torch.tensor([width, height, width, height])
        labels = torch.ones(n, dtype=torch.long)
        if not alone:
            labels = torch.randint(1, len(names), (n,), generator=g)  # never the last class
        image = Image.effect_noise((width, height), 60).convert("RGB")
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            ImageDraw.Draw(image).rectangle(box, fill=(40 * label, 200 - 30 * label, 90))
        image.save(folder / f"{i}.png")
        held.append(Picture.of(i, f"{i}.png", width, height, boxes, labels, first_id=first))
        first += n
    return kind(
        held, names, name="shapes & <b>more</b>", root=folder, left_out=["<i>one</i> broken box"], **more
    )


def detect(truth, skill, seed):
    g = torch.Generator().manual_seed(seed)
    found = []
    for picture in truth.pictures:
        n = len(picture.labels)
        boxes = picture.boxes + 2 * torch.randn(n, 4, generator=g)
        right = torch.rand(n, generator=g) < skill
        labels = torch.where(right, picture.labels, picture.labels % len(truth.class_names) + 1)
        boxes = torch.cat([boxes, torch.tensor([[-5.0, 2, 30, 40]])])
        labels = torch.cat([labels, torch.tensor([1])])
        scores = torch.cat([0.7 * torch.rand(n, generator=g) + 0.2 + 0.1 * right, torch.rand(1, generator=g)])
        found.append(Detections(picture.id, boxes, labels, scores.clamp(max=1)))
    return found


def run(truth, name, skill, seed=0, **more):
    detections = detect(truth, skill, seed)
    counts, images = COUNTS[: len(truth.class_names)], IMAGE_COUNTS[: len(truth.class_names)]
    scores = evaluate_boxes(truth, detections, train_counts=counts, train_image_counts=images)
    return DetectionRun(name, seed, scores, detections, **more)


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    return make_truth(tmp_path_factory.mktemp("shapes"), Composed)


@pytest.fixture(scope="module")
def runs(truth):
    given = classify_boxes(torch.eye(6)[[0, 1, 2, 2]], torch.tensor([1, 2, 3, 4]))
    heads = [("linear-softmax", 0.4), (NAMES[0], 0.6), ("igam", 0.9)]
    return [run(truth, name, skill, s, classified=given) for s in (0, 1) for name, skill in heads]


@pytest.fixture(scope="module")
def path(truth, runs, tmp_path_factory):
    page = tmp_path_factory.mktemp("page") / "detections.html"
    text = render_detection_page(
        runs, truth, title=NAMES[0], command=f"bisector detect train {NAMES[1]}", notes=[NAMES[1]]
    )
    write_whole(page, text)
    return page


def test_seeds_with_boxes_of_their_own_are_not_mixed(truth):
    counts = torch.tensor([[3, 8, 40, 90, 400, 0], [400, 90, 40, 8, 3, 0]])
    images = counts.clamp(max=200)
    runs = []
    for seed, skill in ((0, 0.9), (1, 0.4)):
        found = detect(truth, skill, seed)
        how = {"train_counts": counts[seed], "train_image_counts": images[seed]}
        runs.append(DetectionRun("igam", seed, evaluate_boxes(truth, found, **how), found))
    (figure,) = count_figures(runs)
    drawn = {(x, y) for trace in figure.data[:3] for x, y in zip(trace["x"], trace["y"], strict=True)}
    wanted = {
        (float(n), 100 * ap)
        for one, own in zip(runs, counts.tolist(), strict=True)
        for n, ap in zip(own, one.scores.class_ap, strict=True)
        if n and math.isfinite(ap)
    }
    assert drawn == wanted
    assert len(drawn) == 10
    means = dict(zip(figure.data[3]["customdata"], figure.data[3]["y"], strict=True))
    for group, mean in means.items():
        aps = [100 * one.scores.ap_by_frequency[group] for one in runs]
        assert mean == pytest.approx(sum(aps) / 2), group
    text = render_detection_page(runs, truth, title="x", pictures=0)
    assert "class of one seed, as seeds had boxes of their own" in text
    classes = text[text.index('aria-labelledby="classes"') :]
    assert "these are of seed 0 alone" in classes
    for name, boxes, ap in zip(truth.class_names, counts[0].tolist(), runs[0].scores.class_ap, strict=True):
        row = classes[classes.index(f'data-value="{escape(name)}"') :].partition("</tr>")[0]
        assert f'data-value="{float(boxes)!r}"' in row or f'data-value="{boxes}"' in row
        assert math.isnan(ap) or f">{100 * ap:.1f}" in row


def test_correlations_over_a_few_classes_are_not_told(truth, runs):
    text = render_detection_page(runs[:1], truth, title="x", pictures=0)
    assert "r(log count, AP)" in text
    assert "r(log" in format_scores([("igam", runs[0].scores)])
    few = runs[0].scores.class_ap[:4] + (math.nan,) * 2
    scores = replace(runs[0].scores, class_ap=few)
    text = render_detection_page([replace(runs[0], scores=scores)], truth, title="x", pictures=0)
    assert "r(log count, AP)" not in text
    assert "r(log" not in format_scores([("igam", scores)])


def pictures_of(text):
    return [
        Image.open(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    ]


def own_size(text):
    return len(text) - len(get_plotlyjs())


def test_the_table_has_the_mean_scores_of_every_head(path, runs):
    text = path.read_text(encoding="utf-8")
    table = text[text.index('<table id="summary">') :]
    rows = re.findall(r"<tr><th scope=\"row\".*?</tr>", table[: table.index("</table>")], re.DOTALL)
    assert len(rows) == 3
    for row, head in zip(rows, ("linear-softmax", NAMES[0], "igam"), strict=True):
        own = [one.scores for one in runs if one.name == head]
        values = [
            float(value) if value else math.nan for value in re.findall(r'<td[^>]*data-value="([^"]*)"', row)
        ]
        assert values[:3] == pytest.approx(
            [sum(getattr(s, k) for s in own) / 2 for k in ("ap", "ap50", "ap75")]
        )
        rare = [s.ap_by_frequency["rare"] for s in own]
        assert any(value == pytest.approx(sum(rare) / 2) for value in values)
        assert any(value == pytest.approx(sum(s.bias for s in own) / 2) for value in values)
        assert values[-1] == pytest.approx(0.75)  # no time: it would be another after a kill


def test_the_tiles_say_what_can_be_name_leaders(truth):
    either = {f"{names} cannot be told apart" for names in ("IGAM and AM-softmax", "AM-softmax and IGAM")}
    for skills, told in (((0.9, 0.9), either), ((0.95, 0.1), {"IGAM"})):
        heads = zip(("igam", "am-softmax"), skills, strict=True)
        several = [run(truth, name, skill, seed) for name, skill in heads for seed in range(4)]
        tile = render_detection_page(several, truth, title="x", pictures=0).partition("Highest AP")[2]
        assert tile.partition("<dd>")[2].partition("</dd>")[0] in told


def test_a_page_is_the_same_each_time_and_says_what_it_is_of(path, truth, runs):
    text = path.read_text(encoding="utf-8")
    again = render_detection_page(
        runs, truth, title=NAMES[0], command=f"bisector detect train {NAMES[1]}", notes=[NAMES[1]]
    )
    assert text == again
    assert "The pictures are composed" in text
    assert "Left out of the data, or to know of them: 1" in text
    assert own_size(text) < 3_000_000
    for name in (*NAMES[:2], "<i>one</i>", "<b>more</b>"):
        assert name not in text


def test_pictures_are_as_in_the_files_and_no_more_than_asked(truth, runs):
    for asked, drawn in ((0, 0), (5, 5), (100, 18)):
        text = render_detection_page(runs, truth, title="x", pictures=asked)
        shown = pictures_of(text)
        assert len(shown) == text.count('<div class="shot"') == drawn
        assert {image.size for image in shown} <= {(160, 120), (90, 200)}
        names = re.findall(r'<span class="note">(\d+)\.png', text)
        assert len(set(names)) == drawn
        for image, name in zip(shown, names, strict=True):
            pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
            wanted = truth.image(int(name)).permute(1, 2, 0).flatten()
            assert (pixels.float() - wanted.float()).abs().mean() < 12  # JPEG of noise


def test_large_pictures_of_noise_stay_within_the_page(tmp_path):
    g = torch.Generator().manual_seed(0)
    pictures = []
    for i in range(6):
        noise = torch.randint(0, 256, (900, 1200, 3), dtype=torch.uint8, generator=g)
        Image.fromarray(noise.numpy()).save(tmp_path / f"{i}.png")
        pictures.append(
            Picture.of(i, f"{i}.png", 1200, 900, torch.tensor([[5.0, 5, 90, 90]]), torch.tensor([1]))
        )
    truth = BoxSet(pictures, ["a", "b"], name="noise", root=tmp_path)
    assert own_size(render_detection_page([run(truth, "igam", 1.0)], truth, title="x")) < 3_000_000


def test_reasons_take_turns_and_come_from_what_is_in_the_pictures(truth, runs):
    matches = [match_all(truth, one.detections) for one in runs[:3]]
    counts = [float(n) for n in COUNTS]
    chosen = list(choose_pictures(truth, matches, counts, 0.5))
    assert sorted(i for i, _ in chosen) == list(range(18))
    reasons = Counter(why.split(":")[0].split(" ")[0] for _, why in chosen)
    assert set(reasons) == {"has", "the", "chosen"}
    first, why = chosen[0]
    rarest = min((c for p in truth.pictures for c in p.labels.tolist()), key=lambda c: counts[c - 1])
    assert rarest in truth.pictures[first].labels.tolist()
    assert why == f"has {NAMES[rarest - 1]}: {counts[rarest - 1]:.0f} training boxes"
    telling = next(i for i, reason in chosen if reason == "the heads differ")
    found = [tuple(run[telling].missed(0.5)) for run in matches]
    assert len(set(found)) > 1


def test_pictures_that_cannot_be_read_are_told_and_the_page_is_written(tmp_path):
    truth = make_truth(tmp_path)
    for file in tmp_path.iterdir():
        file.unlink()
    text = render_detection_page([run(truth, "igam", 0.9)], truth, title="x")
    assert "that could not be read" in text
    assert ".png" in text
    assert pictures_of(text) == []


def test_a_detector_that_finds_nothing_has_a_page(truth):
    scores = evaluate_boxes(truth, [])
    text = render_detection_page([DetectionRun("igam", 0, scores, [])], truth, title="x")
    assert len(pictures_of(text)) == 12
    assert "Training boxes" not in text
    assert "nothing" in text


def test_pictures_without_any_box_have_a_page(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    picture = Picture.of(1, "a.png", 30, 20, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    truth = BoxSet([picture], ["a"], name="empty", root=tmp_path)
    text = render_detection_page([DetectionRun("igam", 0, evaluate_boxes(truth, []), [])], truth, title="x")
    assert "0 of 0 found" in text


def test_runs_of_other_classes_and_no_runs_are_refused(truth, runs):
    with pytest.raises(ArgumentError, match="runs: got none; expected at least one run"):
        render_detection_page([], truth, title="x")
    other = replace(runs[0], scores=replace(runs[0].scores, class_names=("a",)))
    with pytest.raises(ArgumentError, match="with other classes; expected the 6 classes of shapes"):
        render_detection_page([other], truth, title="x")


def test_without_plotly_a_line_says_what_is_missing(truth, runs, tmp_path, monkeypatch, capsys):
    for name in ("bisector.report.page", "bisector.report.detection"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    say_page(tmp_path / "x.html", runs, truth, title="x")
    assert "No page: plotly is not installed; it comes with: pip install" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    say_page(tmp_path / "x.html", runs, truth, title="x", pictures=0)
    assert capsys.readouterr().out == f"The page: {tmp_path / 'x.html'}\n"
    assert (tmp_path / "x.html").read_text(encoding="utf-8").endswith("</html>\n")


def show(browser, path, width):
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(path.as_uri())
    drawn = "return [...document.querySelectorAll('.plot')].every(plot => plot.querySelector('svg.main-svg'))"
    WebDriverWait(browser, SECONDS).until(lambda driver: driver.execute_script(drawn))


@pytest.mark.parametrize("width", [1200, 400])
def test_boxes_lie_where_they_belong_and_nothing_sticks_out(browser, path, truth, width):
    show(browser, path, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    places = """
        return [...document.querySelectorAll('.shot')].map(shot => {
          const image = shot.querySelector('img').getBoundingClientRect();
          const rects = [...shot.querySelectorAll('.truth rect:first-child')].map(rect => {
            const box = rect.getBBox();
            return [box.x / image.width, box.y / image.height, (box.x + box.width) / image.width,
                    (box.y + box.height) / image.height];
          });
          const name = shot.parentElement.querySelector('.note').textContent.split('.')[0];
          return [Number(name), image.width / image.height, rects];
        });"""
    found = browser.execute_script(places)
    assert len(found) == 12
    for i, ratio, rects in found:
        picture = truth.pictures[i]
        assert ratio == pytest.approx(picture.width / picture.height, rel=0.02)
        size = torch.tensor([picture.width, picture.height] * 2)
        wanted = (picture.boxes / size).reshape(-1)
        assert torch.tensor(rects).reshape(-1).tolist() == pytest.approx(wanted.tolist(), abs=2e-3)
    assert browser.execute_script("return window.pwned") is None
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_buttons_choose_the_head_and_the_score(browser, path, truth, runs):
    show(browser, path, 1200)
    visible = """
        return [...document.querySelectorAll('.shot svg .' + arguments[0] + ' > g.d')].filter(
          group => getComputedStyle(group).display !== 'none' && group.getClientRects().length).length;"""
    told = (
        "return [...document.querySelectorAll('.tally')].filter(x => x.offsetParent).map(x => x.textContent)"
    )
    named = """
        return [...document.querySelectorAll('.shot svg')].map(svg => [...svg.querySelectorAll('.missed')].filter(
          text => text.getClientRects().length).length);"""
    drawn = [
        int(name.split(".")[0])
        for name in browser.execute_script(
            "return [...document.querySelectorAll('.drawings .note')].map(x => x.textContent)"
        )
    ]
    for k, one in enumerate(runs[:3]):
        browser.execute_script(f"document.getElementById('show-r{k}').click()")
        for j, level in enumerate((0.1, 0.3, 0.5, 0.7)):
            browser.execute_script(f"document.getElementById('show-l{j}').click()")
            wanted = sum(int((one.detections[i].scores >= level).sum()) for i in drawn)
            assert [browser.execute_script(visible, f"r{m}") for m in range(3)] == [
                wanted if m == k else 0 for m in range(3)
            ]
            matches = match_all(truth, one.detections)
            tallies = browser.execute_script(told)
            names = browser.execute_script(named)
            assert len(tallies) == 12
            for i, tally in zip(drawn, tallies, strict=True):
                missed = len(matches[i].missed(level))
                objects = len(truth.pictures[i].labels)
                assert tally.startswith(f"{objects - missed} of {objects} found")
                # Where names would lie on each other, one is written.
                assert min(missed, 1) <= names[drawn.index(i)] <= missed
    browser.execute_script("document.getElementById('show-none').click()")
    assert [browser.execute_script(visible, f"r{m}") for m in range(3)] == [0, 0, 0]
    assert browser.execute_script(told) == []


def test_labels_of_a_head_do_not_cover_each_other_much(browser, path):
    show(browser, path, 1200)
    browser.execute_script("document.getElementById('show-l0').click()")
    covered = """
        const worst = [];
        for (const shot of document.querySelectorAll('.shot')) {
          const boxes = [...shot.querySelectorAll('svg .r0 text.d')].map(x => x.getBoundingClientRect());
          boxes.forEach((a, i) => boxes.slice(i + 1).forEach(b => {
            const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
            const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            worst.push(Math.max(wide, 0) * Math.max(high, 0) / Math.min(a.width * a.height, b.width * b.height));
          }));
        }
        return worst;"""
    shares = browser.execute_script(covered)
    assert len(shares) > 10
    assert max(shares) < 0.5


def test_classes_sort_and_show_their_names_as_they_are(browser, path):
    show(browser, path, 1200)
    table = browser.find_element(By.CSS_SELECTOR, "section[aria-labelledby=classes] table")
    names = [cell.get_attribute("textContent") for cell in table.find_elements(By.CSS_SELECTOR, "tbody th")]
    assert sorted(names) == sorted(NAMES)
    headers = table.find_elements(By.CSS_SELECTOR, "thead th")
    labels = [header.text.replace("\u00a0", " ").split(" ↕")[0].split(" ▴")[0] for header in headers]
    column = next(k for k, label in enumerate(labels) if label.startswith("IGAM"))
    browser.execute_script("arguments[0].querySelector('button').click()", headers[column])
    values = browser.execute_script(
        "return [...arguments[0].tBodies[0].rows].map(row => row.cells[arguments[1]].dataset.value)",
        table,
        column,
    )
    known = [float(value) for value in values if value]
    assert known == sorted(known)
    assert values[len(known) :] == [""] * (len(NAMES) - len(known))


def test_one_class_alone_is_no_bias_and_no_correlation(tmp_path):
    truth = make_truth(tmp_path, names=NAMES[3:4], alone=True)
    one = run(truth, "igam", 0.9)
    assert 0 < one.scores.ap <= 1
    for key in ("bias", "bias50", "gap", "r_count", "r_amount", "r_amount_given_count"):
        assert math.isnan(one.scores.values()[key]), key
    given = classify_boxes(torch.ones(3, 1), torch.ones(3, dtype=torch.long))
    assert math.isnan(given.bias)
    told = render_detection_page([replace(one, classified=given)], truth, title="t")
    table = told[told.index('<table id="summary">') :]
    assert "Bias" not in table[: table.index("</table>")]
    assert "Bias" not in format_scores([("igam", one.scores)])
    assert NAMES[3] in told


def test_names_of_any_length_and_kind_are_shown(tmp_path):
    names = ("x" * 5000, "=cmd|' /C calc'!A0", "word " * 1000, "@SUM(A1)", "", "none")
    truth = make_truth(tmp_path, names=names)
    told = render_detection_page([run(truth, "igam", 0.6)], truth, title="t")
    assert "x" * 200 not in told
    assert "x" * 199 + "…" in told
    assert escape(names[1]) in told
    assert len(re.sub('<script.*?</script>|base64,[^"]*', "", told, flags=re.DOTALL)) < 150_000
    assert truth.class_names == names
