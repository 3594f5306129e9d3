"""Embeddings whose classes fill different volumes, written as somebody's stored table."""

from math import log
from pathlib import Path

import torch
from torch import Tensor

from bisector.errors import require_integer

ROW_GROUP = 65_536
LARGEST, SMALLEST = 20.0, 0.02  # eigenvalues of a class's covariance, before its own shape and size
STRETCH, SHAPE = 0.5, 2.0


class ClassSpectra:
    """Normal embeddings (mean, covariance) by class; the eigenvalues fall geometrically, in some classes faster.

    Class c has the mean `a_c`, the eigenvalues `t_c 20 (1/1000)^(s_c k / p)` for k = 0 ... p - 1 with `s_c` between
    1/2 and 2 and `t_c` between 1/sqrt(e) and sqrt(e), in one of p orders, along axes that all classes share and
    that lie askew to the coordinates.

    Args:
        classes: C, at least 1.
        dim: p, at least 1.
        seed: of means, shapes and axes.

    >>> spectra = ClassSpectra(classes=3, dim=4)
    >>> spectra.draw(torch.tensor([0, 2, 2]), torch.Generator().manual_seed(0)).shape
    torch.Size([3, 4])
    """

    def __init__(self, classes: int, dim: int, seed: int = 0) -> None:
        require_integer("classes", classes, least=1)
        self.dim = require_integer("dim", dim, least=1)
        generator = torch.Generator().manual_seed(seed)
        self.axes = torch.linalg.qr(torch.randn(dim, dim, generator=generator, device="cpu"))[0]
        self.means = torch.randn(classes, dim, generator=generator, device="cpu")
        size, shape = torch.rand(2, classes, 1, generator=generator, device="cpu")
        falls = STRETCH * (SHAPE / STRETCH) ** shape * log(SMALLEST / LARGEST)
        first = torch.randint(dim, (classes, 1), generator=generator, device="cpu")
        rank = (torch.arange(dim, device="cpu") + first) % dim
        self.deviations = (LARGEST**0.5) * (0.5 * (size - 0.5 + falls * rank / dim)).exp()  # (C, p)

    def draw(
        self,
        labels: Tensor,  # (N,)
        generator: torch.Generator,
    ) -> Tensor:
        """Return an embedding for each label: (N, p) float32."""
        noise = torch.randn(len(labels), self.dim, generator=generator, device="cpu")
        drawn: Tensor = noise.mul_(self.deviations[labels]) @ self.axes + self.means[labels]
        return drawn


def write_embeddings(
    path: Path,
    counts: Tensor,  # (C,)
    dim: int,
    seed: int = 0,
) -> None:
    """Write a table like that of `bisector embed`: shuffled classes, 65,536 rows a row group.

    Args:
        path: of the Parquet file; its folder is made.
        counts: (C,) instances of each class.
        dim: p.
        seed: of everything random.
    """
    from bisector.data.tables.writer import EmbeddingWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    classes = len(counts)
    generator = torch.Generator().manual_seed(seed + 1)
    labels = torch.arange(classes, device="cpu").repeat_interleave(counts)
    labels = labels[torch.randperm(len(labels), generator=generator)]
    spectra = ClassSpectra(classes, dim, seed)
    names = [f"class {c}" for c in range(classes)]
    with EmbeddingWriter(path, class_names=names, data="drawn, class sizes like those of LVIS") as writer:
        for part in torch.split(labels, ROW_GROUP):
            writer.write(spectra.draw(part, generator), part)
