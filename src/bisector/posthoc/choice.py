"""Choose among adjustments: all are cross-validated on the same folds, and none is taken without a clear gain."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bisector.posthoc.adjustment import Adjustment, BaseAdjustment
from bisector.posthoc.fit import balanced_mean, cross_validated_logits, fit_offsets


def choose(
    found: Mapping[str, Callable[..., BaseAdjustment]],
    logits: Tensor,  # (N, C) float64
    labels: Tensor,  # (N,) int64
    embeddings: Tensor | None = None,  # (N, D)
    *,
    seed: int = 0,
    note: str = "",
) -> BaseAdjustment:
    """Return the adjustment of the lowest cross-validated balanced cross-entropy, fitted on all rows; or none.

    None unless it lowers that of a temperature alone by more than one standard error: offsets of 0 then, by method
    "none".

    Args:
        found: how each is fitted, by name; see `cross_validated_logits`.
        logits: of rows that the model has not seen.
        labels: their classes.
        embeddings: of the same rows, where there are any.
        seed: of the folds, which are the same for all.
        note: of what could not be tried, for the description.
    """

    def losses(fit: Callable[..., BaseAdjustment]) -> Tensor:
        after = cross_validated_logits(logits, labels, fit, embeddings, seed=seed)
        return cross_entropy(after, labels, reduction="none")

    before = losses(_temperature)
    tried = {name: balanced_mean(before - losses(fit), labels) for name, fit in found.items()}
    gains = ", ".join(
        f"{name} {mean:+.3g} nats (standard error {error:.2g})" for name, (mean, error) in tried.items()
    )
    told = "; ".join(
        filter(None, [f"balanced log-loss gained on {len(labels):,} rows, cross-validated: {gains}", note])
    )
    best = max(tried, key=lambda name: tried[name][0], default="")
    if not best or tried[best][0] <= tried[best][1]:
        nothing = torch.zeros(logits.shape[1], dtype=torch.float64, device="cpu")
        return Adjustment(nothing, method="none", description=f"no change, for none gains clearly; {told}")
    more: dict[str, Any] = {} if embeddings is None else {"embeddings": embeddings}
    one = found[best](logits, labels, **more)
    return replace(one, description=f"chosen among {len(tried)}; {told}; {one.description}")  # type: ignore[type-var]


def _temperature(logits: Tensor, labels: Tensor, embeddings: Tensor | None = None) -> Adjustment:
    """Return no offsets and the temperature of least balanced cross-entropy."""
    nothing = torch.zeros(logits.shape[1], 1, dtype=torch.float64, device="cpu")
    return fit_offsets(logits, labels, directions=nothing).adjustment
