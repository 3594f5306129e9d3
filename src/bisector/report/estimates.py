"""What a comparison will take, as a table."""

from collections.abc import Sequence

from bisector.data.dataset import Dataset
from bisector.training.dry_run import Estimate
from bisector.training.processes import AnyCell


def format_estimates(
    estimates: Sequence[Estimate], cells: Sequence[AnyCell], left: Sequence[AnyCell], data: str, jobs: int
) -> str:
    """Return the table of a dry run and its sum.

    Args:
        estimates: one a head.
        cells: of the comparison.
        left: those of them that are not done yet.
        data: what there is to train on, in a line.
        jobs: trainings at a time.
    """
    width = max(len(e.head) for e in estimates)
    lines = [
        data,
        "",
        f"{'Head':<{width}}  {'Parameters':>11}  {'Steps':>9}  {'ms a step':>9}  {'A training':>10}  {'Memory':>9}",
    ]
    lines += [
        f"{e.head:<{width}}  {e.parameters:>11,}  {e.steps:>9,}  {1e3 * e.step_seconds:>9.1f}  "
        f"{duration(e.seconds):>10}  {e.memory / 2**20:>5,.0f} MiB"
        for e in estimates
    ]
    seconds = {e.head: e.seconds for e in estimates}
    known = max(seconds.values())
    total = sum(seconds.get(c.head, known) * c.epochs / c.recipe.epochs for c in left)
    most = sum(sorted((e.memory for e in estimates), reverse=True)[:1]) * min(jobs, max(len(left), 1))
    longest = max((seconds.get(c.head, known) * c.epochs / c.recipe.epochs for c in left), default=0.0)
    time = duration(max(longest, total / jobs))
    lines += [
        "",
        f"Trainings: {len(cells)}, {len(cells) - len(left)} done; {jobs} at a time: about {time} and "
        f"{most / 2**20:,.0f} MiB in all, besides some seconds to start.",
    ]
    return "\n".join(lines)


def size_of(dataset: Dataset) -> str:
    """Say how many classes and examples there are."""
    parts = ", ".join(f"{len(getattr(dataset, part)):,} {part}" for part in ("train", "validation", "test"))
    return f"{dataset.name}: {dataset.num_classes:,} classes; examples: {parts}"


def duration(seconds: float) -> str:
    """Say a time as a person would.

    >>> duration(42.3), duration(75), duration(7500)
    ('42 s', '1 min 15 s', '2 h 05 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.0f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
