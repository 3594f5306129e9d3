"""What a guide costs, as a table."""

from statistics import median
from typing import Any

from bisector.benchmarks.guide import GuideRun
from bisector.benchmarks.tables import Table, seconds


def guide_table(run: GuideRun) -> Table:
    """Return the epochs and where the time goes."""
    shares = run.shares()
    base = median(epoch.whole for epoch in run.plain)
    rows = [[f"epoch, {run.plain_head}", seconds(base), _extent([epoch.whole for epoch in run.plain]), "–"]]
    rows.append([
        f"epoch, {run.guided_head} with its guide",
        seconds(median(epoch.whole for epoch in run.guided)),
        _extent([epoch.whole for epoch in run.guided]),
        f"{shares['overhead']:+.1%}",
    ])  # fmt: skip
    for name, what in (("observe", "after the steps: observe"), ("refresh", "after the epoch: refresh")):
        taken = [getattr(epoch, name) for epoch in run.guided]
        rows.append([what, seconds(median(taken)), _extent(taken), f"{shares[name]:+.1%}"])
    rows.append(
        ["the rest: the loss, and noise", seconds(shares["loss"] * base), "–", f"{shares['loss']:+.1%}"]
    )
    lengths = ", ".join(f"{overhead:+.1%}" for overhead in run.overheads)
    notes = [
        f"Medians of {len(run.plain)} epochs of each, in turns, after one that warms up; the overhead is the "
        f"median of the pairs': {lengths}."
    ]
    title = f"{run.data}: {run.steps:,} steps of {run.batch_size}, D = {run.dim}"
    return Table(title, ["", "seconds", "min … max", "of the plain epoch"], rows, notes)


def guide_record(run: GuideRun) -> dict[str, Any]:
    """Return everything as builtins, for JSON."""
    epochs = {name: [vars(epoch) for epoch in getattr(run, name)] for name in ("plain", "guided")}
    return {**vars(run), **epochs, "overheads": run.overheads, "shares": run.shares()}


def _extent(values: list[float]) -> str:
    return f"{seconds(min(values))} … {seconds(max(values))}"
