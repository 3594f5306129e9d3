"""Several runs side by side: mean and deviation over the seeds, and the difference from one head, seed by seed."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bisector.detection.evaluation.scores import BOX_METRICS, BoxScores
from bisector.errors import require
from bisector.statistics.paired import PairedDifference, paired_difference

ScoredRun = tuple[str, int, BoxScores]  # head, seed, scores


@dataclass(frozen=True)
class ComparedScores:
    """One head over its seeds. Every dictionary is by the keys of `BOX_METRICS`.

    Args:
        head: its name.
        seeds: in ascending order.
        mean: of the runs in which the metric is not NaN; NaN without any.
        deviation: sample standard deviation over them; NaN with fewer than two.
        difference: mean difference from the baseline over the seeds of both, with its 95% interval; empty for the
            baseline.
    """

    head: str
    seeds: tuple[int, ...]
    mean: dict[str, float]
    deviation: dict[str, float]
    difference: dict[str, PairedDifference]


def compare_scores(runs: Sequence[ScoredRun], baseline: str | None = None) -> list[ComparedScores]:
    """Summarise runs, an entry a head in the order in which they come.

    Heads that were trained with the same seed on the same data share what the seed decides, which a paired
    difference takes out. With two or three seeds the interval is as wide as it should be; with one there is none.

    Args:
        runs: `(head, seed, scores)`.
        baseline: the head that differences are taken from; the first if not given.

    Raises:
        ArgumentError: if a head was run twice with a seed, the baseline was not run, or classes differ.
        MissingExtraError: without scipy, where a head has two seeds in common with the baseline.
    """
    of: dict[str, dict[int, BoxScores]] = {}
    for head, seed, scores in runs:
        by_seed = of.setdefault(head, {})
        require(seed not in by_seed, "runs", f"{head} with seed {seed} twice", "each seed of a head once")
        same = scores.class_names == runs[0][2].class_names
        require(same, "runs", f"other classes in {head} with seed {seed}", "runs on the same classes")
        by_seed[seed] = scores
    baseline = next(iter(of), "") if baseline is None else baseline
    require(not of or baseline in of, "baseline", repr(baseline), f"one of {', '.join(of)}")
    values = {
        head: {seed: scores.values() for seed, scores in sorted(by_seed.items())}
        for head, by_seed in of.items()
    }
    return [_compared(head, values, baseline) for head in values]


def _compared(head: str, values: dict[str, dict[int, dict[str, float]]], baseline: str) -> ComparedScores:
    own, base = values[head], values[baseline]
    keys = [info.key for info in BOX_METRICS]
    known = {key: [v[key] for v in own.values() if math.isfinite(v[key])] for key in keys}
    both = [seed for seed in own if seed in base]
    difference = {
        key: paired_difference(
            torch.tensor([own[seed][key] for seed in both], dtype=torch.float64),
            torch.tensor([base[seed][key] for seed in both], dtype=torch.float64),
        )
        for key in keys
        if head != baseline
    }
    return ComparedScores(
        head,
        tuple(own),
        {key: statistics.fmean(v) if v else math.nan for key, v in known.items()},
        {key: statistics.stdev(v) if len(v) > 1 else math.nan for key, v in known.items()},
        difference,
    )
