import copy
import io
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bisector.errors import ArgumentError
from bisector.information.amount import information_amounts
from bisector.information.meter import InformationMeter
from bisector.information.volume import effective_rank, padded
from bisector.statistics.shrinkage import SHRINKAGES

CLASSES, DIM = 6, 5


def stream(count=240, seed=0):
    # Class 5 never occurs, class 4 in the last third alone, class 3 once.
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    labels[2 * count // 3 :: 7] = 4
    labels[count // 2] = 3
    x = torch.randn(count, DIM, generator=generator, dtype=torch.float64)
    return x * (1 + labels.unsqueeze(1)), labels


WIDE = 96


def wide_stream(count=3000):
    """Wide embeddings whose spectra fall off, of classes of very different sizes."""
    generator = torch.Generator().manual_seed(5)
    labels = (torch.rand(count, generator=generator) ** 3 * 5).long()
    x = torch.randn(count, WIDE, generator=generator) * torch.logspace(1, -1.5, WIDE)
    return x + labels[:, None], labels


def fed(x, labels, batch=16, **options):
    meter = InformationMeter(CLASSES, DIM, **options)
    for part in zip(torch.split(x, batch), torch.split(labels, batch), strict=True):
        meter.update(*part)
    return meter


def assert_same(a, b, tolerance=1e-9):
    assert a.shrinkage == b.shrinkage
    assert a.skipped == b.skipped
    for name in ("amount", "count", "effective_rank", "drift"):
        left, right = getattr(a, name), getattr(b, name)
        torch.testing.assert_close(left, right, rtol=tolerance, atol=min(tolerance, 1e-12), equal_nan=True)


def assert_is(meter, x, labels, tolerance=1e-9):
    """The meter holds what the embeddings give when they are all there at once."""
    information = meter.compute()
    amounts = information_amounts(
        x, labels, meter.num_classes, shrinkage=meter.shrinkage, embeddings=meter.embeddings
    )
    torch.testing.assert_close(information.amount, amounts, rtol=tolerance, atol=1e-12, equal_nan=True)
    counts = labels.bincount(minlength=meter.num_classes).double()
    assert torch.equal(information.count, counts)
    assert torch.equal(meter.counts, counts)


class TestStream:
    @pytest.mark.parametrize("shrinkage", SHRINKAGES)
    @pytest.mark.parametrize("embeddings", ["raw", "unit"])
    def test_the_amounts_are_those_of_all_embeddings_at_once(self, shrinkage, embeddings):
        x, labels = stream()
        assert_is(fed(x, labels, shrinkage=shrinkage, embeddings=embeddings, queue=50), x, labels)

    @pytest.mark.parametrize(
        ("dtype", "integer"),
        [(torch.float16, torch.uint8), (torch.bfloat16, torch.int32), (torch.float32, torch.int64)],
    )
    def test_any_dtype_is_taken(self, dtype, integer):
        x, labels = stream()
        x = x.to(dtype)
        assert_is(fed(x, labels.to(integer), queue=50), x.double(), labels, tolerance=1e-6)

    @given(
        st.lists(st.integers(0, CLASSES - 1), max_size=60),
        st.lists(st.integers(0, 20), max_size=8),
        st.integers(1, 70),
    )
    def test_any_labels_in_any_batches(self, labels, sizes, queue):
        labels = torch.tensor(labels, dtype=torch.long)
        generator = torch.Generator().manual_seed(len(labels))
        x = torch.randn(len(labels), DIM, generator=generator, dtype=torch.float64)
        meter = InformationMeter(CLASSES, DIM, queue=queue)
        start = 0
        for size in [*sizes, len(labels)]:
            meter.update(x[start : start + size], labels[start : start + size])
            start += size
        assert_is(meter, x, labels)

    def test_every_field(self):
        x, labels = stream()
        information = fed(x, labels, shrinkage="ledoit-peche", queue=50).compute()
        names = [
            None if n < 2 else "ledoit-peche" if n >= 13 else "quadratic-inverse" for n in labels.bincount()
        ]
        assert information.shrinkage == (*names, None)
        for c in range(CLASSES):
            if information.count[c] < 2:
                assert information.effective_rank[c].isnan()
            else:
                covariance = torch.cov(x[labels == c].T, correction=0)
                rank = effective_rank(padded(torch.linalg.eigvalsh(covariance), DIM))
                torch.testing.assert_close(information.effective_rank[c], rank)
        assert information.drift.isnan().all()
        assert information.skipped == 0

    def test_compute_changes_nothing(self):
        x, labels = stream()
        quiet, asked = InformationMeter(CLASSES, DIM, queue=50), InformationMeter(CLASSES, DIM, queue=50)
        for part in zip(torch.split(x, 16), torch.split(labels, 16), strict=True):
            quiet.update(*part)
            asked.update(*part)
            before = asked.state_dict()
            assert_same(asked.compute(), asked.compute(), tolerance=0)
            assert_state_equal(asked.state_dict(), before)
        assert_same(asked.compute(), quiet.compute())

    def test_inputs_are_neither_kept_nor_changed(self):
        x, labels = stream()
        meter = InformationMeter(CLASSES, DIM, queue=1000)
        mine, own_labels = x.clone().requires_grad_(), labels.clone()
        meter.update(mine, own_labels)
        with torch.no_grad():
            mine.zero_()
        own_labels.zero_()
        assert_is(meter, x, labels)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
    def test_an_accelerators_embeddings_are_taken(self):
        x, labels = stream()
        assert_is(fed(x.cuda(), labels.cuda(), queue=50), x, labels)
        assert_is(fed(x.cuda(), labels, queue=50), x, labels)


class TestFaultyRows:
    def test_they_are_skipped_counted_and_said_once(self):
        x, labels = stream()
        broken = x.clone()
        broken[[3, 20, 21]] = torch.tensor([[torch.nan], [torch.inf], [-torch.inf]], dtype=torch.float64)
        broken[100, 2] = torch.nan
        fine = broken.isfinite().all(dim=1)
        meter = InformationMeter(CLASSES, DIM, queue=50, not_finite="skip")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for part in zip(torch.split(broken, 16), torch.split(labels, 16), strict=True):
                meter.update(*part)
        assert [(w.category, w.filename) for w in said] == [(RuntimeWarning, __file__)]
        assert str(said[0].message).startswith("1 embeddings with NaN or infinity skipped")
        assert meter.compute().skipped == 4
        assert_is(meter, x[fine], labels[fine])

    @pytest.mark.parametrize("queue", [10, 1000])
    def test_what_an_accelerator_sends_is_checked_late_and_no_legal_row_is_lost(self, queue):
        # What `update` does with rows of an accelerator, done by hand where there is none.
        x, labels = stream()
        meter = InformationMeter(CLASSES, DIM, queue=queue, not_finite="skip", ignore_index=-100)
        broken, wrong = x.clone(), labels.clone()
        broken[3] = torch.nan
        wrong[[7, 100]] = torch.tensor([CLASSES, -1])
        wrong[8] = -100
        told = 0
        for part in zip(torch.split(broken, 16), torch.split(wrong, 16), strict=True):
            meter._unchecked = True
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    meter._take(*part)
            except ArgumentError as error:
                told += "earlier updates" in str(error)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                meter.compute()
            except ArgumentError as error:
                told += "earlier updates" in str(error)
        assert told >= 1
        legal = torch.ones(len(x), dtype=torch.bool)
        legal[[3, 7, 8, 100]] = False
        assert meter.compute().skipped == 1
        assert_is(meter, x[legal], labels[legal])

    def test_a_label_out_of_range_changes_nothing(self):
        x, labels = stream()
        meter = fed(x, labels, queue=50)
        before = meter.state_dict()
        wrong = labels.clone()
        wrong[7] = CLASSES
        with pytest.raises(ArgumentError, match="labels: got 6 at position 7; expected 0 to 5"):
            meter.update(x, wrong)
        with pytest.raises(ArgumentError, match="expected an integer dtype"):
            meter.update(x, labels.float())
        with pytest.raises(ArgumentError, match=r"embeddings: got shape \(240, 4\)"):
            meter.update(x[:, :4], labels)
        assert_state_equal(meter.state_dict(), before)
        assert_is(meter, x, labels)


class TestEpochs:
    def test_drift_is_how_far_the_mean_moved_since_forget(self):
        x, labels = stream()
        meter = fed(x, labels, queue=50)
        meter.forget()
        shift = torch.tensor([3.0, 0, 4, 0, 0], dtype=torch.float64)
        meter.update((x + shift)[labels != 1], labels[labels != 1])
        expected = torch.tensor([5.0, torch.nan, 5, 5, 5, torch.nan], dtype=torch.float64)  # 1 is absent now
        torch.testing.assert_close(meter.compute().drift, expected, rtol=1e-6, atol=0, equal_nan=True)
        meter.reset()
        assert meter.nbytes == 0
        assert_same(meter.compute(), InformationMeter(CLASSES, DIM).compute())

    @pytest.mark.parametrize("count", [3, 200])
    def test_a_class_that_never_comes_again_is_forgotten_for_good(self, count):
        x, labels = stream()
        meter = InformationMeter(CLASSES, DIM, forgetting=0.999)
        meter.update(x[:count], torch.full((count,), 4))
        for _ in range(150):
            meter.forget()
            meter.update(x, labels * (labels != 4))
        assert meter.counts[4] == 0
        assert meter.forms[4] is None
        again = InformationMeter(CLASSES, DIM)
        again.load_state_dict(meter.state_dict())
        assert_same(again.compute(), meter.compute(), tolerance=0)


class TestMerge:
    def test_drift_and_skipped_rows_merge_too(self):
        first, second = stream(seed=0), stream(seed=1)
        whole = fed(*first)
        whole.forget()
        whole.update(*second)
        halves = [
            fed(first[0][part], first[1][part], not_finite="skip") for part in (slice(0, 90), slice(90, 240))
        ]
        for half, part in zip(halves, (slice(0, 200), slice(200, 240)), strict=True):
            half.forget()
            half.update(second[0][part], second[1][part])
        with pytest.warns(RuntimeWarning):
            halves[1].update(torch.full((2, DIM), torch.nan), torch.zeros(2).long())
        for a, b in (halves, halves[::-1]):
            total = copy.deepcopy(a)
            total.compute()
            total.merge(b)
            assert total.compute().skipped == 2
            torch.testing.assert_close(total.compute().drift, whole.compute().drift, equal_nan=True)

    def test_meters_that_differ_do_not_merge(self):
        meter = InformationMeter(CLASSES, DIM)
        for other, name in (
            (InformationMeter(7, DIM), "other.num_classes: got 7; expected 6"),
            (InformationMeter(CLASSES, 4), "other.dim: got 4; expected 5"),
            (InformationMeter(CLASSES, DIM, embeddings="unit"), "other.embeddings: got unit; expected raw"),
        ):
            with pytest.raises(ArgumentError, match=name):
                meter.merge(other)


def assert_state_equal(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        if isinstance(value, dict):
            assert_state_equal(value, b[name])
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, b[name])
        else:
            assert value == b[name]


class TestState:
    def state(self):
        x, labels = stream()
        meter = fed(x, labels, queue=50, forgetting=0.5)
        meter.forget()
        meter.update(x[:75], labels[:75])
        return meter

    @pytest.mark.parametrize("queue", [10, 50, 1000])
    def test_it_goes_through_a_file_and_goes_on_to_the_same_bits(self, queue):
        x, labels = stream(seed=3)
        meter = self.state()
        file = io.BytesIO()
        torch.save(meter.state_dict(), file)
        file.seek(0)
        again = InformationMeter(CLASSES, DIM, queue=queue, forgetting=0.5)
        again.load_state_dict(torch.load(file, weights_only=True))
        tolerance = 0 if queue == 50 else 1e-9  # another queue folds other rows at a time
        assert_same(again.compute(), meter.compute(), tolerance)
        for m in (meter, again):
            m.forget()
            m.update(x, labels)
        assert_same(again.compute(), meter.compute(), tolerance)

    @pytest.mark.parametrize(
        ("entry", "tensor", "change"),
        [
            ("num_classes", None, lambda v: v + 1),
            ("dim", None, lambda v: v + 1),
            ("embeddings", None, lambda v: "unit"),
            ("skipped", None, lambda v: -1),
            ("states", "means", lambda t: t[1:]),
            ("states", "rows", lambda t: t[1:]),
            ("anchors", "means", lambda t: t[:, 1:]),
            ("anchors", "classes", lambda t: t + CLASSES),
            ("queue", "embeddings", lambda t: t[1:]),
            ("queue", "labels", lambda t: t + CLASSES),
        ],
    )
    def test_a_state_that_does_not_fit_changes_nothing(self, entry, tensor, change):
        meter = self.state()
        before = copy.deepcopy(meter.state_dict())
        state = copy.deepcopy(before)
        if tensor is None:
            state[entry] = change(state[entry])
        else:
            state[entry][tensor] = change(state[entry][tensor])
        with pytest.raises(ArgumentError):
            meter.load_state_dict(state)
        assert_state_equal(meter.state_dict(), before)

    def test_a_missing_entry_is_named(self):
        state = self.state().state_dict()
        del state["queue"]
        with pytest.raises(ArgumentError, match=r"expected the entries .*queue"):
            InformationMeter(CLASSES, DIM).load_state_dict(state)


class TestMemory:
    def test_a_class_costs_nothing_before_its_first_instance_and_little_after(self):
        meter = InformationMeter(1_000_000, 1024, queue=4)
        assert meter.nbytes == 0
        meter.update(torch.ones(4, 1024), torch.tensor([5, 5, 5, 999_999]))
        assert meter.nbytes == 4 * 1024 * 4
        assert meter.compute().form[5] == "rows"

    def test_the_bytes_are_those_of_the_tensors_held(self):
        x, labels = stream(2000)
        meter = fed(x, labels, queue=50, forgetting=0.5)
        meter.forget()
        meter.update(x[:1070], labels[:1070])
        state = meter.state_dict()
        held = [state["states"][name] for name in ("means", "thirds", "packed", "rows")]
        held += [state["anchors"]["means"], state["queue"]["embeddings"]]
        assert meter.nbytes == sum(t.nbytes for t in held)

    @pytest.mark.parametrize("shrinkage", ["none", "ledoit-wolf", "oas", "quadratic-inverse"])
    def test_a_budget_is_kept_and_what_it_costs_is_told(self, shrinkage):
        x, labels = wide_stream()
        exact = information_amounts(x, labels, CLASSES, shrinkage=shrinkage)
        free = InformationMeter(CLASSES, WIDE, shrinkage=shrinkage)
        free.update(x, labels)
        for budget in (1_500_000, 300_000, 60_000):
            meter = InformationMeter(CLASSES, WIDE, shrinkage=shrinkage, memory_budget=budget)
            for number, part in enumerate(zip(torch.split(x, 100), torch.split(labels, 100), strict=True)):
                rows, theirs = part
                meter.update(rows.double() if number % 2 else rows, theirs)  # wide numbers count as wide
                assert meter.nbytes <= budget
            info = meter.compute()
            assert info.form == meter.forms
            errors = (info.amount - exact).abs()
            sketched = torch.tensor([form == "sketch" for form in info.form])
            assert sketched.any() == (budget < 1_500_000)
            known = ~exact.isnan()
            torch.testing.assert_close(
                info.amount[known & ~sketched], exact[known & ~sketched], rtol=1e-6, atol=0
            )
            assert (info.error_bound[known & ~sketched] == 0).all()
            if shrinkage == "quadratic-inverse":
                assert info.error_bound[sketched].isnan().all()
                assert (info.error_estimate[sketched] > 0).all()
            else:
                assert (errors[sketched] <= info.error_bound[sketched]).all()
                assert info.error_estimate.isnan().all()
            torch.testing.assert_close(meter.counts, free.counts)
            torch.testing.assert_close(meter.means, free.means, rtol=1e-6, atol=1e-6, equal_nan=True)

    def test_a_new_epoch_is_exact_again_where_it_fits(self):
        x, labels = wide_stream()
        meter = InformationMeter(CLASSES, WIDE, shrinkage="none", memory_budget=200_000)
        meter.update(x, labels)
        assert "sketch" in meter.forms
        meter.forget()
        one = labels == 0
        meter.update(x[one], labels[one])
        assert meter.compute().form[0] == "scatter"

    @pytest.mark.parametrize("queue", [1, 50])
    def test_what_even_the_smallest_sketches_break_is_refused_before_anything_changes(self, queue):
        x, labels = stream()
        least = queue * DIM * 4 + 2 * 28 * DIM
        meter = InformationMeter(CLASSES, DIM, queue=queue, memory_budget=least)
        two = labels < 2
        meter.update(x[two].float(), labels[two])
        before = copy.deepcopy(meter.state_dict())
        with pytest.raises(ArgumentError, match=f"memory_budget: got {least:,} bytes.* dimension"):
            meter.update(x.float(), labels)
        assert_state_equal(meter.state_dict(), before)

    def test_a_merge_and_a_state_over_the_budget_are_refused(self):
        x, labels = stream()
        other = fed(x, labels, queue=50)
        tight = InformationMeter(CLASSES, DIM, memory_budget=100)
        with pytest.raises(ArgumentError, match="memory_budget"):
            tight.merge(other)
        with pytest.raises(ArgumentError, match="memory_budget"):
            tight.load_state_dict(other.state_dict())
        assert tight.nbytes == 0
        loose = InformationMeter(CLASSES, DIM, memory_budget=10 * other.nbytes)
        loose.load_state_dict(other.state_dict())
        assert_same(loose.compute(), other.compute())

    def test_merging_and_loading_keep_the_budget(self):
        x, labels = wide_stream()
        free = InformationMeter(CLASSES, WIDE, shrinkage="none")
        free.update(x, labels)
        exact = free.compute().amount
        for fill in ("merge", "load_state_dict"):
            meter = InformationMeter(CLASSES, WIDE, shrinkage="none", memory_budget=200_000)
            getattr(meter, fill)(free if fill == "merge" else free.state_dict())
            assert meter.nbytes <= 200_000
            info = meter.compute()
            known = ~exact.isnan()
            assert ((info.amount - exact).abs() <= info.error_bound + 1e-6 * exact)[known].all()
            assert "sketch" in info.form


def test_classes_can_be_added():
    x, labels = stream()
    meter = fed(x, labels, queue=50)
    meter.add_classes(2)
    labels = torch.cat([labels, torch.tensor([7, 7, 7])])
    x = torch.cat([x, torch.eye(DIM, dtype=torch.float64)[:3]])
    meter.update(x[-3:], labels[-3:])
    assert_is(meter, x, labels)
    assert len(meter.compute().amount) == len(meter.counts) == CLASSES + 2
    with pytest.raises(ArgumentError, match="k: got -1"):
        meter.add_classes(-1)


def test_a_class_is_measured_again_only_when_it_changes():
    x, labels = stream()
    meter = fed(x, labels, queue=50)
    meter.compute()
    untouched = meter._known[1]
    meter.update(x[labels != 1], labels[labels != 1])
    meter.compute()
    assert meter._known[1] is untouched
    twice = torch.cat([x, x[labels != 1]]), torch.cat([labels, labels[labels != 1]])
    assert_is(meter, *twice)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes: got 0"),
        ({"dim": 0}, "dim: got 0"),
        ({"queue": 0}, "queue: got 0"),
        ({"forgetting": 1.1}, r"forgetting: got 1\.1"),
        ({"forgetting": -0.1}, "forgetting: got"),
        ({"memory_budget": 0}, "memory_budget: got 0"),
        ({"shrinkage": "lw"}, "shrinkage: got 'lw'"),
        ({"embeddings": "normed"}, "embeddings: got 'normed'"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        InformationMeter(**{"num_classes": 3, "dim": 2, **options})


@pytest.mark.parametrize("shrinkage", ["none", "quadratic-inverse", "ledoit-wolf"])
def test_the_state_stays_on_the_cpu_whatever_the_default_device(shrinkage):
    x, y = torch.randn(90, 4), torch.arange(90) % 3
    here, elsewhere, restored = (InformationMeter(3, 4, shrinkage=shrinkage, queue=40) for _ in range(3))
    here.update(x, y)
    with torch.device("meta"):
        elsewhere.update(x, y)
        restored.load_state_dict(elsewhere.state_dict())
        found = [elsewhere.compute(), restored.compute()]
        counts = elsewhere.counts
    for info in found:
        torch.testing.assert_close(info.amount, here.compute().amount)
    assert counts.tolist() == [30, 30, 30]


def test_a_copy_and_its_meter_go_on_as_if_they_had_nothing_in_common():
    x, labels = wide_stream()
    first, second, third = slice(0, 2000), slice(2000, 2500), slice(2500, 3000)
    meter, own, other = (InformationMeter(5, WIDE) for _ in range(3))
    for one, parts in ((meter, [first]), (own, [first, second]), (other, [first, third])):
        for part in parts:
            one.update(x[part], labels[part])
    copied = meter.copy()
    again = copied.copy()
    again.merge(other)
    copied.update(x[third], labels[third])
    meter.update(x[second], labels[second])
    assert "scatter" in meter.forms
    for one, expected in ((meter, own), (copied, other)):
        assert torch.equal(one.counts, expected.counts)
        for (c, mine), (d, theirs) in zip(one.moments(), expected.moments(), strict=True):
            assert c == d
            assert torch.equal(mine.mean, theirs.mean)
            torch.testing.assert_close(mine.scatter.gram(), theirs.scatter.gram(), rtol=1e-9, atol=1e-9)
