import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bisector.errors import ArgumentError
from bisector.metrics.geometry import (
    class_compactness,
    class_separation,
    inter_class_separability,
    intra_class_compactness,
)


def cloud(seed: int, classes: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat(5)
    centres = torch.randn(classes, dim, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(labels), dim, generator=generator, dtype=torch.float64)
    return centres[labels] + 0.5 * noise, labels


def naive(embeddings: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    directions, cosines = {}, []
    for c in np.unique(labels):
        units = [x / np.linalg.norm(x) for x in embeddings[labels == c]]
        mean = np.mean(units, axis=0)
        directions[c] = mean / np.linalg.norm(mean)
        cosines.append(np.mean([unit @ directions[c] for unit in units]))
    nearest = [
        min(np.degrees(np.arccos(here @ there)) for d, there in directions.items() if d != c)
        for c, here in directions.items()
    ]
    return float(np.mean(cosines)), float(np.mean(nearest))


@given(st.integers(0, 2**32), st.integers(2, 8), st.integers(2, 6))
def test_agrees_with_loops(seed, classes, dim):
    embeddings, labels = cloud(seed, classes, dim)
    compactness, separability = naive(embeddings.numpy(), labels.numpy())
    assert intra_class_compactness(embeddings, labels).item() == pytest.approx(compactness, abs=1e-9)
    assert inter_class_separability(embeddings, labels).item() == pytest.approx(separability, abs=1e-5)


@given(st.integers(0, 2**32), st.floats(0.01, 100))
def test_neither_length_nor_rotation_matters(seed, scale):
    embeddings, labels = cloud(seed, 4, 3)
    lengths = torch.rand(len(labels), 1, generator=torch.Generator().manual_seed(seed)) + scale
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    turned = embeddings * lengths @ rotation
    for measure in (intra_class_compactness, inter_class_separability):
        assert measure(turned, labels).item() == pytest.approx(measure(embeddings, labels).item(), abs=1e-5)


def test_classes_at_known_angles():
    degrees = torch.tensor([0.0, 30.0, 30.0, 180.0], dtype=torch.float64)
    angles = torch.deg2rad(degrees)
    embeddings = 7 * torch.stack([angles.cos(), angles.sin()], dim=1)
    labels = torch.tensor([0, 1, 1, 3])
    separation = class_separation(embeddings, labels, 5)
    assert separation[[0, 1, 3]].tolist() == pytest.approx([30, 30, 150])
    assert separation[[2, 4]].isnan().all()
    compactness = class_compactness(embeddings, labels, 5)
    assert compactness[[0, 1, 3]].tolist() == pytest.approx([1, 1, 1])
    assert compactness[[2, 4]].isnan().all()
    assert inter_class_separability(embeddings, labels) == pytest.approx(70)


def test_opposite_embeddings_have_no_direction():
    embeddings = torch.tensor([[1.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    labels = torch.tensor([0, 0, 1, 2])
    assert class_compactness(embeddings, labels, 3).tolist() == [0, 1, 1]
    assert class_separation(embeddings, labels, 3)[0].isnan()
    assert inter_class_separability(embeddings, labels) == pytest.approx(90)


def test_a_single_class_is_separated_from_nothing():
    assert inter_class_separability(torch.eye(2), torch.tensor([0, 0])).isnan()
    assert intra_class_compactness(torch.empty(0, 2), torch.empty(0, dtype=torch.long)).isnan()


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (torch.ones(3), torch.tensor([0, 0, 0]), r"embeddings: got shape \(3,\)"),
        (torch.ones(3, 2), torch.tensor([0, 0]), r"labels: got shape \(2,\)"),
        (torch.ones(1, 2), torch.tensor([-1]), "labels: got -1 at position 0; expected 0"),
    ],
)
def test_mistakes_are_named(embeddings, labels, message):
    for measure in (intra_class_compactness, inter_class_separability):
        with pytest.raises(ArgumentError, match=message):
            measure(embeddings, labels)
