"""Classifiers for scikit-learn: by class densities, by adjusting any other, and by a head on a small network."""

import warnings
from collections.abc import Iterable
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from bisector.errors import missing_extra, require, require_choice, require_integer, require_number
from bisector.heads import build_head
from bisector.information.geometry import ClassGeometry
from bisector.networks.backbones import build_backbone
from bisector.posthoc.adjustment import logits_of
from bisector.posthoc.dispatch import CONTROLS, METHODS, Method, adjust

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, clone
    from sklearn.model_selection import StratifiedKFold, check_cv, cross_val_predict
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils import assert_all_finite, check_array, check_random_state, column_or_1d, get_tags
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data
except ImportError as error:
    raise missing_extra("scikit-learn 1.6 or newer", "sklearn") from error

__all__ = ["AdjustedClassifier", "ClassGeometryClassifier", "MarginClassifier"]

_WITH_EMBEDDINGS = ("geometry", "auto", *CONTROLS)


class _LogitClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier that makes a logit for each class; the rest follows from these.

    Attributes:
        classes_: (C,) the labels, sorted.
    """

    classes_: Any

    def _logits(self, X: Any) -> Tensor:  # (N, C) float64
        """Return the logits of rows, up to a number of each row."""
        raise NotImplementedError

    def decision_function(self, X: Any) -> Any:
        """Return the (N, C) logits; of two classes (N,) differences, the second's less the first's."""
        logits = self._logits(X).numpy()
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> Any:
        """Return the (N, C) probabilities of the classes."""
        return self._logits(X).softmax(1).numpy()

    def predict(self, X: Any) -> Any:
        """Return the (N,) classes of the highest logits."""
        check_is_fitted(self)
        return self.classes_[self._logits(X).argmax(1).numpy()]

    def _checked(self, X: Any, y: Any) -> tuple[Tensor, Tensor]:
        """Return (N, D) float64 rows and (N,) classes, and set `classes_`, of what `fit` is given."""
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        return torch.tensor(X), self._encoded(y)

    def _rows(self, X: Any) -> Tensor:
        """Return the (N, D) float64 rows of what a fitted classifier is given."""
        check_is_fitted(self)
        return torch.tensor(validate_data(self, X, dtype=np.float64, reset=False))

    def _encoded(self, y: Any) -> Tensor:
        """Return labels as (N,) numbers of classes, and set `classes_`."""
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        return torch.from_numpy(numbers).long()


class ClassGeometryClassifier(_LogitClassifier):
    r"""The class of highest density, by the mean and covariance of each class (`bisector.ClassGeometry`).

    Between linear and quadratic discriminant analysis: the covariance of a class of n rows is its own by n parts
    and that of all classes together by `kappa` parts, so that a class of few rows is not overfitted. The density
    is Student's t of :math:`\nu = \mathrm{dof} \cdot D` degrees of freedom, D being the number of features: rows
    far from every class are decided with less certainty than by a Gaussian.

    Features of one scale are expected: put a `StandardScaler` before it.

    Args:
        kappa: how many rows the pooled covariance counts for in each class, above 0; `math.inf`: all have it alike.
        ridge: in (0, 1], how much of the pooled covariance is that of a ball.
        dof: degrees of freedom as a part of D, above 0; `math.inf` for Gaussians.
        prior: "none": all classes are equally frequent where it is used; "counts": they are as in training.
        scale: "raw", or "unit" for rows that are brought to one length, as embeddings of cosine heads.

    Attributes:
        classes_: (C,) the labels, sorted.
        geometry_: the `ClassGeometry`, whose classes are in the order of `classes_`.
        n_features_in_: D.

    Raises:
        ArgumentError: in `fit`: an argument is not as described, or no class has two rows that differ.

    >>> from sklearn.datasets import load_wine
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_wine(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), ClassGeometryClassifier()).fit(X[::2], y[::2])
    >>> round(model.score(X[1::2], y[1::2]), 2)
    0.98
    """

    def __init__(
        self,
        kappa: float = 16.0,
        *,
        ridge: float = 0.05,
        dof: float = 0.2,
        prior: Literal["none", "counts"] = "none",
        scale: Literal["raw", "unit"] = "raw",
    ) -> None:
        self.kappa = kappa
        self.ridge = ridge
        self.dof = dof
        self.prior = prior
        self.scale = scale

    def fit(self, X: Any, y: Any) -> Self:
        """Measure mean and covariance of each class.

        Args:
            X: (N, D) finite numbers.
            y: (N,) labels.
        """
        require_choice("prior", self.prior, ("none", "counts"))
        rows, classes = self._checked(X, y)
        options = {"kappa": self.kappa, "ridge": self.ridge, "dof": self.dof}
        self.geometry_ = ClassGeometry.fit(
            rows, classes, max(len(self.classes_), 1), scale=self.scale, **options
        )
        return self

    def _logits(self, X: Any) -> Tensor:
        rows, geometry = self._rows(X), self.geometry_
        # Student's t has the power (nu + D) / 2, the evidence D / 2.
        power = 1.0 if geometry.dof == np.inf else 1.0 + geometry.dof
        logits = power * geometry.evidence(rows) - geometry.log_volume
        return logits + geometry.counts.log() if self.prior == "counts" else logits


class AdjustedClassifier(_LogitClassifier):
    """Any classifier, whose scores are adjusted so that every class weighs the same (`bisector.posthoc.adjust`).

    Its scores of rows that it has not seen are made by cross-validation, the adjustment is fitted on them, and the
    classifier is fitted once more, on all rows. `predict` is meant for high balanced accuracy;
    `predict_proba` gives probabilities for classes that are equally frequent.

    Args:
        estimator: a classifier with `predict_proba` or `decision_function`; the first is taken where it has both.
        method: "auto", "prior", "fitted", "geometry" or a control, as `bisector.posthoc.adjust` has them. "prior"
            takes it that the classifier has learned the frequencies of the classes: leave out class weights.
        embeddings: what "geometry", "auto" and the controls look at beside the scores: "X", the features
            themselves, which must be numbers then; a transformer, which is fitted on X without labels; or None:
            "auto" does without.
        cv: how many folds, at least 2, or a splitter of scikit-learn that puts every row into one test part.
        tau: for "prior" and "tau-norm", see `bisector.posthoc.adjust`.
        n_jobs: how many folds are fitted at a time.
        random_state: of the folds and the fit.

    Attributes:
        classes_: (C,) the labels, sorted.
        estimator_: the classifier, fitted on all rows.
        adjustment_: what is done to its scores; its `description` says what was found.
        embedder_: the fitted transformer, where there is one.
        n_features_in_: that of X.

    Raises:
        ArgumentError: in `fit`: an argument is not as described, a class has fewer than two rows, or there are too
            few rows.

    >>> from sklearn.datasets import make_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.metrics import balanced_accuracy_score
    >>> X, y = make_classification(2000, weights=[0.95], flip_y=0, class_sep=0.7, random_state=0)
    >>> plain = LogisticRegression().fit(X[:1000], y[:1000])
    >>> fair = AdjustedClassifier(LogisticRegression(), method="prior").fit(X[:1000], y[:1000])
    >>> [round(balanced_accuracy_score(y[1000:], model.predict(X[1000:])), 2) for model in (plain, fair)]
    [0.89, 0.96]
    """

    def __init__(
        self,
        estimator: Any,
        *,
        method: Method = "auto",
        embeddings: Any = "X",
        cv: Any = 5,
        tau: float | Literal["fit"] | None = None,
        n_jobs: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.embeddings = embeddings
        self.cv = cv
        self.tau = tau
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Score by cross-validation, fit the adjustment, fit the classifier on all rows.

        Args:
            X: N rows of whatever the classifier takes.
            y: (N,) labels.
        """
        require_choice("method", self.method, [one for one in (*METHODS, *CONTROLS) if one != "amount"])
        usable = any(hasattr(self.estimator, name) for name in ("predict_proba", "decision_function"))
        legal = "a classifier with predict_proba or decision_function"
        require(usable, "estimator", type(self.estimator).__name__, legal)
        validate_data(self, X, y, skip_check_array=True)
        if self._takes_x():
            check_array(X, dtype=np.float64, input_name="X", estimator=self)
        y = column_or_1d(y, warn=True)
        assert_all_finite(y, input_name="y", estimator_name=type(self).__name__)
        check_consistent_length(X, y)
        labels = self._encoded(y)
        counts = torch.bincount(labels)
        require(len(self.classes_) > 1, "y", "one class", "at least two classes")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        scores = cross_val_predict(
            self.estimator,
            X,
            y,
            cv=self._folds(X, labels, counts, seed),
            method=self._response(),
            n_jobs=self.n_jobs,
        )
        embeddings = None
        if self.method in _WITH_EMBEDDINGS and self.embeddings is not None:
            if not self._takes_x():
                self.embedder_ = clone(self.embeddings).fit(X)
            embeddings = self._embed(X)
        self.adjustment_ = adjust(
            _columns(scores),
            labels,
            method=self.method,
            kind="probabilities" if self._response() == "predict_proba" else "logits",
            class_counts=counts,
            embeddings=embeddings,
            tau=self.tau,
            seed=seed,
            class_names=[str(name) for name in self.classes_],
        )
        self.estimator_ = clone(self.estimator).fit(X, y)
        return self

    def __sklearn_tags__(self) -> Any:
        """Return what it takes and may do: what the classifier does, but no sparse rows as embeddings."""
        tags, own = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.input_tags = own.input_tags
        if self._takes_x():
            tags.input_tags.sparse = False
        return tags

    def _takes_x(self) -> bool:
        return isinstance(self.embeddings, str) and self.embeddings == "X"

    def _response(self) -> str:
        return "predict_proba" if hasattr(self.estimator, "predict_proba") else "decision_function"

    def _embed(self, X: Any) -> Tensor:
        """Return the (N, D) embeddings of rows."""
        rows = X if self._takes_x() else self.embedder_.transform(X)
        return torch.tensor(check_array(rows, dtype=np.float64, input_name="embeddings"))

    def _folds(self, X: Any, labels: Tensor, counts: Tensor, seed: int) -> Iterable[tuple[Any, Any]]:
        """Return training and test rows of each fold, each class among the training rows of all."""
        few = int(counts.argmin())
        got = f"{int(counts[few])} row of class {str(self.classes_[few])!r}"
        require(
            bool(counts[few] >= 2),
            "y",
            got,
            "at least 2 of each class, to score one by a model of another",
        )
        if isinstance(self.cv, (int, np.integer)):
            # More folds than rows of the largest class cannot be stratified; other classes are left out of some.
            folds = min(require_integer("cv", self.cv, least=2), int(counts.max()))
            splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        else:
            splitter = check_cv(self.cv, labels, classifier=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class")
            found = list(splitter.split(X, labels.numpy()))
        whole = all(len(torch.bincount(labels[train]).nonzero()) == len(counts) for train, _ in found)
        require(whole, "cv", "a fold whose training rows lack a class", "rows of every class in each")
        return found

    def _logits(self, X: Any) -> Tensor:
        check_is_fitted(self)
        scores = _columns(getattr(self.estimator_, self._response())(X))
        validate_data(self, X, reset=False, skip_check_array=True)  # what the classifier does not look at
        found = self.adjustment_
        logits = logits_of("scores", scores, found.kind, num_classes=found.num_classes)
        return found.adjusted_logits(logits, self._embed(X) if found.needs_embeddings else None)


class MarginClassifier(_LogitClassifier):
    """A linear layer or a network of one hidden layer, trained with a head of bisector.

    Features are standardised. Trained by AdamW with one cycle of the learning rate, in float64 on the CPU; the
    same numbers give the same model. Heads that observe their training (IGAM, AdaFace, Seesaw) do so after each
    step, and IGAM's margins are refreshed after each epoch. Cosine heads, which most are, see directions alone:
    without a hidden layer a class that lies between others is not told from them.

    Args:
        head: its name and options as on the command line, such as ``"am-softmax:margin=0.2"``; see
            `bisector.heads.build_head`.
        hidden: units of the hidden layer; 0 for none: a linear classifier.
        epochs: how often all rows are seen.
        batch_size: rows of a step.
        learning_rate: the highest of the cycle.
        weight_decay: of AdamW.
        random_state: of the first weights and the order of the rows.

    Attributes:
        classes_: (C,) the labels, sorted.
        head_: the trained head.
        network_: what makes the head's embeddings of standardised rows.
        scaler_: the `StandardScaler` of the features.
        loss_curve_: the mean loss of each epoch.
        n_features_in_: D.

    Raises:
        ArgumentError: in `fit`: an argument is not as described, or there is but one class.

    >>> from sklearn.datasets import load_wine
    >>> X, y = load_wine(return_X_y=True)
    >>> model = MarginClassifier("arcface", hidden=0).fit(X[::2], y[::2])
    >>> model.score(X[1::2], y[1::2]) > 0.9
    True
    """

    def __init__(
        self,
        head: str = "logit-adjusted",
        *,
        hidden: int = 256,
        epochs: int = 50,
        batch_size: int = 64,
        learning_rate: float = 1e-2,
        weight_decay: float = 1e-2,
        random_state: Any = 0,
    ) -> None:
        self.head = head
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Train on labelled rows.

        Args:
            X: (N, D) finite numbers.
            y: (N,) labels.
        """
        require_integer("hidden", self.hidden, least=0)
        require_integer("epochs", self.epochs, least=1)
        require_integer("batch_size", self.batch_size, least=1)
        require_number("learning_rate", self.learning_rate, above=0)
        require_number("weight_decay", self.weight_decay, least=0)
        require(isinstance(self.head, str), "head", type(self.head).__name__, "the name of a head")
        rows, labels = self._checked(X, y)
        require(len(self.classes_) > 1, "y", "one class", "at least two classes")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.scaler_ = StandardScaler().fit(rows.numpy())
        with torch.random.fork_rng(devices=[]):  # what is drawn elsewhere stays as it is
            torch.manual_seed(seed)
            self._train(self._standardized(rows), labels)
        return self

    def _train(self, rows: Tensor, labels: Tensor) -> None:
        spec = f"mlp:width={self.hidden}" if self.hidden else "identity"
        network = build_backbone(spec, rows.shape[1:]).double()
        counts = torch.bincount(labels)
        head = build_head(self.head, network.embedding_dim, len(counts), counts, dtype=torch.float64)
        observe, refresh = getattr(head, "observe", None), getattr(head, "refresh", None)
        parameters = [*network.parameters(), *head.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
        batches = -(-len(rows) // self.batch_size)
        rate = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=self.epochs * batches, cycle_momentum=False
        )
        self.loss_curve_ = []
        for _ in range(self.epochs):
            total = 0.0
            for batch in torch.randperm(len(rows)).tensor_split(batches):
                embeddings = network(rows[batch])
                loss = head(embeddings, labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                rate.step()
                total += float(loss.detach()) * len(batch)
                if observe is not None:
                    observe(embeddings.detach(), labels[batch])
            if refresh is not None:
                refresh()
            self.loss_curve_.append(total / len(rows))
        self.network_, self.head_ = network.eval(), head.eval()

    @torch.no_grad()
    def _logits(self, X: Any) -> Tensor:
        rows = self._standardized(self._rows(X))
        return self.head_.logits(self.network_(rows))

    def _standardized(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.scaler_.transform(rows.numpy()))


def _columns(scores: Any) -> Tensor:
    """Return scores as (N, C), those of two classes too, for which scikit-learn has one column."""
    found = torch.tensor(np.asarray(scores, dtype=np.float64))
    return torch.stack([torch.zeros_like(found), found], 1) if found.dim() == 1 else found
