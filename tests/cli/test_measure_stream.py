"""`measure` on streams: engines, formats, mistakes, and processes that are killed."""

import csv
import json
import logging
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisector.cli import measure as command_of
from bisector.cli.main import main
from bisector.errors import ArgumentError
from bisector.measurement.measurement import Measurement
from bisector.measurement.stream import dask_engine
from stream_cases import numbers, write_stream

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
KILLS = 5
ROOT = "L6-0.pt"  # of forty leaves
STREAM = ("e", "--engine", "stream", "--leaf-rows", "4000")
TWO_WORKERS = ("e", "--engine", "dask", "--workers", "2", "--leaf-rows", "4000")


def start(*words: str, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "bisector", "measure", *words],
        env=ENVIRONMENT,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[bytes]) -> str:
    said = process.communicate(timeout=600)[1].decode()
    assert process.returncode == 0, said
    return said


def nodes(out: Path) -> int:
    return len(list(out.glob("partials/*/L*.pt")))


def wait_for(condition, process: subprocess.Popen[bytes], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with forty files of 4,000 rows, and what one process that nobody interrupts says of them."""
    folder = tmp_path_factory.mktemp("many")
    write_stream(folder / "e", rows=160_000, dim=48, classes=60, group=4000)
    finish(start(*STREAM, "--out", "whole", folder=folder))
    return folder


def same(folder: Path, out: str) -> None:
    """The measurement of another engine, another life or another number of workers has the same bits."""
    assert numbers(folder / out / "measure.json") == numbers(folder / "whole" / "measure.json")
    assert (folder / out / "classes.csv").read_bytes() == (folder / "whole" / "classes.csv").read_bytes()
    assert [file.name for file in (folder / out / "partials").iterdir()] == ["lock"]


def test_a_stream_writes_tables_in_every_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_stream(tmp_path / "e", broken=5)
    for kind in ("csv", "parquet", "json"):
        assert (
            main(
                ["measure", "e", "--engine", "stream", "--leaf-rows", "300", "--format", kind, "--out", kind]
            )
            == 0
        )
    said = capsys.readouterr()
    assert "Left out: 5 rows: its vector is missing or not finite" in said.out
    lines = said.err.splitlines()
    assert len(lines) == 33  # which columns were taken, and each tenth
    assert lines[0].startswith("bisector measure: columns: 'embedding' as embeddings, 'label' as labels, ")
    assert lines[10].startswith("bisector measure: 100% (3,000 of 3,000 rows), ")
    for kind in ("csv", "parquet", "json"):
        assert not list(Path(kind).glob("partials/measured-*"))
        assert (Path(kind) / "measure.html").is_file()
        with (Path(kind) / "classes.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["class"] for row in rows] == list("0123456")
        found = Measurement.read(Path(kind) / "measure.json")
        assert found.streamed
        assert [row["amount"] for row in rows] == [str(one.amount) for one in found.classes]
    table = pq.read_table("parquet/classes.parquet")
    assert table.schema.field("amount").type == pa.float64()
    assert table.schema.field("count").type == pa.int64()
    listed = json.loads(Path("json/classes.json").read_text())
    assert table.to_pylist() == listed
    for one, row in zip(found.classes, listed, strict=True):
        for name, value in row.items():
            held = one.name if name == "class" else getattr(one, name)
            assert value == held or (value is None and math.isnan(held)), name


def test_the_engine_follows_the_size_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_stream(tmp_path / "e")
    assert main(["measure", "e", "--out", "small"]) == 0
    assert "0 MiB of vectors and scores (1,024 is the limit): --engine memory" in capsys.readouterr().err
    assert not Measurement.read(Path("small/measure.json")).streamed
    monkeypatch.setattr(command_of, "IN_MEMORY", 3000 * 6 * 4)
    assert main(["measure", "e", "--out", "large"]) == 0
    assert "--engine stream, in bounded memory" in capsys.readouterr().err
    assert Measurement.read(Path("large/measure.json")).streamed


def test_options_reach_both_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_stream(tmp_path / "e", split=False)
    Path("ap.csv").write_text("class,AP\n" + "".join(f"{c},{c / 10}\n" for c in range(7)))
    words = ["--shrinkage", "oas", "--embeddings", "raw", "--equal-count", "30", "--scores", "ap.csv"]
    found = []
    for engine in ("memory", "stream"):
        assert main(["measure", "e", "--engine", engine, *words, "--out", engine]) == 0
        found.append(Measurement.read(Path(engine) / "measure.json"))
    memory, stream = found
    np.testing.assert_allclose(
        [one.amount for one in memory.classes], [one.amount for one in stream.classes], rtol=1e-5
    )
    for one in found:
        assert (one.shrinkage, one.embeddings, one.equal_count) == ("oas", "raw", 30)
        assert [score.name for score in one.scores] == ["accuracy", "AP"]
        assert sum(math.isfinite(each.equal_amount) for each in one.classes) >= 5


def test_partials_are_kept_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_stream(tmp_path / "e")
    words = ["measure", "e", "--partials", "kept", "--keep-partials", "--memory-budget", "1MiB", "--out", "o"]
    assert main(words) == 0
    assert len(list(Path("kept").glob("*/L0-0.pt"))) == 1
    assert not Path("o/partials").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["absent", "--engine", "stream"], "absent, which is not there"),
        (["e", "--engine", "memory", "--memory-budget", "1GiB"], "--memory-budget"),
        (["e", "--engine", "stream", "--scheduler", "tcp://127.0.0.1:1"], "--scheduler"),
        (["e", "--memory-budget", "lots"], "a size such as 2GiB"),
        (["e", "--engine", "straem"], "did you mean 'stream'"),
        (["e", "--engine", "stream", "--shrinkage", "oaz"], "did you mean 'oas'"),
        (["e", "--engine", "stream", "--equal-count", "1"], "--equal-count"),
        (["absent", "--equal-count", "0"], "--equal-count"),
        (["e", "--engine", "stream", "--partials", "a-file"], "a-file is a file"),
        (["e", "--engine", "stream", "--leaf-rows", "-4"], "--leaf-rows"),
        (["absent", "--leaf-rows", "0"], "--leaf-rows: got 0"),
        (["absent", "--workers", "0"], "--workers: got 0"),
        (["absent", "--workers", "-1"], "--workers: got -1"),
        (["absent", "--workers", "2", "--scheduler", "tcp://host:1"], "--workers: got 2 with --scheduler"),
        (["e", "--engine", "stream", "--equal-count", "90", "--memory-budget", "2kB"], "expected at most "),
        (["e", "--out", "e", "--format", "parquet"], "in the folder of embeddings e"),
        (["e", "--scores", "runs/../runs/measure/classes.csv"], "would be written over"),
        (["e", "--format", "xml"], "parquet"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[[list[str]], str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a-file").write_text("in the way")
    write_stream(tmp_path / "e", rows=100)
    said = refused(["measure", *words])
    assert told in said


def damage(path: Path) -> None:
    """Overwrite where the first pages of the vectors begin; the index, and the labels, stay."""
    content = bytearray(path.read_bytes())
    content[4:2004] = b"\xff" * 2000
    path.write_bytes(content)


def test_a_damaged_file_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_stream(tmp_path / "e", rows=8000, group=2000)
    damage(tmp_path / "e" / "0002.parquet")
    assert main(["measure", "e", "--engine", "stream", "--leaf-rows", "2000"]) == 2
    require_named(capsys.readouterr().err)


def require_named(said: str) -> None:
    last = said.splitlines()[-1]
    assert last.startswith("bisector measure: error: file: "), said
    assert "0002.parquet, row group 0" in last
    assert "Traceback" not in said


@pytest.mark.slow
def test_killed_again_and_again_it_ends_in_the_same_bits(many: Path) -> None:
    """The first life has a cluster of two workers, whom nobody tells; the others are one process each."""
    draw, kills, out = random.Random(5), 0, many / "killed"
    for life in range(KILLS):
        before = {file.name for file in out.glob("partials/*/L*")}
        process = start(*(TWO_WORKERS if life == 0 else STREAM), "--out", "killed", folder=many)

        def went_on(before: set[str] = before) -> bool:
            return any(file.name not in before for file in out.glob("partials/*/*L*.pt*"))

        wait_for(went_on, process)
        time.sleep(draw.uniform(0, 0.15))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if list(out.glob(f"partials/*/{ROOT}")):  # all was measured before the signal came
            break
        kills += 1
    assert kills >= 3
    said = finish(start(*STREAM, "--out", "killed", folder=many))
    assert "going on from the partials in" in said
    same(many, "killed")


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_changes_nothing(many: Path) -> None:
    psutil = pytest.importorskip("psutil")
    out = many / "worker"
    process = start(*TWO_WORKERS, "--out", "worker", folder=many)
    wait_for(lambda: nodes(out) >= 2, process)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if any("spawn_main" in word for word in child.cmdline())
    ]
    assert len(workers) == 2
    workers[0].send_signal(signal.SIGKILL)
    assert process.poll() is None
    finish(process)
    same(many, "worker")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler and two workers, one of them with two threads, each a process that stands elsewhere."""
    folder = tmp_path_factory.mktemp("cluster")
    file = folder / "scheduler.json"

    def process(module: str, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                f"distributed.cli.{module}",
                "--no-dashboard",
                "--scheduler-file",
                str(file),
                *words,
            ],
            env=ENVIRONMENT,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    processes = [process("dask_scheduler", "--host", "127.0.0.1", "--port", "0")]
    own = ("--local-directory", str(folder))
    processes += [process("dask_worker", "--nthreads", threads, *own) for threads in ("1", "2")]
    wait_for(lambda: file.exists() and file.stat().st_size > 0, processes[0])
    yield json.loads(file.read_text())["address"]
    for each in reversed(processes):
        each.terminate()
    for each in processes:
        try:
            each.wait(20)
        except subprocess.TimeoutExpired:
            each.kill()


@pytest.mark.slow
def test_a_cluster_elsewhere_gives_the_same_bits(
    cluster: str, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(many)
    words = ["measure", "e", "--scheduler", cluster, "--leaf-rows", "4000", "--out", "elsewhere"]
    assert main(words) == 0
    same(many, "elsewhere")


@pytest.mark.slow
def test_what_is_wrong_on_a_cluster_is_one_line_too(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_stream(tmp_path / "e", rows=8000, group=2000)
    words = ["measure", "e", "--scheduler", cluster, "--leaf-rows", "2000"]
    damage(tmp_path / "e" / "0002.parquet")
    assert main(words) == 2
    require_named(capsys.readouterr().err)
    monkeypatch.setattr(dask_engine, "_versions", lambda: ("0.0", "0.0"))
    assert main(words) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "workers: got tcp://127.0.0.1:" in last
    assert "not 0.0 and 0.0" in last


def test_a_worker_that_does_not_see_what_this_process_sees_says_so(tmp_path: Path) -> None:
    token, file = tmp_path / "p" / "token", tmp_path / "e"
    versions = dask_engine._versions()
    assert "does not see the folder of partials" in dask_engine._problem(str(token), [], versions)
    token.parent.mkdir()
    token.touch()
    assert dask_engine._problem(str(token), [], versions) == ""
    file.write_bytes(b"123")
    assert dask_engine._problem(str(token), [(str(file), 3)], versions) == ""
    for files in ([(str(file), 4)], [(str(tmp_path / "other"), 3)]):
        assert f"does not see {files[0][0]}" in dask_engine._problem(str(token), files, versions)


@pytest.mark.slow
def test_a_scheduler_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dask_engine, "_WAIT", 3.0)
    write_stream(tmp_path / "e", rows=100)
    told = {
        "tcp://127.0.0.1:1": "scheduler: got tcp://127.0.0.1:1, which does not answer",
        "what?": "--scheduler: got what?; expected an address such as tcp://host:8786",
    }
    for address, line in told.items():
        assert main(["measure", "e", "--scheduler", address]) == 2
        said = capsys.readouterr().err
        assert line in said
        assert said.count("\n") == 1, said


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs the peak memory of a child")
def test_peak_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """The same command on 8 MB and on 1 GiB of vectors: what the second needs more is a fraction of that."""
    rng = np.random.default_rng(0)
    dim, rows, groups = 256, 65_536, 16
    x = rng.normal(size=(rows, dim)).astype(np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), dim)
    table = pa.table({"embedding": vectors, "label": rng.integers(0, 20, rows)})
    with pq.ParquetWriter(
        tmp_path / "large.parquet", table.schema, compression="none", use_dictionary=False
    ) as file:
        for _ in range(groups):
            file.write_table(table, row_group_size=rows)
    pq.write_table(table.slice(0, 8000), tmp_path / "small.parquet")
    peaks = []
    for name in ("small", "large"):
        words = [f"{name}.parquet", "--engine", "stream", "--leaf-rows", "100000", "--out", name]
        process = start(*words, folder=tmp_path)
        said = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, said
        peaks.append(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    grown, size = peaks[1] - peaks[0], (tmp_path / "large.parquet").stat().st_size
    shutil.rmtree(tmp_path, ignore_errors=True)
    assert grown < size / 4, f"{grown / 2**20:.0f} MiB more for {size / 2**20:.0f} MiB; {peaks}"


def test_an_array_that_lies_column_by_column_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    x = np.asfortranarray(np.random.default_rng(0).normal(size=(80, 3)))
    np.savez("e.npz", x=x, y=np.arange(80) % 4)
    assert main(["measure", "e.npz"]) == 0
    assert "expected row by row: --engine memory reads" in capsys.readouterr().err
    assert not Measurement.read(Path("runs/measure/measure.json")).streamed
    assert main(["measure", "e.npz", "--engine", "stream"]) == 2
    assert "--engine memory reads the whole file" in capsys.readouterr().err


def test_scores_count_for_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("e.npz", x=rng.normal(size=(80, 3)), y=np.arange(80) % 20, scores=rng.normal(size=(80, 20)))
    monkeypatch.setattr(command_of, "IN_MEMORY", 80 * 23 * 4)
    assert main(["measure", "e.npz"]) == 0
    assert "--engine stream" in capsys.readouterr().err


def test_the_scores_of_the_user_stay_in_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_stream(tmp_path / "e")
    mine = "class,AP\n" + "".join(f"{c},{c / 10}\n" for c in range(7))
    Path("scores.csv").write_text(mine)
    for words in (["--scores", "scores.csv"], []):
        assert main(["measure", "e", "--engine", "stream", *words, "--out", "."]) == 0
        assert Path("scores.csv").read_text() == mine


def test_a_cluster_without_a_worker_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(dask_engine, "_GONE", 0.5)
    monkeypatch.setattr(dask_engine, "_LOOK", 0.1)
    ended: Queue[Any] = Queue()
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        future = client.submit(abs, -1)
        future.add_done_callback(ended.put)
        with pytest.raises(
            OSError, match=r"no worker has been there for . seconds; the same command goes on"
        ):
            dask_engine._next(client, ended)
        cluster.scale(1)
        assert dask_engine._next(client, ended).result() == 1


def test_the_words_of_dask_are_told_again_afterwards() -> None:
    pytest.importorskip("distributed")
    logger = logging.getLogger("distributed")
    before = logger.level
    with pytest.raises(ArgumentError, match="does not answer"), dask_engine._client("what?", None):
        pass
    assert logger.level == before
