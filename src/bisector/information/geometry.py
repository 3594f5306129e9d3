"""ClassGeometry: where every class lies in the space of embeddings, how wide it is, and which others it touches."""

import copy
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from bisector.checks import require_classes, require_embeddings
from bisector.errors import require, require_integer, require_number
from bisector.files import read_safetensors, reading, write_safetensors
from bisector.information.meter import InformationMeter
from bisector.information.rows import on_scale, places_by_class, require_finite
from bisector.statistics.moments import Moments
from bisector.statistics.scatter import Packed

_PARTS = ("states", "anchors", "queue")  # of what a meter stores
_MORE = "more"  # of what others store beside it
_PAIR_ROWS = 2**22  # numbers of a block of class means that is compared with all others


class Nearest(NamedTuple):
    """The nearest other class of each.

    Attributes:
        squared_distance: (C,) float64, noise-corrected, so that it may be below 0; NaN of a class without rows.
        neighbour: (C,) int64, -1 where there is none.
    """

    squared_distance: Tensor
    neighbour: Tensor


class Overlap(NamedTuple):
    """The pairs of classes that overlap most, the most first.

    Attributes:
        first: (k,) int64.
        second: (k,) int64.
        coefficient: (k,) float64, the Bhattacharyya coefficient of the two densities, 0 (apart) to 1 (the same).
    """

    first: Tensor
    second: Tensor
    coefficient: Tensor


class ClassGeometry:
    r"""Count, mean and covariance of every class, and the density that they make: the parts of Bayes' rule.

    .. math::
        W = (1 - \rho)\, S + \rho\, \tfrac{\operatorname{tr} S}{D}\, I, \qquad
        \Sigma_c = \frac{n_c S_c + \kappa W}{n_c + \kappa}, \qquad
        d_c^2(x) = (x - \mu_c)^\top \Sigma_c^{-1} (x - \mu_c)

    with :math:`S_c` the unbiased covariance of class c, :math:`S` their mean over the classes with at least two
    rows, weighted by the rows, and :math:`\rho` the `ridge`. A class with one row has :math:`\Sigma_c = W`.

    A class of n < D rows costs n D numbers and n D multiplications for a row that is scored (the Woodbury identity
    on W), any other D^2. All numbers are float64 on the CPU.

    Args:
        meter: what was observed; it is copied, and may go on.
        kappa: how many rows the pooled covariance counts for, above 0; `math.inf` gives every class W, as linear
            discriminant analysis does.
        ridge: in (0, 1].
        dof: the degrees of freedom of `evidence`, as a part of D, above 0; `math.inf` for a Gaussian.
        memory_budget: bytes of factors of covariances that are kept between calls; those beyond it are made anew in
            every call, which large batches make up for. None: all are kept.

    Raises:
        ArgumentError: an argument is not as described, no class has two rows, or within every class all rows are
            the same.

    Source: Friedman 1989 (regularised discriminant analysis); the Student tail and the pooling with a network's own
    logits (`bisector.posthoc.adjust`, method "geometry") are ours.

    >>> x = torch.randn(90, 4, generator=torch.Generator().manual_seed(0)) + torch.arange(90)[:, None] % 3 * 4
    >>> geometry = ClassGeometry.fit(x, torch.arange(90) % 3)
    >>> geometry.distances(x[:2]).argmin(1), geometry.nearest().neighbour
    (tensor([0, 1]), tensor([1, 0, 1]))
    """

    def __init__(
        self,
        meter: InformationMeter,
        *,
        kappa: float = 16.0,
        ridge: float = 0.05,
        dof: float = 0.2,
        memory_budget: int | None = None,
    ) -> None:
        require(isinstance(meter, InformationMeter), "meter", type(meter).__name__, "an InformationMeter")
        self.kappa = kappa if kappa == math.inf else require_number("kappa", kappa, above=0)
        self.ridge = require_number("ridge", ridge, above=0, most=1)
        self.dof = dof if dof == math.inf else require_number("dof", dof, above=0)
        if memory_budget is not None:
            require_integer("memory_budget", memory_budget, least=0)
        self.memory_budget = memory_budget
        self._meter = meter.copy()
        self._prepare()

    @classmethod
    def from_meter(cls, meter: InformationMeter, **options: Any) -> Self:
        """Return the geometry of what a meter has observed; `options` are those of the class."""
        return cls(meter, **options)

    @classmethod
    def fit(
        cls,
        embeddings: Tensor,  # (N, D)
        labels: Tensor,  # (N,)
        num_classes: int | None = None,
        *,
        scale: str = "raw",
        **options: Any,
    ) -> Self:
        """Return the geometry of labelled embeddings. For a stream, feed an `InformationMeter` batch by batch.

        Args:
            embeddings: (N, D) finite numbers.
            labels: (N,) classes, integers.
            num_classes: C; one more than the largest label if None.
            scale: "raw", or "unit" for rows of length sqrt(D), as a cosine head sees them.
            options: those of the class.
        """
        require_embeddings("embeddings", embeddings)
        require(len(embeddings) > 0, "embeddings", "no row", "at least two of one class")
        classes = int(labels.max()) + 1 if num_classes is None else num_classes
        meter = InformationMeter(max(classes, 1), embeddings.shape[1], embeddings=scale)
        meter.update(embeddings, labels)
        return cls(meter, **options)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote.

        Raises:
            DamagedFileError: the file holds no geometry.
            MissingExtraError: safetensors is not installed.
        """
        return cls.load_with_more(path)[0]

    @classmethod
    def load_with_more(cls, path: Path | str) -> tuple[Self, dict[str, str], dict[str, Tensor]]:
        """Read what `save` wrote, with its texts and further tensors; see `load`."""
        with reading(f"path: got {path}; expected the safetensors of a ClassGeometry"):
            tensors, texts = read_safetensors(Path(path))
            options = json.loads(texts["class_geometry"])
            held = options.pop("meter")
            meter = InformationMeter(held["num_classes"], held["dim"], embeddings=held["embeddings"])
            held |= {name: {} for name in _PARTS}
            more: dict[str, dict[str, Tensor]] = {_MORE: {}}
            for name, tensor in tensors.items():
                part, _, key = name.partition(".")
                (held if part in _PARTS else more)[part][key] = tensor
            meter.load_state_dict(held)
            return cls(meter, **options), texts, more[_MORE]

    def save(self, path: Path | str, *, more: Mapping[str, Tensor] | None = None, **texts: str) -> None:
        """Write all that `load` needs, for a `merge` too, as one safetensors file, whole or not at all.

        Args:
            path: of the file.
            more: further tensors, by name.
            texts: further entries of its metadata.

        Raises:
            MissingExtraError: safetensors is not installed.
            OSError: the file cannot be written.
        """
        state: dict[str, Any] = dict(self._meter.state_dict())
        tensors = {f"{part}.{key}": tensor for part in _PARTS for key, tensor in state.pop(part).items()}
        tensors |= {f"{_MORE}.{key}": tensor for key, tensor in (more or {}).items()}
        options = {name: getattr(self, name) for name in ("kappa", "ridge", "dof", "memory_budget")}
        told = json.dumps({**options, "meter": state})
        write_safetensors(Path(path), tensors, {"class_geometry": told, **texts})

    def merge(self, other: "ClassGeometry") -> "ClassGeometry":
        """Return the geometry of the rows of both, with the options of this one.

        Raises:
            ArgumentError: the two differ in classes, dimension or scale.
        """
        require(isinstance(other, ClassGeometry), "other", type(other).__name__, "a ClassGeometry")
        both = self._meter.copy()
        both.merge(other._meter)
        return self._with(both)

    def refitted(
        self,
        embeddings: Tensor,  # (N, D)
        labels: Tensor,  # (N,)
        *,
        merged: bool = False,
    ) -> "ClassGeometry":
        """Return the geometry of other rows, or of these and others together, with the options of this one.

        Raises:
            ArgumentError: as `fit`.
        """
        meter = (
            self._meter.copy()
            if merged
            else InformationMeter(self.num_classes, self.dim, embeddings=self.scale)
        )
        meter.update(embeddings, labels)
        return self._with(meter)

    def shrunk(self, kappa: float) -> "ClassGeometry":
        """Return the geometry of the same rows with another `kappa`; what does not depend on it is shared.

        Raises:
            ArgumentError: kappa is not above 0.
        """
        other = copy.copy(self)
        other.kappa = kappa if kappa == math.inf else require_number("kappa", kappa, above=0)
        other._volumes, other._kept, other._kept_bytes = {}, {}, 0
        for name in ("log_volume", "amount"):
            other.__dict__.pop(name, None)
        return other

    def _with(self, meter: InformationMeter) -> "ClassGeometry":
        return ClassGeometry(
            meter, kappa=self.kappa, ridge=self.ridge, dof=self.dof, memory_budget=self.memory_budget
        )

    @property
    def num_classes(self) -> int:
        """C."""
        return self._meter.num_classes

    @property
    def dim(self) -> int:
        """D."""
        return self._meter.dim

    @property
    def scale(self) -> str:
        """How embeddings are measured, those that are scored too: "raw" or "unit"."""
        return self._meter.embeddings

    @property
    def counts(self) -> Tensor:
        """(C,) float64, the rows of each class."""
        return self._counts

    @property
    def means(self) -> Tensor:
        """(C, D) float64; NaN of a class without rows."""
        return self._means

    @property
    def pooled_covariance(self) -> Tensor:
        """(D, D) float64, W."""
        return self._pooled

    @cached_property
    def log_volume(self) -> Tensor:
        r"""(C,) float64, :math:`A_c = \tfrac12 \ln\det\Sigma_c` in nats; NaN of a class without rows."""
        found = torch.full((self.num_classes,), math.nan, dtype=torch.float64, device="cpu")
        for c in self._present.tolist():
            if c not in self._volumes:
                self._factor(c)
            found[c] = self._volumes[c]
        return found

    @cached_property
    def amount(self) -> Tensor:
        r"""(C,) float64, :math:`\tfrac12 \log_2\det(I + \Sigma_c)` in bits; NaN of a class without rows."""
        found = torch.full((self.num_classes,), math.nan, dtype=torch.float64, device="cpu")
        identity = torch.eye(self.dim, dtype=torch.float64, device="cpu")
        for c in self._present.tolist():
            found[c] = torch.linalg.cholesky(identity + self.covariance(c)).diagonal().log2().sum()
        return found

    def covariance(self, c: int) -> Tensor:
        """Return the (D, D) covariance of class c, shrunk; that of a class without rows is W."""
        if self.counts[c] <= 1 or self.kappa == math.inf:
            return self._pooled.clone()
        moments = self._states[c].current()
        pooled = self._pooled * (self.kappa / (moments.count + self.kappa))
        return pooled + _full(moments) * self._weight(moments)

    def distances(
        self,
        embeddings: Tensor,  # (N, D)
        classes: Tensor | None = None,  # (N, k)
    ) -> Tensor:
        """Return the Mahalanobis distances of rows to classes: (N, C), or (N, k) to the classes that are asked for.

        Args:
            embeddings: (N, D), finite.
            classes: (N, k) the classes of each row; all if None.

        Returns:
            float64; NaN where a class has no rows.

        Raises:
            ArgumentError: a shape does not fit, or a row is not finite.
        """
        return self._squared(embeddings, classes).sqrt()

    def log_density(
        self,
        embeddings: Tensor,  # (N, D)
        classes: Tensor | None = None,  # (N, k)
    ) -> Tensor:
        r"""Return the Gaussian log-densities, :math:`-\tfrac{D}{2}\ln 2\pi - A_c - \tfrac12 d_c^2`.

        Shapes as in `distances`.
        """
        squared = self._squared(embeddings, classes)
        volume = self.log_volume if classes is None else self.log_volume[classes.cpu()]
        return -(self.dim / 2 * math.log(2 * math.pi) + volume + squared / 2)

    def evidence(
        self,
        embeddings: Tensor,  # (N, D)
        classes: Tensor | None = None,  # (N, k)
    ) -> Tensor:
        r"""Return how well rows fit classes, :math:`g_c = -\tfrac{D}{2} \ln(1 + d_c^2 / (\mathrm{dof} \cdot D))`.

        The tail of Student's t: a row far from a class tells less than under a Gaussian, for which ``dof=math.inf``
        gives :math:`-\tfrac12 d_c^2`. Shapes as in `distances`.
        """
        squared = self._squared(embeddings, classes)
        if self.dof == math.inf:
            return -squared / 2
        return -self.dim / 2 * torch.log1p(squared / (self.dof * self.dim))

    def factors(self) -> "Factors":
        """Return what distances are computed from, to compute them elsewhere."""
        return Factors(self._centre, self._whiten, {c: self._factor(c) for c in self._present.tolist()})

    def nearest(self) -> Nearest:
        r"""Return the nearest other class of each, by their means under W, less what noise adds.

        .. math:: \min_{j \ne c}\; (\mu_c - \mu_j)^\top W^{-1} (\mu_c - \mu_j) - D\,(1/n_c + 1/n_j)

        The second term is what two means of so few rows lie apart on average where the classes are the same.
        """
        return self._means_under_w.nearest()

    def overlap(self, k: int = 20) -> Overlap:
        """Return the k pairs of classes whose densities overlap most.

        Exact for the 4 k pairs whose means are nearest under W; a pair further apart is not looked at.

        Args:
            k: how many pairs, at least 1; fewer where there are fewer.
        """
        require_integer("k", k, least=1)
        best = torch.empty(0, dtype=torch.float64, device="cpu")
        pairs = torch.empty(0, 2, dtype=torch.int64, device="cpu")
        for rows, corrected in self._means_under_w.between():
            first = torch.arange(rows.start, rows.stop, device="cpu")[:, None].expand_as(corrected)
            second = torch.arange(len(self._present), device="cpu").expand_as(corrected)
            upper = second > first
            best = torch.cat([best, corrected[upper]])
            pairs = torch.cat([pairs, torch.stack([first[upper], second[upper]], 1)])
            chosen = best.argsort(stable=True)[: 4 * k]
            best, pairs = best[chosen], pairs[chosen]
        found = [self._bhattacharyya(*self._present[pair].tolist()) for pair in pairs]
        coefficient = torch.tensor(found, dtype=torch.float64, device="cpu")
        order = coefficient.argsort(descending=True, stable=True)[:k]
        pairs = self._present[pairs[order]]
        return Overlap(pairs[:, 0], pairs[:, 1], coefficient[order])

    def _prepare(self) -> None:
        """Read the meter: counts, means, W."""
        # Moments are made when they are needed: those of all classes would be held twice, and by every fold.
        self._states = self._meter.class_states()
        self._volumes: dict[int, float] = {}
        self._kept: dict[int, Factor] = {}
        self._kept_bytes = 0
        held = self._means_under_w = _MeansUnderW(
            ((c, state.current()) for c, state in self._states.items()),
            self.num_classes,
            self.dim,
            ridge=self.ridge,
        )
        self._present, self._counts, self._means, self._pooled = (
            held.present,
            held.counts,
            held.means,
            held.pooled,
        )
        self._pooled_volume, self._whiten = held.volume, held.whiten
        self._centre, self._white_means = held.centre, held.white_means

    def _weight(self, moments: Moments) -> float:
        """Return what the scatter matrix of a class is multiplied by in its covariance: n S = n / (n - 1) M2."""
        n = moments.count
        return n / ((n - 1) * (n + self.kappa))

    def _factor(self, c: int) -> "Factor":
        """Return the factor of the inverse covariance of a class with rows, among rows whitened by W."""
        if c in self._kept:
            return self._kept[c]
        moments = self._states[c].current()
        a, matrix = 1.0, None
        volume = self._pooled_volume
        if moments.count > 1 and self.kappa != math.inf:
            a = self.kappa / (moments.count + self.kappa)
            weight = self._weight(moments)
            if isinstance(moments.scatter, Packed) or len(moments.scatter.rows()) >= self.dim:
                # Sigma = a W + w M2
                white = self._whiten.T @ _full(moments) @ self._whiten * weight
                white.diagonal().add_(a)
                lower = torch.linalg.cholesky(white)
                identity = torch.eye(self.dim, dtype=torch.float64, device="cpu")
                matrix = torch.linalg.solve_triangular(lower, identity, upper=False).T.contiguous()
                a = 0.0
            else:  # Sigma = a W + F^T F, whose inverse is (I - Q Q^T) / a
                rows = (moments.scatter.rows().double() * weight**0.5) @ self._whiten
                small = rows @ rows.T
                small.diagonal().add_(a)
                lower = torch.linalg.cholesky(small)
                matrix = torch.linalg.solve_triangular(lower, rows, upper=False).T.contiguous()
                volume += (self.dim - len(rows)) / 2 * math.log(a)
            volume += float(lower.diagonal().log().sum())
        self._volumes[c] = volume
        found = Factor(matrix, a, self._white_means[c])
        if self.memory_budget is None or self._kept_bytes + found.nbytes <= self.memory_budget:
            self._kept[c] = found
            self._kept_bytes += found.nbytes
        return found

    def _squared(self, embeddings: Tensor, classes: Tensor | None) -> Tensor:
        """Return the squared distances, (N, C) or (N, k)."""
        require_embeddings("embeddings", embeddings, self.dim)
        require_finite("embeddings", embeddings.detach().cpu())
        white = (on_scale(embeddings.detach(), self.scale).double() - self._centre) @ self._whiten
        if classes is None:
            found = torch.full((len(white), self.num_classes), math.nan, dtype=torch.float64, device="cpu")
            for c in self._present.tolist():
                found[:, c] = self._factor(c).squared(white)
            return found
        require_classes("classes", classes, self.num_classes)
        fits = classes.dim() == 2 and len(classes) == len(white)
        require(fits, "classes", f"shape {tuple(classes.shape)}", f"({len(white)}, k)")
        flat = classes.cpu().long().flatten()
        found = torch.full((len(flat),), math.nan, dtype=torch.float64, device="cpu")
        for c, places in places_by_class(flat):
            if c in self._states:
                found[places] = self._factor(c).squared(white[places // classes.shape[1]])
        return found.view(classes.shape)

    def _bhattacharyya(self, i: int, j: int) -> float:
        """Return the coefficient of two classes: the integral of the root of the product of their densities."""
        lower = torch.linalg.cholesky((self.covariance(i) + self.covariance(j)) / 2)
        deviation = torch.linalg.solve_triangular(
            lower, (self._means[i] - self._means[j])[:, None], upper=False
        )
        volume = float(lower.diagonal().log().sum())
        volumes = float(self.log_volume[i] + self.log_volume[j]) / 2
        return math.exp(-float(deviation.square().sum()) / 8 - (volume - volumes))


def nearest_means(
    classes: Iterable[tuple[int, Moments]],
    num_classes: int,
    dim: int,
    *,
    ridge: float = 0.05,
) -> Nearest:
    """Return what `ClassGeometry.nearest` does, from one look at the moments of the classes.

    Only means and W are kept, `C D + D^2` numbers some times over; no class' own covariance is.

    Args:
        classes: each class with a row, and its moments, as `InformationMeter.moments` yields them.
        num_classes: C.
        dim: D.
        ridge: in (0, 1].

    Raises:
        ArgumentError: no class has two rows, or within every class all rows are the same.
    """
    return _MeansUnderW(classes, num_classes, dim, ridge=ridge).nearest()


def distances_of_means(
    classes: Iterable[tuple[int, Moments]],
    num_classes: int,
    dim: int,
    *,
    ridge: float = 0.05,
) -> Tensor:  # (C, C)
    """Return the distances that `nearest_means` is the least of, of every class to every other: C^2 numbers.

    Squared and noise-corrected, so that they may be below 0; NaN of a class to itself and of one without rows.

    Args and Raises: those of `nearest_means`.
    """
    means = _MeansUnderW(classes, num_classes, dim, ridge=ridge)
    found = torch.full((num_classes, num_classes), math.nan, dtype=torch.float64, device="cpu")
    for rows, corrected in means.between():
        found[means.present[rows, None], means.present] = corrected
    return found.fill_diagonal_(math.nan)


class _MeansUnderW:
    """Counts and means of classes, the covariance W that they share, and how far apart the means lie under it."""

    def __init__(
        self, classes: Iterable[tuple[int, Moments]], num_classes: int, dim: int, *, ridge: float
    ) -> None:
        self.counts = torch.zeros(num_classes, dtype=torch.float64, device="cpu")
        self.means = torch.full((num_classes, dim), math.nan, dtype=torch.float64, device="cpu")
        summed, rows = Packed(dim), 0.0
        held: list[Tensor] = []  # of small classes, to be added together

        def add_held() -> None:
            if held:
                summed.add_rows_(torch.cat(held))
                held.clear()

        for c, moments in classes:
            self.counts[c], self.means[c] = moments.count, moments.mean
            if moments.count > 1:
                weight = moments.count / (moments.count - 1)
                if isinstance(moments.scatter, Packed):
                    summed.values.add_(moments.scatter.values, alpha=weight)
                else:
                    held.append(moments.scatter.rows() * weight**0.5)
                    if sum(map(len, held)) >= dim:
                        add_held()
                rows += moments.count
        add_held()
        require(rows > 0, "embeddings", "no class with two rows", "at least one, for a covariance")
        spread = summed.trace / rows / dim
        require(spread > 0, "embeddings", "equal rows within every class", "rows that differ")
        self.present = self.counts.nonzero().flatten()
        self.pooled = summed.gram() * ((1 - ridge) / rows)
        self.pooled.diagonal().add_(ridge * spread)
        factor = torch.linalg.cholesky(self.pooled)
        self.volume = float(factor.diagonal().log().sum())
        # The transpose of L^-1, so that rows are whitened by a product.
        identity = torch.eye(dim, dtype=torch.float64, device="cpu")
        self.whiten = torch.linalg.solve_triangular(factor, identity, upper=False).T.contiguous()
        # Rows are whitened about the middle of the means, so that no digits are lost to what all have in common.
        self.centre = self.means[self.present].mean(0)
        self.white_means = (self.means - self.centre) @ self.whiten

    def nearest(self) -> Nearest:
        """See `ClassGeometry.nearest`."""
        distance = torch.full_like(self.counts, math.nan)
        neighbour = torch.full(self.counts.shape, -1, dtype=torch.int64, device="cpu")
        if len(self.present) > 1:
            for rows, corrected in self.between():
                found = corrected.min(1)
                here = self.present[rows]
                distance[here], neighbour[here] = found.values, self.present[found.indices]
        return Nearest(distance, neighbour)

    def between(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield blocks of the noise-corrected squared distances between the means under W, infinite to itself."""
        white = self.white_means[self.present]
        noise = white.shape[1] / self.counts[self.present]
        lengths = white.square().sum(1)
        step = max(1, _PAIR_ROWS // max(len(white), 1))
        for start in range(0, len(white), step):
            rows = slice(start, min(start + step, len(white)))
            squared = lengths[rows, None] + lengths - 2 * white[rows] @ white.T
            corrected = squared.clamp_min_(0) - noise[rows, None] - noise
            corrected.diagonal(start).fill_(math.inf)
            yield rows, corrected


class Factor(NamedTuple):
    """The inverse covariance of a class among rows whitened by W: Q Q^T, or (I - Q Q^T) / a.

    Attributes:
        matrix: Q, (D, D) or (D, k); None for k = 0.
        a: of the second form; 0 for the first.
        mean: (D,) of the class, whitened.
    """

    matrix: Tensor | None
    a: float
    mean: Tensor

    @property
    def width(self) -> int:
        """D or k."""
        return 0 if self.matrix is None else self.matrix.shape[1]

    @property
    def nbytes(self) -> int:
        """What the matrix takes."""
        return 0 if self.matrix is None else self.matrix.nbytes

    def squared(
        self,
        white: Tensor,  # (N, D)
    ) -> Tensor:
        """Return the (N,) squared distances of whitened rows."""
        deviations = white - self.mean
        whole: Tensor = torch.linalg.vector_norm(deviations, dim=1).square_()
        if self.matrix is None:
            return whole
        along: Tensor = torch.linalg.vector_norm(deviations @ self.matrix, dim=1).square_()
        return (whole - along).div_(self.a).clamp_min_(0) if self.a else along


class Factors(NamedTuple):
    """All that distances are computed from, on the scale of the geometry.

    Attributes:
        centre: (D,) that is taken off every row.
        whiten: (D, D) that rows are multiplied by then, from the right.
        of_class: of each class with rows.
    """

    centre: Tensor
    whiten: Tensor
    of_class: dict[int, Factor]


def _full(moments: Moments) -> Tensor:
    """Return the (D, D) scatter matrix of a class."""
    if isinstance(moments.scatter, Packed):
        return moments.scatter.gram()
    rows = moments.scatter.rows().double()
    return rows.T @ rows
