import copy

import pytest
import torch

from bisector.errors import ArgumentError
from bisector.information.class_state import ClassState, sketch_bytes
from bisector.information.packing import pack_means, pack_states, unpack_means, unpack_states
from bisector.statistics.moments import Moments

DIM = 70
X = torch.randn(200, DIM, generator=torch.Generator().manual_seed(0))


def state_of(*parts: torch.Tensor) -> ClassState:
    state = ClassState(DIM)
    for rows in parts:
        state.append(rows)
    return state


def examples() -> dict[int, ClassState]:
    """Every form: rows of both dtypes, forgotten rows beside new ones, a scatter with rows that wait, a sketch."""
    states = {7: state_of(X[:3], X[3:5]), 2: state_of(X[:4].double()), 0: state_of(X[:9]).scaled(0.3)}
    states[0].append(X[:2])
    states[5], states[6] = state_of(X, X[:3]), state_of(X)
    states[6].sketch(4)
    states[6].append(X[:2])
    return states


def test_the_form_follows_the_rows_and_its_bytes_are_what_it_holds():
    state = state_of(X[:60])
    assert (state.form, state.nbytes) == ("rows", 4 * 60 * DIM)
    state.append(X[60:])
    assert (state.form, state.nbytes) == ("scatter", 8 * DIM * DIM + 16 * DIM)
    state.append(X[:5])
    assert state.nbytes == 8 * DIM * DIM + 16 * DIM + 4 * 5 * DIM
    state.sketch(20)
    for rows in X.split(7):
        state.append(rows)
        assert state.form == "sketch"
        assert state.nbytes <= sketch_bytes(20, DIM)


@pytest.mark.parametrize("weight", [1.0, 0.25])
@pytest.mark.parametrize("counts", [(3, 5), (3, 150), (150, 3), (150, 40)])
def test_states_merge_to_that_of_all_rows_with_their_weights(counts, weight):
    parts = X[: counts[0]], X[-counts[1] :]
    mine, theirs = state_of(parts[0]).scaled(weight), state_of(parts[1])
    mine.merge(theirs)
    weights = torch.tensor([weight] * counts[0] + [1.0] * counts[1], dtype=torch.float64)
    expected = Moments.of_rows(torch.cat(parts).double(), weights)
    found = mine.current()
    assert mine.count == pytest.approx(float(weights.sum()))
    torch.testing.assert_close(mine.mean, expected.mean, rtol=1e-6, atol=1e-6)
    for moments in (found, mine.with_rows(X[:0]).current() if mine.rows else found):
        assert moments.scatter.trace == pytest.approx(expected.scatter.trace, rel=1e-6)
        assert moments.fourth == pytest.approx(expected.fourth, rel=1e-6)
    rows, exact = found.scatter.rows().double(), expected.scatter.rows()
    torch.testing.assert_close(rows.T @ rows, exact.T @ exact, rtol=1e-5, atol=1e-3)
    assert theirs.count == counts[1]  # they stay as they are


def test_packed_states_come_back_to_the_last_bit():
    states = examples()
    again = unpack_states(pack_states(states, DIM), 8, DIM)
    assert again.keys() == states.keys()
    for c, one in states.items():
        other = again[c]
        assert (other.form, other.count, other.nbytes) == (one.form, one.count, one.nbytes)
        mine, theirs = one.current(), other.current()
        assert torch.equal(mine.scatter.rows(), theirs.scatter.rows())
        assert torch.equal(mine.mean, theirs.mean)
        assert torch.equal(mine.third, theirs.third)
        assert (mine.fourth, mine.fourth_error) == (theirs.fourth, theirs.fourth_error)
        if one.form == "sketch":
            a, b = one.moments.scatter, other.moments.scatter
            assert (a.size, a.trace, a.missing, a.rounding) == (b.size, b.trace, b.missing, b.rounding)


def test_nothing_packs_to_nothing():
    assert unpack_states(pack_states({}, DIM), 8, DIM) == {}
    assert unpack_means(pack_means({}, DIM), 8, DIM) == {}


def test_what_is_unpacked_shares_no_memory():
    packed = pack_states(examples(), DIM)
    again = unpack_states(packed, 8, DIM)
    before = [copy.deepcopy(again[c].current().scatter.rows()) for c in again]
    for tensor in packed.values():
        tensor.zero_()
    assert all(
        torch.equal(again[c].current().scatter.rows(), old) for c, old in zip(again, before, strict=True)
    )


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("rows", lambda t: t[1:]),
        ("classes", lambda t: t + 8),
        ("classes", lambda t: t * 0),
        ("sizes", lambda t: t - 100),
        ("sizes", lambda t: t * 0),
        ("sizes", lambda t: t[:, 1:]),
        ("sizes", lambda t: t.roll(1, dims=1)),
        ("numbers", lambda t: -t),
        ("numbers", lambda t: t[:, 1:]),
        ("weights", lambda t: t * 0),
        ("means", lambda t: t[:, 1:]),
        ("packed", lambda t: t[:, 1:]),
        ("sketches", lambda t: t[1:]),
    ],
)
def test_what_does_not_belong_together_is_refused(name, change):
    packed = pack_states(examples(), DIM)
    packed[name] = change(packed[name])
    with pytest.raises(ArgumentError):
        unpack_states(packed, 8, DIM)


def test_a_missing_tensor_is_named():
    packed = pack_states(examples(), DIM)
    del packed["thirds"]
    with pytest.raises(ArgumentError, match="thirds"):
        unpack_states(packed, 8, DIM)
