import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from bisector.errors import ArgumentError
from bisector.posthoc import Adjustment


@given(st.integers(0, 10**6), st.integers(1, 8), st.floats(0.1, 10))
def test_logits_and_their_probabilities_are_adjusted_alike(seed, classes, temperature):
    rng = np.random.default_rng(seed)
    logits, offsets = 3 * rng.normal(size=(7, classes)), rng.normal(size=classes)
    expected = logits / temperature + offsets
    by_logits = Adjustment(torch.from_numpy(offsets), temperature)
    by_shares = Adjustment(torch.from_numpy(offsets), temperature, kind="probabilities")
    shares = torch.from_numpy(softmax(logits, axis=1))
    assert by_logits.apply(torch.from_numpy(logits)).numpy() == pytest.approx(expected)
    # Probabilities hold logits up to a number of each row, which the temperature divides and softmax drops.
    expected_shares = softmax(log_softmax(logits, axis=1) / temperature + offsets, axis=1)
    assert by_shares.apply(shares).numpy() == pytest.approx(expected_shares)
    assert by_logits.predict(torch.from_numpy(logits)).tolist() == expected.argmax(1).tolist()
    assert by_shares.predict(shares).tolist() == expected.argmax(1).tolist()


def test_a_probability_of_zero_is_no_infinity():
    adjustment = Adjustment(torch.tensor([0.0, 3.0]), kind="probabilities")
    found = adjustment.apply(torch.tensor([[1.0, 0.0]]))
    assert found.isfinite().all()
    assert found.argmax() == 0


def test_the_dtype_that_came_in_goes_out_but_decides_nothing():
    adjustment = Adjustment(torch.tensor([0.0, 0.01]))
    scores = torch.tensor([[100.0, 100.0]], dtype=torch.bfloat16)
    assert adjustment.apply(scores).dtype == torch.bfloat16
    assert adjustment.predict(scores).tolist() == [1]


def test_it_survives_its_file(tmp_path):
    path = tmp_path / "adjustment.json"
    before = Adjustment(
        torch.tensor([0.1, -1 / 3], dtype=torch.float64),
        temperature=2.5,
        kind="probabilities",
        method="prior",
        description="as it was",
        settings={"tau": 1.0},
        class_names=("<b>猫</b>", "dog"),
    )
    before.save(path)
    after = Adjustment.load(path)
    assert torch.equal(after.offsets, before.offsets)
    for name in ("temperature", "kind", "method", "description", "settings", "class_names"):
        assert getattr(after, name) == getattr(before, name)
    assert [file.name for file in tmp_path.iterdir()] == ["adjustment.json"]


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        "{}",
        json.dumps({"offsets": ["a"], "class_names": []}),
        json.dumps({"offsets": [1.0], "class_names": [], "other": 1}),
        json.dumps({"offsets": [1.0, 2.0], "class_names": "ab"}),
        json.dumps({"offsets": [[1.0], [1.0, 2.0]], "class_names": []}),
        json.dumps({"offsets": [10**400], "class_names": []}),
        json.dumps({"offsets": [1.0], "class_names": [], "temperature": 10**400}),
    ],
)
def test_another_file_is_told_in_one_line(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ArgumentError, match="expected the JSON of an Adjustment"):
        Adjustment.load(path)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: Adjustment(torch.zeros(2, 2)), r"offsets: got shape \(2, 2\)"),
        (lambda: Adjustment(torch.tensor([torch.nan])), "offsets: got NaN"),
        (lambda: Adjustment(torch.zeros(2), temperature=0), "temperature: got 0"),
        (lambda: Adjustment(torch.zeros(2), kind="logit"), "kind: got 'logit'; did you mean 'logits'"),
        (lambda: Adjustment(torch.zeros(2), class_names=("a",)), "class_names: got 1 names"),
        (lambda: Adjustment(torch.zeros(2)).apply(torch.zeros(4, 3)), r"scores: got shape \(4, 3\)"),
        (lambda: Adjustment(torch.zeros(2)).apply(torch.zeros(4, 2).long()), "scores: got torch.int64"),
        (lambda: Adjustment(torch.zeros(2)).predict(torch.full((1, 2), torch.nan)), "scores: got NaN"),
        (
            lambda: Adjustment(torch.zeros(2), kind="probabilities").apply(torch.tensor([[2.0, 1.0]])),
            "expected probabilities, or kind='logits'",
        ),
    ],
)
def test_complaints_name_the_argument(call, told):
    with pytest.raises(ArgumentError, match=told):
        call()
