"""Another last layer in the place of a model's: against scikit-learn, and what makes no layer."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from torch import Tensor

from bisector.errors import ArgumentError, DamagedFileError
from bisector.information.geometry import ClassGeometry
from bisector.posthoc import (
    LinearAdjustment,
    adjust,
    embedding_scale,
    linear_discriminant,
    load_adjustment,
    nearest_mean,
    refit,
    tau_norm,
)

C, D = 5, 7


def rows(n: int, seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % C
    means = 2 * torch.randn(C, D, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    widths = torch.linspace(0.5, 2, D, dtype=torch.float64)
    return means[labels] + widths * torch.randn(n, D, generator=draw, dtype=torch.float64), labels


def test_nearest_mean_is_scikit_learns() -> None:
    (x, y), (new, _) = rows(200, 0), rows(500, 1)
    layer = nearest_mean(ClassGeometry.fit(x, y))
    expected = NearestCentroid().fit(x.numpy(), y.numpy()).predict(new.numpy())
    assert np.array_equal(layer.predict(torch.zeros(500, C), new).numpy(), expected)


def test_the_discriminant_is_scikit_learns() -> None:
    (x, y), (new, _) = rows(200, 0), rows(500, 1)
    layer = linear_discriminant(ClassGeometry.fit(x, y, ridge=1e-12))
    expected = LinearDiscriminantAnalysis(priors=[1 / C] * C).fit(x.numpy(), y.numpy())
    mine = layer.adjusted_logits(torch.zeros(500, C, dtype=torch.float64), new)
    theirs = torch.from_numpy(expected.decision_function(new.numpy()))
    # Theirs divides the scatter by the rows, ours by the degrees of freedom.
    theirs = theirs * (200 - C) / 200
    torch.testing.assert_close(mine - mine[:, :1], theirs - theirs[:, :1])


def test_a_refitted_layer_is_scikit_learns_at_the_same_penalty() -> None:
    x, y = rows(300, 0)
    keep = torch.rand(300, generator=torch.Generator().manual_seed(0)) < torch.linspace(1, 0.2, C)[y]
    x, y = x[keep], y[keep]
    v, t = rows(200, 1)
    layer = refit(v, t, C, train=(x, y))
    centre = torch.cat([v, x]).mean(0)
    unit = float((torch.cat([v, x]) - centre).square().mean().sqrt())
    weights = 1 / (C * y.bincount()[y].double())
    solver = LogisticRegression(C=1 / layer.settings["penalty"], tol=1e-10, max_iter=5000)
    solver.fit((x - centre).numpy() / unit, y.numpy(), sample_weight=weights.numpy())
    mine = layer.adjusted_logits(torch.zeros(200, C, dtype=torch.float64), v).softmax(1)
    np.testing.assert_allclose(mine.numpy(), solver.predict_proba((v - centre).numpy() / unit), atol=2e-4)


def test_whose_rows_a_layer_is_refitted_on() -> None:
    (x, y), (v, t) = rows(60, 0), rows(50, 1)
    scores = torch.zeros(50, C)
    told = [
        adjust(scores, t, method="refit", embeddings=v, train=(x, y), moments=moments).description
        for moments in ("train", "both", "held-out")
    ]
    assert ["on 60 training rows" in told[0], "on 110 training and held-out" in told[1]] == [True, True]
    assert "on 50 held-out rows" in told[2]
    alone = adjust(scores, t, method="refit", embeddings=v)
    assert alone.description == told[2]


def test_tau_norm_finds_the_layer_that_made_the_scores() -> None:
    (x, y), draw = rows(200, 0), torch.Generator().manual_seed(5)
    weight = (
        torch.randn(C, D, generator=draw, dtype=torch.float64) * torch.tensor([5.0, 1, 1, 1, 0.2])[:, None]
    )
    scores = x @ weight.T + torch.randn(C, generator=draw, dtype=torch.float64)
    for tau in (0.0, 0.5, 1.0):
        layer = tau_norm(scores, None, x, tau=tau)
        expected = weight / weight.norm(dim=1, keepdim=True) ** tau
        torch.testing.assert_close(layer.weight, expected)
    assert 0 <= tau_norm(scores, y, x).settings["tau"] <= 2
    with pytest.raises(
        ArgumentError, match=r"scores: got \d+\.\d% of their variance unexplained; expected those"
    ):
        tau_norm(scores.square(), y, x)
    with pytest.raises(ArgumentError, match="embeddings: got 7 rows of 7 numbers; expected more rows"):
        tau_norm(scores[:7], y[:7], x[:7])
    with pytest.raises(ArgumentError, match="kind: got 'probabilities'; expected 'logits'"):
        adjust(scores.softmax(1), y, method="tau-norm", embeddings=x, kind="probabilities")


def test_a_class_without_rows_is_never_the_nearest() -> None:
    x, y = rows(200, 0)
    for make in (nearest_mean, linear_discriminant):
        layer = make(ClassGeometry.fit(x[y < 4], y[y < 4], C))
        assert 4 not in layer.predict(torch.zeros(200, C), x).tolist()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_scale_of_embeddings_is_seen_in_the_scores(scale: float) -> None:
    x, _ = rows(200, 0)
    x = x * scale
    weight = torch.randn(C, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    unit = torch.nn.functional.normalize(x, dim=1)
    assert embedding_scale(x @ weight.T + 3, x) == "raw"
    assert embedding_scale(30 * unit @ weight.T, x) == "unit"
    assert embedding_scale((30 * unit @ weight.T).log_softmax(1), x) == "unit"
    assert embedding_scale(x[:5] @ weight.T, x[:5]) == "raw"


def test_layers_are_stored_and_read(tmp_path: Path) -> None:
    (x, y), path = rows(100, 0), tmp_path / "layer.safetensors"
    layer = nearest_mean(ClassGeometry.fit(x, y, scale="unit"))
    layer.save(path)
    again = load_adjustment(path)
    assert isinstance(again, LinearAdjustment)
    assert again.scale == "unit"
    assert torch.equal(again.apply(torch.zeros(100, C), x), layer.apply(torch.zeros(100, C), x))
    (tmp_path / "broken.safetensors").write_bytes(path.read_bytes()[:40])
    with pytest.raises(DamagedFileError, match="broken"):
        load_adjustment(tmp_path / "broken.safetensors")
    ClassGeometry.fit(x, y).save(tmp_path / "geometry.safetensors")
    with pytest.raises(DamagedFileError, match="expected the safetensors of an adjustment"):
        load_adjustment(tmp_path / "geometry.safetensors")


def test_layers_need_embeddings_that_fit() -> None:
    x, y = rows(100, 0)
    layer = nearest_mean(ClassGeometry.fit(x, y))
    with pytest.raises(ArgumentError, match="embeddings: got None"):
        layer.predict(torch.zeros(3, C))
    with pytest.raises(ArgumentError, match="embeddings: got 2 rows; expected 3"):
        layer.predict(torch.zeros(3, C), x[:2])
    with pytest.raises(ArgumentError, match="embeddings"):
        layer.predict(torch.zeros(3, C), x[:3, :4])
    with pytest.raises(ArgumentError, match="bias: got NaN or infinity"):
        LinearAdjustment(torch.ones(2, 3), torch.tensor([0.0, math.nan]))


def test_embeddings_that_are_not_finite_are_refused() -> None:
    layer = LinearAdjustment(torch.ones(C, D), torch.zeros(C))
    x = torch.zeros(3, D)
    x[1, 2] = torch.nan
    with pytest.raises(ArgumentError, match="embeddings: got NaN or infinity in row 1"):
        layer.predict(torch.zeros(3, C), x)


def test_a_refitted_layer_does_not_depend_on_where_the_embeddings_lie() -> None:
    (x, y), (new, _) = rows(300, 0), rows(500, 1)
    layer, moved = refit(x, y, C), refit(x + 3000, y, C)
    scores = torch.zeros(500, C, dtype=torch.float64)
    torch.testing.assert_close(
        moved.apply(scores, new + 3000), layer.apply(scores, new), atol=1e-3, rtol=1e-3
    )
