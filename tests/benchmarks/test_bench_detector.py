"""`python -m benchmarks.detector`: what IGAM costs a detector, at a size that takes seconds."""

import json

import pytest

from benchmarks.detector import main, measure_machinery

MODEL = "fasterrcnn_mobilenet_v3_large_320_fpn"
SMALL = ["--model", MODEL, "--size", "64x96", "--images", "1", "--repeats", "2", "--threads", "1"]


@pytest.mark.slow
def test_the_tables_say_what_was_timed(tmp_path, capsys):
    assert main([*SMALL, "--machinery", "12x16", "--rows", "400", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "91 classes: 1 images of 64 x 96" in told
    assert "12 classes x 16 dimensions, 400 embeddings, no limit" in told
    record = json.loads((tmp_path / "detector.json").read_text())
    step = record["step"]
    assert len(step["plain"]) == len(step["attached"]) == len(step["overheads"]) == 2
    assert step["observed"] == step["rois"] // 4
    assert record["machinery"]["rows"] == 400


def test_a_meter_keeps_to_its_budget():
    held = measure_machinery(8, 256, rows=6000, budget=2**20)
    assert held.held <= 2**20
    assert held.sketched > 0
    assert measure_machinery(8, 32, rows=3000).sketched == 0
