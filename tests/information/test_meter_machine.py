"""Whatever is done to a meter in whatever order, it holds what a list of all rows would give."""

import io

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bisector.errors import ArgumentError
from bisector.information.amount import information_amounts
from bisector.information.meter import InformationMeter

CLASSES, DIM = 3, 24


def numpy_amount(rows, weights):
    """`1/2 log2 det(I + Sigma)` of weighted rows, by numpy in float64."""
    mean = np.average(rows, axis=0, weights=weights)
    deviations = rows - mean
    covariance = (deviations * weights[:, None]).T @ deviations / weights.sum()
    return np.linalg.slogdet(np.eye(DIM) + covariance)[1] / (2 * np.log(2))


class MeterMachine(RuleBasedStateMachine):
    """A meter beside plain lists of rows and of how much each still weighs."""

    @initialize(
        queue=st.sampled_from([None, 1, 5, 64]),
        forgetting=st.sampled_from([1.0, 0.5, 0.0]),
        budget=st.sampled_from([None, None, 16_000]),
    )
    def begin(self, queue, forgetting, budget):
        self.options = {
            "queue": queue,
            "forgetting": forgetting,
            "memory_budget": budget,
            "shrinkage": "none",
        }
        self.meter = InformationMeter(CLASSES, DIM, **self.options)
        self.empty()

    def empty(self):
        self.rows = [np.empty((0, DIM)) for _ in range(CLASSES)]
        self.weights = [np.empty(0) for _ in range(CLASSES)]

    def draw(self, seed, count, double):
        generator = torch.Generator().manual_seed(seed)
        labels = (torch.rand(count, generator=generator) ** 2 * CLASSES).long()
        x = torch.randn(count, DIM, generator=generator) * torch.logspace(1, -1, DIM) + 5
        return (x.double() if double else x), labels

    def note(self, x, labels):
        for c in range(CLASSES):
            new = x[labels == c].double().numpy()
            self.rows[c] = np.concatenate([self.rows[c], new])
            self.weights[c] = np.concatenate([self.weights[c], np.ones(len(new))])

    # Few rows wait, many are folded: both sides of the 64 rows that narrow embeddings wait for.
    @rule(seed=st.integers(0, 10**6), count=st.sampled_from([0, 1, 3, 40, 300]), double=st.booleans())
    def update(self, seed, count, double):
        batch = self.draw(seed, count, double)
        self.meter.update(*batch)
        self.note(*batch)

    @rule(seed=st.integers(0, 10**6), count=st.sampled_from([1, 60, 250]), forgotten=st.booleans())
    def merge(self, seed, count, forgotten):
        other = InformationMeter(CLASSES, DIM, **{**self.options, "memory_budget": None})
        batch = self.draw(seed, count, False)
        other.update(*batch)
        if forgotten:
            other.forget()
            if other.forgetting == 0.0:
                self.note(*batch)
            elif other.forgetting == 0.5:
                before = [len(w) for w in self.weights]
                self.note(*batch)
                for c in range(CLASSES):
                    self.weights[c][before[c] :] = 0.5
        else:
            self.note(*batch)
        before = other.compute().amount
        self.meter.merge(other)
        assert torch.equal(before.nan_to_num(), other.compute().amount.nan_to_num())

    @rule()
    def forget(self):
        self.meter.forget()
        kept = 1 - self.options["forgetting"]
        if kept == 0:
            self.empty()
        self.weights = [w * kept for w in self.weights]

    @rule()
    def reset(self):
        self.meter.reset()
        self.empty()

    @rule(queue=st.sampled_from([None, 1, 64]))
    def save_and_load(self, queue):
        file = io.BytesIO()
        torch.save(self.meter.state_dict(), file)
        file.seek(0)
        self.options["queue"] = queue
        self.meter = InformationMeter(CLASSES, DIM, **self.options)
        self.meter.load_state_dict(torch.load(file, weights_only=True))

    @rule(seed=st.integers(0, 10**6))
    def by_parts(self, seed):
        """Take the state apart by classes, as processes do, and put it together again."""
        parts = [
            self.meter.state_dict(classes=[c])
            for c in np.random.default_rng(seed).permutation(CLASSES).tolist()
        ]
        self.meter = InformationMeter(CLASSES, DIM, **self.options)
        for part in parts:
            other = InformationMeter(CLASSES, DIM, **{**self.options, "memory_budget": None})
            other.load_state_dict(part)
            self.meter.merge(other)

    @precondition(lambda self: any(len(r) for r in self.rows))
    @rule(
        seed=st.integers(0, 10**6), row=st.integers(0, 39), value=st.sampled_from([np.nan, np.inf, -np.inf])
    )
    def refuse(self, seed, row, value):
        x, labels = self.draw(seed, 40, False)
        x[row, seed % DIM] = value
        with pytest.raises(ArgumentError, match=f"NaN or infinity in row {row}"):
            self.meter.update(x, labels)

    @invariant()
    def it_is_the_list(self):
        info = self.meter.compute(ranks=False)
        for c in range(CLASSES):
            weights = self.weights[c]
            assert info.count[c] == pytest.approx(weights.sum(), rel=1e-9)
            if len(weights):
                mean = np.average(self.rows[c], axis=0, weights=weights)
                np.testing.assert_allclose(self.meter.means[c], mean, rtol=1e-6, atol=1e-5)
            if weights.sum() < 2:
                assert info.amount[c].isnan()
                continue
            exact = numpy_amount(self.rows[c], weights)
            assert abs(info.amount[c] - exact) <= info.error_bound[c] + 2e-6 * exact + 1e-9, (
                info.form[c],
                exact,
            )


TestMeterMachine = MeterMachine.TestCase
TestMeterMachine.settings = settings(stateful_step_count=12)


@pytest.mark.parametrize("embeddings", ["raw", "unit"])
@pytest.mark.parametrize("dim", [64, 130, 256])
def test_every_form_is_numpys_to_a_millionth(embeddings, dim):
    # Rows, rows beside a scatter, scatter; far from the origin; spectra over six decades; classes drawn out
    # in time.
    generator = torch.Generator().manual_seed(dim)
    counts = [2, 40, dim - 1, dim, dim + 40, 3 * dim, 5000]
    labels = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=generator)]
    x = torch.randn(len(labels), dim, generator=generator) * torch.logspace(1.5, -1.5, dim)
    x += 30 * torch.randn(len(counts), dim, generator=generator)[labels]
    meter = InformationMeter(len(counts), dim, shrinkage="none", embeddings=embeddings)
    for part in zip(x.split(700), labels.split(700), strict=True):
        meter.update(*part)
    info = meter.compute()
    assert set(info.form) == {"rows", "scatter"}
    exact = x.double().numpy()
    if embeddings == "unit":
        exact = exact / np.linalg.norm(exact, axis=1, keepdims=True) * np.sqrt(dim)
    for c in range(len(counts)):
        rows = exact[labels.numpy() == c]
        covariance = np.cov(rows, rowvar=False, bias=True)
        amount = np.linalg.slogdet(np.eye(dim) + covariance)[1] / (2 * np.log(2))
        assert info.amount[c].item() == pytest.approx(amount, rel=1e-6)
        np.testing.assert_allclose(info.error_bound[c], 0)


@pytest.mark.parametrize("largest", [1, 30, 300, 3000, 10_000])
def test_one_direction_that_dominates_costs_no_digits(largest):
    # Rotated, so that it is in every entry of the covariance, as outlier directions of raw features are.
    generator = torch.Generator().manual_seed(7)
    x = 0.3 * torch.randn(5000, 64, generator=generator)
    x[:, 0] *= largest / 0.3
    x = x @ torch.linalg.qr(torch.randn(64, 64, generator=generator)).Q
    meter = InformationMeter(1, 64, shrinkage="none")
    for part in x.split(900):
        meter.update(part, torch.zeros(len(part), dtype=torch.long))
    covariance = np.cov(x.double().numpy(), rowvar=False, bias=True)
    amount = np.linalg.slogdet(np.eye(64) + covariance)[1] / (2 * np.log(2))
    assert meter.compute().amount.item() == pytest.approx(amount, rel=1e-6)
    rows = torch.zeros(len(x), dtype=torch.long)
    assert information_amounts(x, rows, 1, shrinkage="none").item() == pytest.approx(amount, rel=1e-6)


@pytest.mark.parametrize("leap", [1e6, 1e24])
def test_a_row_far_away_costs_no_digits_that_float64_has(leap):
    rows = torch.randn(6144, 8, generator=torch.Generator().manual_seed(8))
    first = torch.full((1, 8), leap)
    meter = InformationMeter(1, 8, shrinkage="none")
    for part in (first, rows):
        meter.update(part, torch.zeros(len(part), dtype=torch.long))
    exact = torch.cat([first, rows]).double().numpy()
    covariance = np.cov(exact, rowvar=False, bias=True)
    expected = np.linalg.slogdet(np.eye(8) + covariance)[1] / (2 * np.log(2))
    amount = meter.compute().amount.item()
    assert amount == pytest.approx(expected, rel=1e-6) if leap == 1e6 else np.isfinite(amount)


def test_the_fuzzing_reaches_every_form():
    machine = MeterMachine()
    machine.begin(None, 0.5, 16_000)
    forms = set()
    for seed in range(12):
        machine.update(seed, 300 if seed > 5 else 3, False)
        forms |= set(machine.meter.compute().form)
        machine.it_is_the_list()
    machine.begin(64, 0.5, None)
    machine.update(0, 300, False)
    machine.it_is_the_list()
    assert forms | set(machine.meter.compute().form) >= {"rows", "sketch", "scatter"}
