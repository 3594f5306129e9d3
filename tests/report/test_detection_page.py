import base64
import io
import math
import re
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from markupsafe import escape
from PIL import Image
from plotly.offline import get_plotlyjs

from bisector.cli.detect_options import say_page
from bisector.data.boxes import BoxSet, Picture
from bisector.detection.evaluation import classify_boxes, evaluate_boxes
from bisector.errors import ArgumentError
from bisector.report.detection import render_detection_page
from bisector.report.detection_figures import count_figures
from bisector.report.detection_matches import match_all
from bisector.report.detection_pictures import choose_pictures
from bisector.report.detection_run import DetectionRun
from bisector.report.detection_text import format_scores
from page_text import Page, section
from report_cases import BOXES, HOSTILE, make_detection, make_truth

NAMES = HOSTILE[:6]


def pictures_of(text):
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def own_size(text):
    return len(text) - len(get_plotlyjs())


def test_seeds_with_boxes_of_their_own_are_not_mixed(truth):
    counts = torch.tensor([[3, 8, 40, 90, 400, 0], [400, 90, 40, 8, 3, 0]])
    runs = [make_detection(truth, "igam", skill, seed, counts[seed]) for seed, skill in ((0, 0.9), (1, 0.4))]
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
    classes = section(text, "classes")
    assert "these are of seed 0 alone" in classes
    for name, boxes, ap in zip(truth.class_names, counts[0].tolist(), runs[0].scores.class_ap, strict=True):
        row = classes[classes.index(f'data-value="{escape(name)}"') :].partition("</tr>")[0]
        assert re.search(f'data-value="{boxes}(.0)?"', row)
        assert math.isnan(ap) or f">{100 * ap:.1f}" in row


def test_correlations_over_a_few_classes_are_not_told(truth, runs):
    few = replace(runs[0].scores, class_ap=runs[0].scores.class_ap[:4] + (math.nan,) * 2)
    for scores, told in ((runs[0].scores, True), (few, False)):
        one = replace(runs[0], scores=scores)
        assert ("r(log count, AP)" in render_detection_page([one], truth, title="x", pictures=0)) == told
        assert ("r(log" in format_scores([("igam", scores)])) == told


def test_the_table_has_the_mean_scores_of_every_head(truth, runs):
    text = render_detection_page(runs, truth, title="x", pictures=0)
    table = text[text.index('<table id="summary">') :].partition("</table>")[0]
    rows = re.findall(r"<tr><th scope=\"row\".*?</tr>", table, re.DOTALL)
    for row, head in zip(rows, ("linear-softmax", NAMES[0], "igam"), strict=True):
        own = [one.scores for one in runs if one.name == head]
        cells = re.findall(r'<td[^>]*data-value="([^"]*)"', row)
        values = [float(value) if value else math.nan for value in cells]
        assert values[:3] == pytest.approx(
            [sum(getattr(s, k) for s in own) / 2 for k in ("ap", "ap50", "ap75")]
        )
        rare = sum(s.ap_by_frequency["rare"] for s in own) / 2
        spread = sum(np.nanstd(s.class_ap) for s in own) / 2
        assert any(value == pytest.approx(rare) for value in values)
        assert any(value == pytest.approx(spread) for value in values)
        assert values[-1] == pytest.approx(0.75)  # no time: it would be another after a kill


def test_the_tiles_say_what_can_be_told(truth):
    either = {f"{names} cannot be told apart" for names in ("IGAM and AM-softmax", "AM-softmax and IGAM")}
    for skills, told in (((0.9, 0.9), either), ((0.95, 0.1), {"IGAM"})):
        heads = zip(("igam", "am-softmax"), skills, strict=True)
        several = [make_detection(truth, name, skill, seed) for name, skill in heads for seed in range(4)]
        tile = render_detection_page(several, truth, title="x", pictures=0).partition("Highest AP")[2]
        assert tile.partition("<dd>")[2].partition("</dd>")[0] in told


def test_a_page_is_the_same_each_time_and_says_what_it_is_of(truth, runs):
    words = {"title": NAMES[0], "command": f"bisector detect train {NAMES[1]}", "notes": [NAMES[1]]}
    text = render_detection_page(runs, truth, **words)
    assert text == render_detection_page(runs, truth, **words)
    assert "The pictures are composed" in text
    assert "Left out of the data, or to know of them: 1" in text
    assert own_size(text) < 3_000_000
    assert len(Page(text).all("script")) == 3
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
    page = render_detection_page([make_detection(truth, "igam", 1.0)], truth, title="x")
    assert own_size(page) < 3_000_000


def test_reasons_take_turns_and_come_from_what_is_in_the_pictures(truth, runs):
    matches = [match_all(truth, one.detections) for one in runs[:3]]
    counts = [float(n) for n in BOXES]
    chosen = list(choose_pictures(truth, matches, counts, 0.5))
    assert sorted(i for i, _ in chosen) == list(range(18))
    assert set(Counter(why.split(":")[0].split(" ")[0] for _, why in chosen)) == {"has", "the", "chosen"}
    first, why = chosen[0]
    rarest = min((c for p in truth.pictures for c in p.labels.tolist()), key=lambda c: counts[c - 1])
    assert rarest in truth.pictures[first].labels.tolist()
    assert why == f"has {NAMES[rarest - 1]}: {counts[rarest - 1]:.0f} training boxes"
    telling = next(i for i, reason in chosen if reason == "the heads differ")
    assert len({tuple(run[telling].missed(0.5)) for run in matches}) > 1


def test_a_page_is_written_whatever_is_missing(truth, tmp_path):
    gone = make_truth(tmp_path)
    for file in tmp_path.iterdir():
        file.unlink()
    text = render_detection_page([make_detection(gone, "igam", 0.9)], gone, title="x")
    assert "that could not be read" in text
    assert ".png" in text
    assert pictures_of(text) == []
    text = render_detection_page([DetectionRun("igam", 0, evaluate_boxes(truth, []), [])], truth, title="x")
    assert len(pictures_of(text)) == 12
    assert "Training boxes" not in text
    assert "nothing" in text
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    picture = Picture.of(1, "a.png", 30, 20, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    empty = BoxSet([picture], ["a"], name="empty", root=tmp_path)
    text = render_detection_page([DetectionRun("igam", 0, evaluate_boxes(empty, []), [])], empty, title="x")
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


def test_one_class_alone_is_no_bias_and_no_correlation(tmp_path):
    truth = make_truth(tmp_path, names=NAMES[3:4], alone=True)
    one = make_detection(truth, "igam", 0.9)
    assert 0 < one.scores.ap <= 1
    for key in ("spread", "spread50", "gap", "r_count", "r_amount", "r_amount_given_count"):
        assert math.isnan(one.scores.values()[key]), key
    given = classify_boxes(torch.ones(3, 1), torch.ones(3, dtype=torch.long))
    assert math.isnan(given.bias)
    told = render_detection_page([replace(one, classified=given)], truth, title="t")
    assert "Spread" not in told[told.index('<table id="summary">') :].partition("</table>")[0]
    assert "Spread" not in format_scores([("igam", one.scores)])
    assert NAMES[3] in told


def test_names_of_any_length_and_kind_are_shown(tmp_path):
    names = ("x" * 5000, "=cmd|' /C calc'!A0", "word " * 1000, "@SUM(A1)", "", "none")
    truth = make_truth(tmp_path, names=names)
    told = render_detection_page([make_detection(truth, "igam", 0.6)], truth, title="t")
    assert "x" * 200 not in told
    assert "x" * 199 + "…" in told
    assert escape(names[1]) in told
    assert len(re.sub('<script.*?</script>|base64,[^"]*', "", told, flags=re.DOTALL)) < 150_000
    assert truth.class_names == names
