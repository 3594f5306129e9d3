"""Choose among adjustments: all are cross-validated on the same folds, and none is taken without a clear gain."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bisector.errors import ArgumentError
from bisector.posthoc.adjustment import Adjustment, BaseAdjustment
from bisector.posthoc.fit import LEAST_GAIN, balanced_mean, cross_validated_logits, fit_temperature
from bisector.posthoc.geometry import GeometryAdjustment


def choose(
    found: Mapping[str, Callable[..., BaseAdjustment]],
    logits: Tensor,  # (N, C) float64
    labels: Tensor,  # (N,) int64
    geometry: GeometryAdjustment | None = None,
    *,
    seed: int = 0,
    note: str = "",
) -> BaseAdjustment:
    """Return the geometry where it is not the identity, else the best of other adjustments; or none.

    The best is that of the lowest cross-validated balanced cross-entropy, fitted on all rows; none unless it lowers
    that of a temperature alone by more than one standard error and 0.0001 nats, and does not lower the balanced
    accuracy, and none for rows of one class: offsets of 0 then, by method "none". What cannot be fitted is named in
    the description.

    Args:
        found: how each is fitted, by name; see `cross_validated_logits`.
        logits: of rows that the model has not seen.
        labels: their classes.
        geometry: fitted on the same rows and folds, and the identity unless it gains clearly.
        seed: of the folds, which are the same for all.
        note: of what could not be tried, for the description.
    """

    def judged(fit: Callable[..., BaseAdjustment]) -> tuple[Tensor, float]:
        """Return the loss of each row, and the balanced accuracy."""
        after = cross_validated_logits(logits, labels, fit, seed=seed)
        right = (after.argmax(1) == labels).double()
        return cross_entropy(after, labels, reduction="none"), balanced_mean(right, labels)[0]

    before, own = judged(_temperature)
    tried: dict[str, tuple[float, float]] = {}
    notes, lower = [note] if note else [], []
    for name, fit in found.items():
        try:
            after, accuracy = judged(fit)
        except ArgumentError as error:
            notes.append(f"{name} cannot be fitted ({error})")
            continue
        tried[name] = balanced_mean(before - after, labels)
        if accuracy < own:
            lower.append(name)
    if geometry is not None:
        tried["geometry"] = geometry.settings["log_loss_gain"], geometry.settings["standard_error"]
    gains = ", ".join(
        f"{name} {mean:+.3g} nats (standard error {error:.2g}"
        + ", but balanced accuracy falls" * (name in lower)
        + ")"
        for name, (mean, error) in tried.items()
    )
    told = f"balanced log-loss gained on {len(labels):,} rows, cross-validated: {gains or 'nothing could be tried'}"
    told = "; ".join([told, *notes])
    among = f"chosen among {len(tried)}; {told}"
    one_class = len(set(labels.tolist())) < 2
    if geometry is not None and not geometry.is_identity and not one_class:
        return replace(geometry, description=f"{among}; {geometry.description}")
    clear = [name for name in found if name in tried and name not in lower]
    clear = [name for name in clear if tried[name][0] > max(tried[name][1], LEAST_GAIN)]
    if not clear or one_class:
        nothing = torch.zeros(logits.shape[1], dtype=torch.float64, device="cpu")
        return Adjustment(nothing, method="none", description=f"no change, for none gains clearly; {told}")
    best = max(clear, key=lambda name: tried[name][0])
    one = found[best](logits, labels)
    return replace(one, description=f"{among}; {one.description}")  # type: ignore[type-var]


def _temperature(logits: Tensor, labels: Tensor) -> Adjustment:
    """Return no offsets and the temperature of least balanced cross-entropy."""
    nothing = torch.zeros(logits.shape[1], dtype=torch.float64, device="cpu")
    return Adjustment(nothing, fit_temperature(logits, labels))
