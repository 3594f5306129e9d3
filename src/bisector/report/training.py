"""What one training came to, in some lines."""

import math
import shlex
from pathlib import Path

from bisector.data.dataset import Dataset
from bisector.metrics.summary import METRICS
from bisector.report.estimates import duration, size_of
from bisector.report.verification import format_verification, verifications
from bisector.training.results import Run


def format_run(run: Run, dataset: Dataset, folder: Path) -> str:
    """Return the metrics of a training, its weakest classes, and where its files are."""
    part = "validation" if dataset.open_set else "test"
    lines = [f"{run.head} on {dataset.name}, seed {run.seed}: {duration(run.seconds)}", size_of(dataset), ""]
    if dataset.open_set:
        lines += ["Classes that were trained on, in the validation part:", ""]
    for info in METRICS:
        value = info.scale * run.metrics.get(info.key, math.nan)
        if math.isfinite(value):
            digits = 1 if info.unit else 3
            lines.append(f"{info.label:<28} {value:>8.{digits}f} {info.unit}".rstrip())
    known = [(a, c) for c, a in enumerate(run.class_accuracy) if math.isfinite(a)]
    weakest = ", ".join(f"{dataset.class_names[c]} {100 * a:.0f}%" for a, c in sorted(known)[:5])
    lines += ["", f"Weakest classes on the {part} part: {weakest}"]
    if run.verification is not None:
        lines += ["", "Classes never trained on:", "", format_verification(verifications([run]))]
    return "\n".join(
        [*lines, f"\nEverything is in {folder}; next: bisector embed {shlex.quote(str(folder))}"]
    )
