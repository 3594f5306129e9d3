"""What `--dry-run` says of a comparison, of classifiers or of detectors."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisector.cli.output import say
from bisector.training.recipe import Machine

if TYPE_CHECKING:
    from bisector.training.processes import AnyCell


def dry_run(
    data: str,
    plan: "Callable[[], tuple[Sequence[AnyCell], str]]",
    *,
    cells: Path,
    machine: Machine,
    jobs: int | None,
    keep: bool = False,
) -> dict[str, Any]:
    """Train each head for some steps, say what all trainings would take, and return it."""

    def tell(line: str) -> None:
        print(f"dry run: {line}", file=sys.stderr, flush=True)

    tell(f"reading {data}")  # before what takes seconds to import
    from bisector.report.training import format_estimates
    from bisector.training.dry_run import estimate
    from bisector.training.processes import default_jobs

    planned, told = plan()
    left = [cell for cell in planned if cell.done(cells, keep=keep) is None]
    ordinary = [cell for cell in planned if cell.epochs == cell.recipe.epochs]
    at_a_time = default_jobs(machine) if jobs is None else jobs
    found = estimate(ordinary, machine, tell)
    say(format_estimates(found, planned, left, told, at_a_time))
    return {"estimates": found, "trainings": len(planned), "left": len(left), "at_a_time": at_a_time}
