"""Geometry pooled with logits: the fit against scipy, what it gains and what it leaves alone."""

import math
from pathlib import Path

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from bisector.errors import ArgumentError, DamagedFileError
from bisector.information.geometry import ClassGeometry
from bisector.posthoc.fit import fit_temperature
from bisector.posthoc.geometry import GeometryAdjustment
from bisector.posthoc.geometry_fit import fit_geometry
from bisector.posthoc.linear import LinearAdjustment

C, D = 4, 6


def widths(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Classes of very different width about near means: no linear boundary is right between them."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % C
    means = torch.eye(C, D, dtype=torch.float64)
    wide = torch.tensor([0.3, 0.6, 1.2, 2.4], dtype=torch.float64)
    return means[labels] + wide[labels, None] * torch.randn(n, D, generator=draw, dtype=torch.float64), labels


def linear_scores(x: Tensor) -> Tensor:
    return 4 * x[:, :C]


@pytest.fixture(scope="module")
def geometry() -> ClassGeometry:
    return ClassGeometry.fit(*widths(400, 0))


def balanced(predicted: Tensor, labels: Tensor) -> float:
    return float(torch.stack([(predicted[labels == c] == c).double().mean() for c in range(C)]).mean())


def test_the_fit_is_the_minimum_that_scipy_finds(geometry: ClassGeometry) -> None:
    x, y = widths(300, 1)
    keep = torch.rand(300, generator=torch.Generator().manual_seed(0)) < torch.tensor([1, 0.6, 0.3, 0.2])[y]
    x, y = x[keep], y[keep]
    scores = linear_scores(x) + 3 * torch.nn.functional.one_hot(y, C)
    found = fit_geometry(scores, y, x, geometry, moments="train", kappa=None, count_term=False, layer=False)
    temperature = fit_temperature(scores, y)
    logits, evidence = scores / temperature, geometry.evidence(x)
    volume = geometry.log_volume - geometry.log_volume.mean()
    weights = 1 / (C * y.bincount()[y].double())

    features = torch.stack([logits, evidence, (-volume).expand_as(logits)])
    units = (features - features.mean(2, keepdim=True)).square().mean((1, 2)).sqrt()

    def loss(theta) -> float:
        theta = torch.as_tensor(theta, dtype=torch.float64)
        nll = torch.nn.functional.cross_entropy(
            torch.einsum("p,pnc->nc", theta, features), y, reduction="none"
        )
        prior = (
            4 * ((theta - torch.tensor([1.0, 0, 0])) * units / max(units[0], 6)).square().sum() / (2 * len(y))
        )
        return float((weights * nll).sum() + prior)

    best = minimize(
        loss, [0.5, 0.5, 0.5], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12, "maxiter": 4000}
    )
    numbers = found.a * temperature, found.b, found.e
    assert loss(numbers) <= best.fun + 1e-9
    assert numbers == pytest.approx(best.x, abs=1e-4)


@pytest.mark.parametrize("unit", [1e-3, 40.0])
def test_the_unit_of_the_logits_changes_no_decision(geometry: ClassGeometry, unit: float) -> None:
    x, y = widths(300, 1)
    scores = linear_scores(x) + 3 * torch.nn.functional.one_hot(y, C)
    one, other = (fit_geometry(z, y, x, geometry) for z in (scores, unit * scores))
    assert not one.is_identity
    assert (other.a * unit, other.b, other.e) == pytest.approx((one.a, one.b, one.e), rel=1e-4)


def test_boundaries_that_no_offset_can_have_come_near_bayes() -> None:
    geometry = ClassGeometry.fit(*widths(400, 0), kappa=1.0, dof=math.inf)
    x, y = widths(400, 1)
    found = fit_geometry(linear_scores(x), y, x, geometry, kappa=None)
    new, truth = widths(4000, 2)
    means, wide = (
        torch.eye(C, D, dtype=torch.float64),
        torch.tensor([0.3, 0.6, 1.2, 2.4], dtype=torch.float64),
    )
    bayes = -(new[:, None] - means).square().sum(2) / (2 * wide**2) - D * wide.log()
    before, after, best = (
        balanced(p, truth)
        for p in (linear_scores(new).argmax(1), found.predict(linear_scores(new), new), bayes.argmax(1))
    )
    assert after > before + 0.1
    assert after > best - 0.02


def test_scores_that_are_right_already_are_left_alone() -> None:
    """Embeddings that tell nothing: of forty samples hardly one may be changed, and none for the worse by much."""
    kept, harm = 0, []
    for seed in range(40):
        draw = torch.Generator().manual_seed(seed)
        y = torch.arange(600) % C
        scores = torch.randn(600, C, generator=draw) + 2 * torch.nn.functional.one_hot(y, C)
        noise = torch.randn(600, D, generator=draw)
        geometry = ClassGeometry.fit(noise[:200], y[:200])
        found = fit_geometry(scores[200:400], y[200:400], noise[200:400], geometry)
        kept += found.is_identity
        after = found.predict(scores[400:], noise[400:])
        harm.append(balanced(scores[400:].argmax(1), y[400:]) - balanced(after, y[400:]))
    assert kept >= 34
    assert sum(harm) / len(harm) < 0.005


def test_the_highest_logits_alone_decide_as_all_do(geometry: ClassGeometry) -> None:
    x, y = widths(300, 1)
    scores = linear_scores(x)
    whole = GeometryAdjustment(geometry, 0.4, 0.6, 0.3, 0.1)
    for k in (1, 2, 3):
        part = GeometryAdjustment(geometry, 0.4, 0.6, 0.3, 0.1, k=k)
        top = scores.topk(k).indices
        adjusted = part.apply(scores, x)
        torch.testing.assert_close(adjusted.gather(1, top), whole.apply(scores, x).gather(1, top))
        others = adjusted.scatter(1, top, -math.inf).max(1).values
        assert bool((others < adjusted.gather(1, top).min(1).values).all())
        assert bool((part.predict(scores, x)[:, None] == top).any(1).all())
    every = GeometryAdjustment(geometry, 0.4, 0.6, 0.3, 0.1, k=C)
    assert torch.equal(every.apply(scores, x), whole.apply(scores, x))
    fitted = fit_geometry(scores, y, x, geometry, k=3)
    assert balanced(fitted.predict(scores, x), y) > balanced(scores.argmax(1), y) + 0.1


def shifted(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings that a linear layer is right on, and scores of one that knows only half of the coordinates."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % C
    x = torch.randn(n, D, generator=draw, dtype=torch.float64)
    x[:, :C] += 2 * torch.nn.functional.one_hot(labels, C)
    return 2 * x[:, :C] * torch.tensor([1.0, 1.0, 0.0, 0.0]), labels, x


def test_a_layer_trained_again_has_a_share_where_it_helps() -> None:
    scores, y, x = shifted(400, 0)
    counts = [100] * C
    found = fit_geometry(scores, y, x, class_counts=counts)
    assert found.r > 0
    assert found.layer is not None
    assert f"r = {found.r:.3g}" in found.meaning
    assert "the last layer trained again" in found.description
    new, truth, z = shifted(4000, 1)
    bayes = balanced(z[:, :C].argmax(1), truth)
    assert balanced(new.argmax(1), truth) < bayes - 0.1
    assert balanced(found.predict(new, z), truth) > bayes - 0.02
    without = fit_geometry(scores, y, x, class_counts=counts, layer=False)
    assert without.layer is None
    assert without.settings["log_loss_gain"] < found.settings["log_loss_gain"]
    some = y != 1
    assert fit_geometry(scores[some], y[some], x[some], class_counts=counts).layer is None
    with pytest.raises(ArgumentError, match="labels: got a class with fewer"):
        fit_geometry(scores[some], y[some], x[some], layer=True)


@pytest.mark.parametrize("seed", range(3))
def test_a_class_with_one_row_teaches_no_layer(seed: int) -> None:
    """The layer of the other folds has not seen its class, and would tell by that which row is of it."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(10).repeat_interleave(torch.tensor([60] * 7 + [1] * 3))
    scores = torch.randn(len(y), 10, generator=draw) + 2.5 * torch.nn.functional.one_hot(y, 10)
    found = fit_geometry(scores, y, torch.randn(len(y), D, generator=draw), layer="auto", scale="raw")
    assert found.layer is None
    assert found.settings["log_loss_gain"] < 0.1


def test_rows_may_come_from_inference_mode() -> None:
    x, y = widths(200, 1)
    expected = fit_geometry(linear_scores(x), y, x)
    with torch.inference_mode():
        z, t = widths(200, 1)
        found = fit_geometry(linear_scores(z), t, z)
    assert (found.a, found.b, found.e, found.r) == (expected.a, expected.b, expected.e, expected.r)


def test_rows_of_a_fold_are_not_decided_by_a_layer_that_has_seen_them() -> None:
    """Embeddings of noise, as many numbers as rows: a layer that had seen a row would know its class."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(60) % C
    scores, noise = torch.randn(60, C, generator=draw), torch.randn(60, 60, generator=draw)
    found = fit_geometry(scores, y, noise, layer=True, penalty=1e-4, scale="raw")
    assert found.settings["log_loss_gain"] < 0.1
    assert found.is_identity


def test_rows_learned_by_heart_are_known_by_what_held_out_rows_say() -> None:
    """Training rows that lie all at their class's mean tell nothing of how wide it is; held-out ones do."""
    x, y = widths(400, 0)
    learned = torch.eye(C, D, dtype=torch.float64)[y] + 0.01 * x
    geometry = ClassGeometry.fit(learned, y, kappa=1.0)
    v, t = widths(800, 1)
    new, truth = widths(4000, 2)
    after = {}
    for moments in ("train", "held-out", "auto"):
        found = fit_geometry(linear_scores(v), t, v, geometry, moments=moments)
        after[moments] = balanced(found.predict(linear_scores(new), new), truth)
    assert after["held-out"] > after["train"] + 0.05
    assert after["auto"] > after["train"] + 0.05
    alone = fit_geometry(linear_scores(v), t, v)
    assert balanced(alone.predict(linear_scores(new), new), truth) > after["train"] + 0.05
    with pytest.raises(ArgumentError, match="geometry: got None; expected that of training rows"):
        fit_geometry(linear_scores(v), t, v, moments="train")


def test_a_class_without_rows_takes_the_mean_of_the_others() -> None:
    x, y = widths(300, 1)
    geometry = ClassGeometry.fit(x[y < 3], y[y < 3], C)
    adjustment = GeometryAdjustment(geometry, 1.0, 0.5, 0.2, 0.3)
    added = adjustment.apply(linear_scores(x), x) - linear_scores(x)
    known = added[:, :3] + 0.0
    torch.testing.assert_close(added[:, 3], known.mean(1))


def test_the_count_term_follows_the_counts() -> None:
    x, y = widths(400, 0)
    few = torch.cat([x[y != 0], x[y == 0][:10]]), torch.cat([y[y != 0], y[y == 0][:10]])
    even, uneven = ClassGeometry.fit(x, y), ClassGeometry.fit(*few)
    v, t = widths(400, 1)
    found = [
        fit_geometry(linear_scores(v), t, v, one, moments="train", count_term=True) for one in (even, uneven)
    ]
    assert found[0].t == 0
    assert found[1].t != 0


def test_probabilities_stay_probabilities(geometry: ClassGeometry) -> None:
    x, y = widths(300, 1)
    shares = linear_scores(x).softmax(1).float()
    found = fit_geometry(shares, y, x, geometry, kind="probabilities")
    after = found.apply(shares, x)
    assert after.dtype == torch.float32
    torch.testing.assert_close(after.sum(1), torch.ones(300))
    assert torch.equal(after.argmax(1), found.predict(shares, x))


@pytest.mark.parametrize("layer", [False, True])
def test_a_file_gives_the_adjustment_back(geometry: ClassGeometry, tmp_path: Path, layer: bool) -> None:
    x, y = widths(300, 1)
    names = ["a", "b", "c", "d"]
    found = fit_geometry(linear_scores(x), y, x, geometry, k=3, layer=layer, class_names=names)
    assert bool(found.r) == layer
    found.save(tmp_path / "adjustment.safetensors")
    again = GeometryAdjustment.load(tmp_path / "adjustment.safetensors")
    assert torch.equal(again.apply(linear_scores(x), x), found.apply(linear_scores(x), x))
    assert (again.class_names, again.k, again.description) == (("a", "b", "c", "d"), 3, found.description)
    geometry.save(tmp_path / "geometry.safetensors")
    with pytest.raises(DamagedFileError, match="expected the safetensors of a GeometryAdjustment"):
        GeometryAdjustment.load(tmp_path / "geometry.safetensors")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda g, x, y: fit_geometry(x[:, :3], y, x, g), r"scores: got shape \(300, 3\); expected \(N, 4\)"),
        (lambda g, x, y: fit_geometry(linear_scores(x), None, x, g), "labels: got None"),
        (lambda g, x, y: fit_geometry(linear_scores(x), y, x[:9], g), r"embeddings: got shape \(9, 6\)"),
        (
            lambda g, x, y: fit_geometry(linear_scores(x), y, x * math.nan, g),
            "embeddings: got NaN or infinity",
        ),
        (lambda g, x, y: fit_geometry(linear_scores(x)[:3], y[:3], x[:3], g), "scores: got 3 rows"),
        (lambda g, x, y: fit_geometry(linear_scores(x), y, x, g, k=0), "k: got 0"),
        (lambda g, x, y: GeometryAdjustment(g, a=-1), "a: got -1"),
        (lambda g, x, y: GeometryAdjustment(g, r=1.0), "layer: got weights of shape None"),
        (
            lambda g, x, y: GeometryAdjustment(g, r=1.0, layer=LinearAdjustment(x[:C], x[:C, 0], "unit")),
            "layer: got scale 'unit'; expected 'raw'",
        ),
        (lambda g, x, y: fit_geometry(linear_scores(x), y, x, g, layer="yes"), "layer: got 'yes'"),
        (lambda g, x, y: GeometryAdjustment(g, class_names=("a",)), "class_names: got 1 names"),
        (lambda g, x, y: GeometryAdjustment(g, kind="odds"), "kind: got 'odds'"),
    ],
)
def test_illegal_arguments_are_named(geometry: ClassGeometry, make, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        make(geometry, *widths(300, 1))
