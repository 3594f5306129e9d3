"""How tightly the embeddings of a class lie together, and how far the classes lie apart."""

import torch
from torch import Tensor

from bisector.checks import require_classes
from bisector.errors import require
from bisector.statistics.directions import unit_rows


def class_compactness(
    embeddings: Tensor,  # (N, D)
    labels: Tensor,  # (N,) class indices
    num_classes: int,
) -> Tensor:  # (C,)
    """The mean cosine of a class's embeddings to the class's mean direction, 0 (scattered) to 1 (one ray).

    With `u_i = x_i / |x_i|`, the mean direction of class c is that of `m_c = mean_{y_i = c} u_i`, and the
    mean cosine to it is just `|m_c|`, the mean resultant length of directional statistics (Mardia and Jupp
    2000).
    An absent class has NaN.

    Raises:
        ArgumentError: if the shapes do not fit or a label is not a class.

    >>> x = torch.tensor([[3.0, 0.0], [0.0, 1.0], [5.0, 0.0]])
    >>> class_compactness(x, torch.tensor([0, 0, 2]), 3)
    tensor([0.7071,    nan, 1.0000], dtype=torch.float64)
    """
    lengths: Tensor = torch.linalg.vector_norm(_mean_unit_embeddings(embeddings, labels, num_classes), dim=1)
    return lengths


def class_separation(
    embeddings: Tensor,  # (N, D)
    labels: Tensor,  # (N,) class indices
    num_classes: int,
) -> Tensor:  # (C,)
    """The angle in degrees from each class's mean direction to the nearest other one, 0 to 180.

    `min_{j != c} arccos(d_c · d_j)` with `d_c = m_c / |m_c|`, `m_c` as in `class_compactness`. NaN for a
    class that is absent or whose unit embeddings cancel out, and for the only class there is. Compares every
    pair of classes: C x C numbers.

    Raises:
        ArgumentError: if the shapes do not fit or a label is not a class.

    >>> x = torch.tensor([[3.0, 0.0], [0.0, 1.0], [-5.0, 0.0]])
    >>> class_separation(x, torch.tensor([0, 1, 2]), 4)
    tensor([90., 90., 90., nan], dtype=torch.float64)
    """
    means = _mean_unit_embeddings(embeddings, labels, num_classes)
    lengths = torch.linalg.vector_norm(means, dim=1)
    # A mean below the rounding error of its terms has no direction.
    known = lengths > 1e-12
    directions = means[known] / lengths[known, None]
    cosines = directions @ directions.T
    angles = torch.rad2deg(cosines.clamp(-1, 1).arccos())
    angles.fill_diagonal_(float("inf"))
    separation = torch.full_like(lengths, float("nan"))
    if len(directions) > 1:
        separation[known] = angles.amin(dim=1)
    return separation


def intra_class_compactness(
    embeddings: Tensor,  # (N, D)
    labels: Tensor,  # (N,)
) -> Tensor:
    """The mean of `class_compactness` over the classes that occur in `labels`: a cosine, higher is tighter.

    NaN without embeddings.

    >>> intra_class_compactness(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    tensor(0.7071, dtype=torch.float64)
    """
    return class_compactness(embeddings, labels, _classes_of(labels)).nanmean()


def inter_class_separability(
    embeddings: Tensor,  # (N, D)
    labels: Tensor,  # (N,)
) -> Tensor:
    """The mean of `class_separation` over the classes that occur in `labels`: degrees, higher is farther apart.

    NaN with fewer than two classes.

    >>> inter_class_separability(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]))
    tensor(90., dtype=torch.float64)
    """
    return class_separation(embeddings, labels, _classes_of(labels)).nanmean()


def _classes_of(labels: Tensor) -> int:
    return int(labels.max()) + 1 if labels.numel() else 1


def _mean_unit_embeddings(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:  # (C, D)
    """The mean of each class's embeddings scaled to length 1; a row of NaN for an absent class.

    In float64: the arccosine of a float32 cosine is off by up to 0.02 degrees near 0.
    """
    require(embeddings.dim() == 2, "embeddings", f"shape {tuple(embeddings.shape)}", "shape (N, D)")
    require_classes("labels", labels, num_classes, rows=len(embeddings))
    units = unit_rows(embeddings.double())
    sums = units.new_zeros(num_classes, embeddings.shape[1]).index_add_(0, labels.long(), units)
    return sums / torch.bincount(labels.long(), minlength=num_classes)[:, None]
