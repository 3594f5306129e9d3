"""The benchmark of `bisector adjust`, on a small table."""

import json
from pathlib import Path

import torch

from benchmarks import adjusting
from bisector.data.tables import open_embeddings
from bisector.information.geometry import ClassGeometry


def test_every_method_has_its_seconds_and_its_peak(tmp_path: Path, capsys) -> None:
    words = f"--rows 2000 --dim 8 --classes 12 --folder {tmp_path} --out {tmp_path / 'found'}".split()
    assert adjusting.main(words) == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "found" / "adjusting.json").read_text())
    methods = found.get("found", found)["methods"]
    assert list(methods) == ["geometry", "prior"]
    for one in methods.values():
        assert sum(one["phases"].values()) <= one["seconds"] * 1.001
        assert one["peak"] > 2**26
    stored = open_embeddings(tmp_path / "2000x8x12.parquet")
    assert stored.split_rows == {"train": 1600, "validation": 200, "test": 200}
    assert stored.counts[0] > 5 * stored.counts[-1]


def test_products_are_those_of_the_distances() -> None:
    tail = adjusting.Tail(12, 8)
    x, labels, _ = tail.rows(500)
    geometry = ClassGeometry.fit(x, labels, 12)
    chosen = torch.arange(40).view(20, 2) % 12
    made: list[tuple[int, ...]] = []
    times = torch.mm
    try:
        torch.mm = lambda a, b: made.append((*a.shape, *b.shape)) or times(a, b)
        adjusting.products_alone(geometry, x[:20], chosen)()
    finally:
        torch.mm = times
    assert made[0] == (20, 8, 8, 8)
    assert sum(shape[0] for shape in made[1:]) == 40  # a row for every row and class
