"""Print the tables of the documentation: Markdown, from the comparison.json that `bisector compare` wrote.

python docs/tables.py runs/fashion/comparison.json
"""

import math
import statistics
import sys
from pathlib import Path

from bisector.metrics.summary import METRICS
from bisector.metrics.verification import Verification
from bisector.report.differences import differences_of
from bisector.report.words import head_label
from bisector.training.results import Comparison

COLUMNS = ("balanced_accuracy", "many", "few", "worst_class", "spread")
FARS = (1e-2, 1e-3, 1e-4)


def main(path: Path) -> None:
    """Print the table of accuracies with the differences, and that of the verification if there is one."""
    comparison = Comparison.read(path)
    infos = {info.key: info for info in METRICS}
    titles = [f"{infos[key].label.lower()} {infos[key].unit}" for key in COLUMNS]
    base = head_label(comparison.baseline_head)
    rows = {head: found["balanced_accuracy"] for head, found in differences_of(comparison).items()}
    _line("head", *titles, f"balanced accuracy less that of {base}, 95% interval")
    _line(*["---"] * (len(COLUMNS) + 2))
    for head in comparison.heads:
        runs = [run for run in comparison.runs if run.head == head]
        cells = [_cell([infos[key].scale * run.metrics[key] for run in runs]) for key in COLUMNS]
        _line(head_label(head), *cells, _difference(rows.get(head)))
    verified = [run for run in comparison.runs if run.verification is not None]
    if verified:
        print()
        _line("head", "EER %", *(f"TAR % at FAR {far:g}" for far in FARS), "FAR % at the threshold for 0.001")
        _line(*["---"] * (len(FARS) + 3))
    for run in verified:
        found = Verification.from_dict(run.verification or {})
        tars = (f"{100 * found.tar[far]:.1f}" for far in FARS)
        carried = found.carried.get(1e-3)
        far = "–" if carried is None else f"{100 * carried.far:.3f}"
        _line(head_label(run.head), f"{100 * found.eer:.2f}", *tars, far)


def _cell(values: list[float]) -> str:
    known = [value for value in values if math.isfinite(value)]
    if len(known) < 2:
        return f"{known[0]:.1f}" if known else "–"
    return f"{statistics.fmean(known):.1f} ± {statistics.stdev(known):.1f}"


def _difference(found: object) -> str:
    if found is None:
        return ""
    mean, low, high = (100 * value for value in tuple(found)[:3])  # type: ignore[call-overload]
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]" if math.isfinite(low) else f"{mean:+.1f}"


def _line(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
