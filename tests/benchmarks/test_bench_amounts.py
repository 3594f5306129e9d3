import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.amounts import Row, class_sizes, compare_amounts, main, volume_of_package

NONE = "perceptual-manifold-geometry, none"


def by_name(rows: list[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


def test_everybody_computes_the_same_numbers() -> None:
    counts = class_sizes(6, 5, 300)
    found = compare_amounts(20, counts, repeats=2)
    rows = by_name(found.rows)
    assert found.counts == counts
    for name, row in rows.items():
        if row.note:
            continue
        assert len(row.seconds) == 2
        assert row.finite == 6
        assert row.error is not None
        assert row.error <= 1e-6, name
        assert (row.faster is None) == row.ours
    taken = rows["bisector, oas"].median, rows["scikit-learn, oas"].median
    assert rows["scikit-learn, oas"].faster == taken[1] / taken[0]  # type: ignore[operator]


@pytest.mark.slow
def test_the_packages_determinant_overflows_and_ours_goes_on() -> None:
    found = compare_amounts(1024, [30, 1200], repeats=1)
    rows = by_name(found.rows)
    assert found.largest > 512  # a determinant of 2^1024 is no float64
    for name, row in rows.items():
        if name != NONE:
            assert row.finite == 2
            assert row.error is not None
            # The nonlinear shrinkages invert eigenvalues, and the least ones lose digits in float32 products.
            assert row.error <= (1e-3 if "quadratic" in name else 1e-6), name
    if volume_of_package() is None:
        assert rows[NONE].note == "perceptual-manifold-geometry is not installed"
        assert rows[NONE].median is None
    else:
        assert rows[NONE].finite < 2


@pytest.mark.skipif(volume_of_package() is None, reason="perceptual-manifold-geometry is not installed")
def test_the_packages_volume_is_the_one_of_the_paper() -> None:
    volume = volume_of_package()
    assert volume is not None
    rows = np.array([[3.0, 0.0], [-3.0, 0.0]])
    assert float(volume(rows)[0]) == pytest.approx(math.log2(10) / 2)


def test_sizes_are_even_by_their_logarithm() -> None:
    assert class_sizes(1, 20, 2000) == [20]
    assert class_sizes(4, 8, 8) == [8, 8, 8, 8]
    ratios = np.divide(*np.array([class_sizes(9, 100, 10**6)[1:], class_sizes(9, 100, 10**6)[:-1]]))
    assert ratios == pytest.approx([10**0.5] * 8, rel=0.01)


def test_the_files_hold_what_was_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--dims", "4,9", "--classes", "3", "--most", "40", "--repeats", "2"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "amounts.json").read_text(encoding="utf-8"))
    page = (tmp_path / "amounts.md").read_text(encoding="utf-8")
    assert f"$ python -m benchmarks.amounts {' '.join(words)}\n" in page
    assert [run["dim"] for run in found["dims"]] == [4, 9]
    for run in found["dims"]:
        assert f"p = {run['dim']}: 3 classes of 20 to 40 rows, 88 in all" in printed
        assert f"## p = {run['dim']}: 3 classes" in page
        for row in run["rows"]:
            assert row["name"] in printed
            assert f"| {row['name']}" in page
