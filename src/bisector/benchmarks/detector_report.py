"""What IGAM costs a detector, as tables."""

from dataclasses import asdict
from statistics import median
from typing import Any

from bisector.benchmarks.detector import DetectorRun, Machinery
from bisector.benchmarks.memory import binary
from bisector.benchmarks.tables import Table, seconds


def detector_table(run: DetectorRun) -> Table:
    """Return the steps of both models, and the parts that differ."""
    rows = []
    for name, steps in (("torchvision", run.plain), ("with IGAM", run.attached)):
        whole, classify = (median(getattr(step, part) for step in steps) for part in ("whole", "classify"))
        observe = run.observe if steps is run.attached else 0.0
        share = f"{median(run.overheads):+.1%}" if steps is run.attached else "–"
        rows.append([name, seconds(whole), share, seconds(classify), seconds(observe)])
    pairs = ", ".join(f"{overhead:+.1%}" for overhead in run.overheads)
    height, width = run.size
    notes = [
        f"Medians of {len(run.plain)} steps of each, in turns, after one that warms up; pair by pair: {pairs}.",
        f"Measured apart, what differs (classification and meter) makes {run.parts:+.2%} of the plain step.",
        f"The meter: mean of 300 steps of {run.observed} objects, once 300 are in it; its refresh, once an epoch, "
        f"took {seconds(run.refresh)} s.",
    ]
    title = f"{run.model}, {run.classes} classes: {run.images} images of {height} x {width}, {run.rois} boxes"
    return Table(title, ["training step", "seconds", "", "classification", "meter"], rows, notes)


def machinery_table(found: Machinery) -> Table:
    """Return the memory of all that IGAM adds."""
    rows = [
        ["the meter's tensors after an epoch", binary(found.held)],
        ["scratch of one loss with gradients, 512 boxes", binary(found.loss)],
        ["classes held approximately", f"{found.sketched:,}"],
        ["observe, all rows", seconds(found.observe_seconds)],
        ["refresh, once an epoch", seconds(found.refresh_seconds)],
    ]
    if found.process is not None:
        rows.insert(1, ["the process at its peak, more than before", binary(found.process)])
    limit = "no limit" if found.budget is None else f"a budget of {binary(found.budget)}"
    title = f"{found.classes:,} classes x {found.dim:,} dimensions, {found.rows:,} embeddings, {limit}"
    return Table(title, ["IGAM's machinery", ""], rows)


def detector_record(run: DetectorRun, machinery: Machinery | None) -> dict[str, Any]:
    """Return everything as builtins, for JSON."""
    found = {**asdict(run), "overheads": run.overheads, "parts": run.parts}
    return {"step": found, "machinery": None if machinery is None else asdict(machinery)}
