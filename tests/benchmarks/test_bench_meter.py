import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.exact import exact_amount
from benchmarks.growth import forget_process_peak, process_bytes
from benchmarks.long_tail import LVIS_INSTANCES, lvis_like_counts
from benchmarks.meter import main
from benchmarks.meter_check import Check
from benchmarks.meter_memory import memory_need
from benchmarks.meter_run import cheapest_queue
from benchmarks.spectra import ROW_GROUP, ClassSpectra, write_embeddings
from bisector.cores import process_peak_bytes
from bisector.errors import ArgumentError

REPOSITORY = Path(__file__).parents[2]
SMALL = ["--rows", "3000", "--dim", "24", "--classes", "40", "--checked", "5"]


@given(st.integers(1, 2000), st.integers(0, 10**7))
def test_every_class_has_an_instance_and_all_have_the_rows(classes: int, more: int) -> None:
    counts = lvis_like_counts(classes + more, classes)
    assert len(counts) == classes
    assert counts.sum() == classes + more
    assert counts.min() >= 1
    assert bool((counts[1:] >= counts[:-1]).all())


def test_the_sizes_are_those_of_lvis() -> None:
    counts = lvis_like_counts(LVIS_INSTANCES)
    # Rare classes have at most 10 images, common ones at most 100; the largest class has 50,552 instances.
    assert int(counts[336]) in range(10, 20)
    assert int(counts[797]) in range(100, 300)
    assert int(counts[-1]) == pytest.approx(50_552, rel=0.05)


def test_the_embeddings_have_the_spectra_of_their_classes() -> None:
    spectra = ClassSpectra(classes=2, dim=6, seed=3)
    labels = torch.arange(2).repeat_interleave(40_000)
    x = spectra.draw(labels, torch.Generator().manual_seed(0)).numpy()
    for c in range(2):
        expected = np.sort(spectra.deviations[c].numpy() ** 2)
        found = np.linalg.eigvalsh(np.cov(x[labels.numpy() == c], rowvar=False))
        assert found == pytest.approx(expected, rel=0.05)
        assert x[labels.numpy() == c].mean(axis=0) == pytest.approx(spectra.means[c].numpy(), abs=0.15)
    assert not torch.allclose(
        spectra.deviations[0].sort().values, spectra.deviations[1].sort().values, rtol=0.05
    )


def test_the_table_has_row_groups_of_mixed_classes(tmp_path: Path) -> None:
    counts = torch.tensor([1, 30_000, 50_000])
    for name in ("one", "other"):
        write_embeddings(tmp_path / "made" / f"{name}.parquet", counts, dim=2, seed=5)
    file = pq.ParquetFile(tmp_path / "made" / "one.parquet")
    assert [file.metadata.row_group(g).num_rows for g in range(2)] == [ROW_GROUP, 80_001 - ROW_GROUP]
    labels = file.read(["label"])["label"].to_numpy()
    assert np.bincount(labels).tolist() == counts.tolist()
    assert len(set(labels[:1000].tolist())) >= 2
    assert file.read().equals(pq.read_table(tmp_path / "made" / "other.parquet"))


@pytest.mark.parametrize("shape", [(50, 4), (3, 20)])
def test_exact_amounts_are_those_of_plain_numpy(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).normal(size=shape)
    m, p = shape
    centred = rows - rows.mean(axis=0)
    covariance = centred.T @ centred / m
    trace, square = np.trace(covariance), (covariance**2).sum()
    # Chen, Wiesel, Eldar and Hero 2010, as scikit-learn has it.
    oas = min(1.0, (square / p**2 + (trace / p) ** 2) / ((m + 1) * (square / p**2 - (trace / p) ** 2 / p)))
    for shrinkage, rho in (("none", 0.0), ("oas", oas)):
        shrunk = (1 - rho) * covariance + rho * trace / p * np.eye(p)
        expected = np.log2(np.linalg.eigvalsh(np.eye(p) + shrunk)).sum() / 2
        assert exact_amount(rows, shrinkage) == pytest.approx(expected, rel=1e-12)


def test_the_best_queue_of_the_seeds_scheme_is_the_best_of_all() -> None:
    for rows, dim, classes in ((300, 4, 3), (300, 1, 50), (97, 30, 2)):
        sizes = [memory_need(rows, dim, classes, queue).local_covariances for queue in range(1, rows + 1)]
        found = memory_need(rows, dim, classes, cheapest_queue(rows, dim, classes)).local_covariances
        assert found == min(sizes)


def test_a_bound_allows_for_rounding_and_no_more() -> None:
    def check(amount: float, bound: float, estimate: float) -> Check:
        return Check(0, "sketch", 9, amount=amount, exact=10.0, bound=bound, estimate=estimate)

    assert check(10.5, 0.5, math.nan).held
    assert check(10.000009, 0.0, math.nan).held
    assert not check(10.00002, 0.0, math.nan).held
    assert not check(9.4, 0.5, math.nan).held
    assert check(9.4, math.nan, 0.7).held
    assert not check(9.4, math.nan, math.nan).held


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system has no such file")
def test_a_peak_is_forgotten_and_counted_anew() -> None:
    code = (
        "import torch; from bisector.cores import process_peak_bytes\n"
        "from benchmarks.growth import forget_process_peak, process_bytes\n"
        "torch.ones(2**26); before = process_bytes(); high = process_peak_bytes()\n"
        "assert forget_process_peak(); low = process_peak_bytes()\n"
        "torch.ones(2**24); print(high - before, low - before, process_peak_bytes() - before)"
    )
    program = [sys.executable, "-c", code]
    done = subprocess.run(program, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    high, low, again = (int(word) / 2**20 for word in done.stdout.split())
    assert high > 200  # 256 MiB came and went
    assert low < 20
    assert 50 < again < 100  # 64 MiB
    assert process_bytes() is not None
    assert process_peak_bytes() is not None
    assert forget_process_peak()


@pytest.mark.slow
def test_the_files_hold_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--folder", str(tmp_path / "data"), "--out", str(tmp_path / "found")]
    assert main([*SMALL, "--shrinkages", "none,oas", *places]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "found" / "meter.json").read_text(encoding="utf-8"))
    page = (tmp_path / "found" / "meter.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in page
    command = "python -m benchmarks.meter --rows 3000 --dim 24 --classes 40 --checked 5 --shrinkages none,oas"
    assert f"$ {command}\n" in page
    assert "3,000 embeddings of 24 dimensions, 40 classes" in printed
    assert found["rows"] == 3000
    assert found["share"] == pytest.approx(3000 * 24**2 / found["update_seconds"] / found["product_rate"])
    assert found["need"]["all_embeddings"] == 3000 * 24 * 4
    assert found["need"]["running_merge"] == 4 * (2000 * 24 + 40 * 24**2)
    assert 0 < found["held_bytes"] < 40 * 8 * 24 * 26
    (path,) = (tmp_path / "data").iterdir()
    table = pq.read_table(path)
    x = np.stack(table["embedding"].to_numpy()).astype(np.float64)
    labels = table["label"].to_numpy()
    assert np.bincount(labels).tolist() == lvis_like_counts(3000, 40).tolist()
    none, oas = found["readings"]
    assert [none["shrinkage"], oas["shrinkage"]] == ["none", "oas"]
    assert set(none["forms"]) == {"rows", "scatter"}
    assert sum(none["forms"].values()) == 40
    assert {check["form"] for check in none["checks"]} == {"rows", "scatter"}
    for check in none["checks"]:
        rows = x[labels == check["number"]]
        assert check["count"] == len(rows)
        covariance = np.cov(rows, rowvar=False, bias=True)
        expected = np.log2(np.linalg.eigvalsh(np.eye(24) + covariance)).sum() / 2
        assert check["exact"] == pytest.approx(expected, rel=1e-9)
        assert check["amount"] == pytest.approx(expected, rel=1e-6)
        assert check["bound"] == 0
    written = path.stat().st_mtime_ns
    assert main([*SMALL, "--memory-budget", "40kB", "--shrinkages", "oas,quadratic-inverse", *places]) == 0
    assert ", budget " in capsys.readouterr().out
    assert path.stat().st_mtime_ns == written  # the same embeddings
    found = json.loads((tmp_path / "found" / "meter.json").read_text(encoding="utf-8"))
    bounded, estimated = found["readings"]
    assert "sketch" in bounded["forms"]
    assert found["held_bytes"] <= 40_000
    for check in bounded["checks"]:
        assert check["error"] <= check["bound"] + 1e-6 * check["exact"]
    sketched = [check for check in estimated["checks"] if check["form"] == "sketch"]
    assert sketched
    assert all(math.isnan(check["bound"]) and check["estimate"] >= 0 for check in sketched)


MIB, GB = 2**20, 1e9


@pytest.mark.parametrize(
    ("instances", "dim", "classes", "queue", "all_embeddings", "scheme", "merged"),
    [
        (55_800, 128, 20, 11_517, "27.25", "11.87", "2.2"),
        (605_638, 128, 80, 68_182, "295.72", "78.29", "6.0"),
    ],
)
def test_the_papers_table(instances, dim, classes, queue, all_embeddings, scheme, merged):
    need = memory_need(instances, dim, classes, queue)
    assert f"{need.all_embeddings / MIB:.2f}" == all_embeddings
    assert f"{need.local_covariances / MIB:.2f}" == scheme
    assert f"{memory_need(instances, dim, classes, 2000).running_merge / MIB:.1f}" == merged


def test_the_papers_table_for_lvis():
    def need(queue):
        return memory_need(1_270_000, 1024, 1203, queue)

    assert f"{need(2000).all_embeddings / GB:.1f}" == "5.2"
    assert f"{need(2000).running_merge / GB:.1f}" == "5.1"
    # Whatever the queue, from a tenth of the data to all of it.
    assert min(need(1_270_000 * k // 100).local_covariances for k in range(10, 101)) > 12 * GB


def test_sizes_below_one_are_named():
    for name in ("instances", "dim", "num_classes", "queue", "bytes_per_number"):
        sizes = {"instances": 1, "dim": 1, "num_classes": 1, "queue": 1, "bytes_per_number": 1, name: 0}
        with pytest.raises(ArgumentError, match=f"{name}: got 0"):
            memory_need(**sizes)
