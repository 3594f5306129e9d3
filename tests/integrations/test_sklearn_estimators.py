import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import multivariate_normal, multivariate_t
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_iris, make_classification
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from bisector.errors import ArgumentError, install_command
from bisector.integrations.sklearn import AdjustedClassifier, ClassGeometryClassifier, MarginClassifier


@parametrize_with_checks(
    [
        ClassGeometryClassifier(),
        MarginClassifier("igam", hidden=32, epochs=20),
        AdjustedClassifier(LogisticRegression(), method="prior"),
    ]
)
def test_every_check_of_scikit_learn_passes(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [
        MarginClassifier(epochs=20),
        AdjustedClassifier(LogisticRegression()),
        AdjustedClassifier(RidgeClassifier(), method="fitted", embeddings=None),
    ]
)
def test_every_check_passes_of_what_takes_longer_too(estimator, check):
    check(estimator)


def long_tailed_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return rows and labels to fit, the k-th class having 100 / 1.5^k, and others to predict."""
    X, y = load_digits(return_X_y=True)
    kept = np.concatenate([np.flatnonzero(y == k)[: round(100 / 1.5**k)] for k in range(10)])
    rest = np.setdiff1d(np.arange(len(y)), kept)
    return X[kept] / 16, y[kept], X[rest] / 16, y[rest]


def test_classes_by_themselves_are_gaussians() -> None:
    X, y = load_iris(return_X_y=True)
    X, y = X[:130], y[:130]  # 50, 50, 30
    by_class = [X[y == c] for c in range(3)]
    densities = [multivariate_normal(rows.mean(0), np.cov(rows.T)).logpdf(X) for rows in by_class]
    ours = ClassGeometryClassifier(kappa=1e-9, dof=math.inf).fit(X, y)
    expected = softmax(np.transpose(densities), 1)
    np.testing.assert_allclose(ours.predict_proba(X), expected, rtol=1e-6, atol=1e-12)
    expected = softmax(np.transpose(densities) + np.log([50, 50, 30]), 1)
    ours = clone(ours).set_params(prior="counts").fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), expected, rtol=1e-6, atol=1e-12)


def test_the_density_is_students() -> None:
    X, y = load_iris(return_X_y=True)
    model = ClassGeometryClassifier(dof=0.7).fit(X, y)
    geometry = model.geometry_
    densities = [
        multivariate_t(geometry.means[c].numpy(), geometry.covariance(c).numpy(), df=0.7 * 4).logpdf(X)
        for c in range(3)
    ]
    np.testing.assert_allclose(model.predict_proba(X), softmax(np.transpose(densities), 1), rtol=1e-9)


def test_a_grid_is_searched_in_a_pipeline() -> None:
    X, y = load_digits(return_X_y=True)
    names = np.array([f"digit {label}" for label in y])
    pipeline = make_pipeline(StandardScaler(), PCA(20), ClassGeometryClassifier())
    grid = {"classgeometryclassifier__kappa": [0.01, 16, math.inf], "classgeometryclassifier__dof": [0.2, 1]}
    found = GridSearchCV(pipeline, grid, cv=3).fit(X[::2], names[::2])
    assert found.best_score_ > 0.9
    assert found.cv_results_["mean_test_score"].std() > 0
    assert found.score(X[1::2], names[1::2]) > 0.93


PREDICT = """
import pickle, sys
import numpy as np
with open(sys.argv[1], "rb") as file:
    models, X = pickle.load(file)
np.save(sys.argv[2], [model.predict_proba(X) for model in models])
"""


def test_another_process_predicts_the_same_of_a_pickle(tmp_path: Path) -> None:
    X, y = load_iris(return_X_y=True)
    models = [
        ClassGeometryClassifier().fit(X, y),
        MarginClassifier("igam", hidden=8, epochs=2).fit(X, y),
        AdjustedClassifier(LogisticRegression(), method="geometry").fit(X, y),
    ]
    for model in models:
        assert clone(model).get_params(deep=False).keys() == model.get_params(deep=False).keys()
        np.testing.assert_array_equal(clone(model).fit(X, y).predict_proba(X), model.predict_proba(X))
    (tmp_path / "models.pickle").write_bytes(pickle.dumps((models, X)))
    files = [str(tmp_path / name) for name in ("models.pickle", "found.npy")]
    subprocess.run([sys.executable, "-c", PREDICT, *files], check=True)
    np.testing.assert_array_equal(np.load(files[1]), [model.predict_proba(X) for model in models])


def test_the_prior_is_taken_out_of_the_probabilities() -> None:
    X, y, others, _ = long_tailed_digits()
    plain = LogisticRegression().fit(X, y)
    fair = AdjustedClassifier(LogisticRegression(), method="prior").fit(X, y)
    without = plain.predict_log_proba(others) - np.log(np.bincount(y) / len(y))
    np.testing.assert_array_equal(fair.predict(others), without.argmax(1))
    np.testing.assert_allclose(np.log(fair.predict_proba(others)), log_softmax(without, 1), atol=1e-9)


def test_rare_digits_are_found_more_often() -> None:
    X, y, others, truth = long_tailed_digits()
    plain = LogisticRegression().fit(X, y).predict(others)
    fair = AdjustedClassifier(LogisticRegression(), method="fitted").fit(X, y)
    assert fair.adjustment_.method == "fitted"
    gain = balanced_accuracy_score(truth, fair.predict(others)) - balanced_accuracy_score(truth, plain)
    assert gain > 0.03


def test_one_column_of_scores_is_two_classes() -> None:
    X, y = make_classification(600, weights=[0.9], class_sep=0.6, random_state=1)
    fair = AdjustedClassifier(LinearSVC(random_state=0), method="fitted").fit(X, y)
    offsets, temperature = fair.adjustment_.offsets.numpy(), fair.adjustment_.temperature
    margin = LinearSVC(random_state=0).fit(X, y).decision_function(X)
    by_hand = margin / temperature + offsets[1] - offsets[0]
    np.testing.assert_allclose(fair.decision_function(X), by_hand)
    assert by_hand.shape == (600,)
    assert (fair.predict(X) == (by_hand > 0)).all()
    assert (fair.predict(X) == 1).sum() > (margin > 0).sum()


def test_texts_need_no_embeddings_and_a_transformer_can_make_some() -> None:
    words = np.array([["red", "blue", "green"], ["tall", "small", "wide"]])
    draw = np.random.default_rng(0)
    y = np.repeat(["colour", "size"], [80, 20])
    texts = [" ".join(draw.choice(words[int(label == "size")], 3)) for label in y]
    classifier = make_pipeline(TfidfVectorizer(), LogisticRegression())
    alone = AdjustedClassifier(classifier, embeddings=None).fit(texts, y)
    assert alone.score(texts, y) == 1
    assert not alone.adjustment_.needs_embeddings
    dense = make_pipeline(TfidfVectorizer(), PCA(2))
    nearest = AdjustedClassifier(classifier, method="nearest-mean", embeddings=dense).fit(texts, y)
    assert nearest.adjustment_.needs_embeddings
    assert nearest.score(texts, y) == 1
    assert nearest.classes_.tolist() == ["colour", "size"]


def test_a_linear_layer_without_margin_is_logistic_regression() -> None:
    X, y = make_classification(
        400, 5, n_informative=4, n_redundant=0, n_classes=3, flip_y=0.2, random_state=0
    )
    options = {"hidden": 0, "epochs": 300, "batch_size": 400, "learning_rate": 0.05, "weight_decay": 0}
    ours = MarginClassifier("linear-softmax", **options).fit(X, y)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=1e9)).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-3)


def test_training_is_repeatable_and_leaves_the_random_numbers_alone() -> None:
    X, y = load_iris(return_X_y=True)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again = (MarginClassifier("arcface", epochs=2, random_state=3).fit(X, y) for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(first.predict_proba(X), again.predict_proba(X))
    other = MarginClassifier("arcface", epochs=2, random_state=4).fit(X, y)
    assert (other.predict_proba(X) != first.predict_proba(X)).any()


def test_heads_that_observe_have_observed() -> None:
    X, y, _, _ = long_tailed_digits()
    igam = MarginClassifier("igam", epochs=3).fit(X, y)
    assert igam.head_.guide.largest() > 0
    assert igam.loss_curve_[-1] < igam.loss_curve_[0]
    seesaw = MarginClassifier("seesaw", epochs=3).fit(X, y)
    assert seesaw.head_.seen.tolist() == (3 * np.bincount(y)).tolist()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ClassGeometryClassifier(prior="count"), "prior: got 'count'; did you mean 'counts'"),
        (ClassGeometryClassifier(kappa=0), "kappa: got 0; expected a finite number above 0"),
        (MarginClassifier("arc"), "head: got 'arc'; did you mean 'arcface'"),
        (MarginClassifier(epochs=0), "epochs: got 0"),
        (AdjustedClassifier(KMeans(3)), "estimator: got KMeans; expected a classifier with predict_proba"),
        (AdjustedClassifier(LogisticRegression(), method="amount"), "method: got 'amount'"),
        (AdjustedClassifier(LogisticRegression(), method="lda", embeddings=None), "embeddings: got None"),
        (AdjustedClassifier(LogisticRegression(), cv=1), "cv: got 1; expected an integer of at least 2"),
        (AdjustedClassifier(LogisticRegression(), cv=KFold(3)), "cv: got a fold whose training rows lack"),
    ],
)
def test_bad_arguments_are_named(model, message: str) -> None:
    X, y = load_iris(return_X_y=True)  # sorted by class
    with pytest.raises(ArgumentError, match=message):
        model.fit(X, y)


def test_a_class_of_one_row_is_named() -> None:
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ArgumentError, match="y: got 1 row of class '2'; expected at least 2 of each class"):
        AdjustedClassifier(LogisticRegression()).fit(X[:101], y[:101])
    with pytest.raises(ArgumentError, match="y: got one class"):
        MarginClassifier().fit(X[:50], y[:50])


def test_nothing_is_imported_before_it_is_asked_for_and_what_is_missing_is_named() -> None:
    code = (
        "import sys, bisector as bs\n"
        "bs.integrations\n"
        "assert 'sklearn' not in sys.modules and 'torch' not in sys.modules\n"
        "sys.modules['sklearn'] = None\n"
        "sys.modules['sklearn.base'] = None\n"
        "try:\n"
        "    bs.integrations.sklearn\n"
        "except bs.errors.MissingExtraError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert f"comes with: {install_command('sklearn')}" in done.stdout
