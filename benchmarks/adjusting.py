"""What `bisector adjust` takes of a large stored table, in seconds and memory, and how fast geometry scores rows.

Without --scoring: a Parquet file of synthetic embeddings and scores is written, its classes long-tailed, and
adjusted by each method in a process of its own. With --scoring: rows that are scored in a second, and the share of
that time which the matrix products alone take.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.script import Script, listed
from benchmarks.tables import Table
from bisector.benchmarks.timing import Step, interleaved
from bisector.cli.output import progress
from bisector.cores import process_peak_bytes
from bisector.errors import require_integer
from bisector.information.geometry import ClassGeometry
from bisector.information.meter import InformationMeter
from bisector.information.rows import places_by_class

_BATCH = 20_000
_PHASES = {"_read": "open", "_found": "fit", "_decide": "decide", "_try": "try"}
_NAMES = (*_PHASES.values(), "write")


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    script = Script("adjusting", (__doc__ or "").partition("\n")[0])
    add = script.parser.add_argument
    add(
        "--rows",
        type=int,
        default=1_000_000,
        help="of the table; 80%% train, 10%% validation (default: %(default)s)",
    )
    add("--dim", type=int, default=256, help="D (default: %(default)s)")
    add("--classes", type=int, default=1203, help="C (default: %(default)s)")
    add("--methods", default="geometry,prior", help="of bisector adjust (default: %(default)s)")
    add("--folder", type=Path, help="where the table is written, and stays (default: a temporary one)")
    add("--scoring", action="store_true", help="time the scoring of rows alone")
    add(
        "--top-k",
        type=int,
        default=20,
        help="of --scoring: classes that a row is scored by (default: %(default)s)",
    )
    add("--repeats", type=int, default=5, help="of --scoring (default: %(default)s)")

    def measure(arguments: argparse.Namespace) -> Mapping[str, Any]:
        for name, least in (("rows", 100), ("dim", 2), ("classes", 2), ("top_k", 1)):
            require_integer(f"--{name.replace('_', '-')}", getattr(arguments, name), least=least)
        listed(arguments.methods, "--methods")
        script.begin()
        return _scoring(script, arguments) if arguments.scoring else _adjusting(script, arguments)

    return script.main(measure, words)


class Tail:
    """Rows of long-tailed classes, each of a mean and a width, with the scores of a layer that knows the means."""

    def __init__(self, classes: int, dim: int) -> None:
        self.draw = torch.Generator().manual_seed(0)
        self.means = torch.randn(classes, dim, generator=self.draw) * (3 / math.sqrt(dim)) + 0.2
        self.widths = torch.rand(classes, generator=self.draw) + 0.5
        self.shares = 1 / torch.arange(1, classes + 1, dtype=torch.float64)

    def rows(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw embeddings (n, D), labels (n,) and scores (n, C)."""
        labels = torch.multinomial(self.shares, count, replacement=True, generator=self.draw)
        noise = torch.randn(count, self.means.shape[1], generator=self.draw)
        embeddings = self.means[labels] + self.widths[labels, None] * noise
        bias = self.shares.log().float() - self.means.square().sum(1) / 2
        return embeddings, labels, embeddings @ self.means.T + bias


def write_table(path: Path, rows: int, dim: int, classes: int) -> None:
    """Write the table batch by batch: training rows first, then validation rows, then test rows."""
    from bisector.data.tables.writer import EmbeddingWriter, group_rows

    tail = Tail(classes, dim)
    ends = {"train": rows * 8 // 10, "validation": rows * 9 // 10, "test": rows}
    names, size, start = list(map(str, range(classes))), group_rows(max(dim, classes)), 0
    with EmbeddingWriter(path, class_names=names, group_rows=size) as writer:
        for split, end in ends.items():
            while start < end:
                count = min(_BATCH, end - start)
                embeddings, labels, scores = tail.rows(count)
                losses = torch.nn.functional.cross_entropy(scores, labels, reduction="none")
                predictions = scores.argmax(1)
                writer.write(
                    embeddings,
                    labels,
                    predictions=predictions,
                    losses=losses,
                    scores=scores,
                    splits=[split] * count,
                )
                start += count
                progress(f"written: {start:,} rows")


def _adjusting(script: Script, arguments: argparse.Namespace) -> Mapping[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bisector-adjusting-") as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        table = folder / f"{arguments.rows}x{arguments.dim}x{arguments.classes}.parquet"
        if not table.exists():
            write_table(table, arguments.rows, arguments.dim, arguments.classes)
        found = {}
        for method in listed(arguments.methods, "--methods"):
            progress(f"bisector adjust --method {method}")
            words = ["adjust", str(table), "--method", method, "--out", str(Path(temporary) / method)]
            code = f"from benchmarks.adjusting import run_timed; run_timed({words!r})"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"bisector adjust --method {method} failed: {done.stderr.strip()[-500:]}")
            found[method] = json.loads(done.stdout.splitlines()[-1])
            for file in (Path(temporary) / method).iterdir():
                file.unlink()
        gibibytes = table.stat().st_size / 2**30
    rows = [
        [
            method,
            f"{one['seconds']:.0f}",
            *(f"{one['phases'].get(name, 0):.0f}" for name in _NAMES),
            f"{one['peak'] / 2**30:.2f}",
        ]
        for method, one in found.items()
    ]
    title = f"bisector adjust: {arguments.rows:,} rows, D = {arguments.dim}, C = {arguments.classes:,}"
    note = (
        f"Seconds, and GiB of the whole process at its peak; the file has {gibibytes:.1f} GiB. open: what is left "
        "out, and the reported rows' predictions; fit: the training rows' geometry too; decide: the reported rows; "
        "try: what is held out; write: all rows once more."
    )
    script.show(Table(title, ["method", "seconds", *_NAMES, "peak GiB"], rows, [note]))
    return {"rows": arguments.rows, "dim": arguments.dim, "classes": arguments.classes, "methods": found}


def run_timed(words: Sequence[str]) -> None:
    """Run a command line of `bisector adjust`, then print its seconds by phase and its peak memory as JSON."""
    from bisector.cli.adjusting import Adjusting
    from bisector.cli.main import main as command

    phases: dict[str, float] = {}

    def timed(call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            start = time.perf_counter()
            found = call(*arguments)
            phases[name] = phases.get(name, 0.0) + time.perf_counter() - start
            return found

        return run

    for method, name in _PHASES.items():
        setattr(Adjusting, method, timed(getattr(Adjusting, method), name))
    start = time.perf_counter()
    code = command(list(words))
    seconds = time.perf_counter() - start
    phases["write"] = seconds - sum(phases.values())
    print(json.dumps({"seconds": seconds, "phases": phases, "peak": process_peak_bytes() or 0}))
    sys.exit(code)


def _scoring(script: Script, arguments: argparse.Namespace) -> Mapping[str, Any]:
    classes, dim, k = arguments.classes, arguments.dim, min(arguments.top_k, arguments.classes)
    tail = Tail(classes, dim)
    meter = InformationMeter(classes, dim)
    train = arguments.rows
    for start in range(0, train, _BATCH):
        progress(f"training rows: {start:,}")
        meter.update(*tail.rows(min(_BATCH, train - start))[:2])
    geometry = ClassGeometry(meter)
    embeddings, _, scores = tail.rows(2048)
    chosen = scores.topk(k, dim=1).indices
    products = products_alone(geometry, embeddings, chosen)
    steps = {"scoring": Step(lambda: geometry.evidence(embeddings, chosen)), "products": Step(products)}
    found = interleaved(steps, arguments.repeats, torch.device("cpu"), progress)
    seconds = {name: median(times) for name, times in found.items() if isinstance(times, list)}
    rate, share = len(embeddings) / seconds["scoring"], seconds["products"] / seconds["scoring"]
    few = int((geometry.counts < dim).sum())
    title = f"Scoring {len(embeddings):,} rows by {k} of {classes:,} classes, D = {dim:,}"
    rows = [["scoring", f"{seconds['scoring']:.3f}", f"{rate:,.0f}", "1.00"]]
    rows += [["its products alone", f"{seconds['products']:.3f}", "", f"{share:.2f}"]]
    note = f"{train:,} training rows; {few:,} classes have fewer rows than dimensions. float64, medians, in turns."
    script.show(Table(title, ["", "seconds", "rows/s", "share"], rows, [note]))
    return {"seconds": found, "rows_per_second": rate, "share": share}


def products_alone(geometry: ClassGeometry, embeddings: Tensor, chosen: Tensor) -> Callable[[], None]:
    """Return the matrix products that `geometry.evidence` cannot do without, on operands that lie ready."""
    rows = embeddings.double()
    white = rows @ geometry._whiten
    flat = chosen.flatten()
    operands = [
        (white[places // chosen.shape[1]], factor.matrix)
        for c, places in places_by_class(flat)
        if (factor := geometry._factor(c)).matrix is not None
    ]

    def run() -> None:
        torch.mm(rows, geometry._whiten)
        for deviations, matrix in operands:
            torch.mm(deviations, matrix)

    return run


if __name__ == "__main__":
    sys.exit(main())
