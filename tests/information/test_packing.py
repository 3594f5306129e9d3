import copy

import pytest
import torch

from bisector.errors import ArgumentError
from bisector.information.holding import Holding
from bisector.information.packing import pack_holdings, pack_means, unpack_holdings, unpack_means
from bisector.statistics.moments import Moments

DIM = 70


def examples():
    """Every form: rows of both dtypes, a forgotten factor with rows, a scatter with rows that wait, a sketch."""
    x = torch.randn(200, DIM, generator=torch.Generator().manual_seed(0))
    holdings = {7: Holding(DIM), 2: Holding(DIM), 0: Holding(DIM, Moments.of_rows(x[:9]).scaled(0.3))}
    holdings[7].append(x[:3])
    holdings[7].append(x[3:5])
    holdings[2].append(x[:4].double())
    holdings[0].append(x[:2])
    holdings[5], holdings[6] = Holding(DIM), Holding(DIM)
    holdings[5].append(x)
    holdings[5].append(x[:3])
    holdings[6].append(x)
    holdings[6].sketch(4)
    holdings[6].append(x[:2])
    return holdings


def test_they_come_back_to_the_last_bit():
    holdings = examples()
    again = unpack_holdings(pack_holdings(holdings, DIM), 8, DIM)
    assert again.keys() == holdings.keys()
    for c, one in holdings.items():
        other = again[c]
        assert (other.form, other.count, other.nbytes) == (one.form, one.count, one.nbytes)
        mine, theirs = one.current(), other.current()
        assert torch.equal(mine.scatter.full(), theirs.scatter.full())
        assert torch.equal(mine.mean, theirs.mean)
        assert torch.equal(mine.third, theirs.third)
        assert (mine.fourth, mine.fourth_error) == (theirs.fourth, theirs.fourth_error)
        if one.form == "sketch":
            a, b = one.moments.scatter, other.moments.scatter
            assert (a.size, a.trace, a.missing, a.rounding) == (b.size, b.trace, b.missing, b.rounding)


def test_nothing_packs_to_nothing():
    assert unpack_holdings(pack_holdings({}, DIM), 8, DIM) == {}
    assert unpack_means(pack_means({}, DIM), 8, DIM) == {}


def test_what_is_unpacked_shares_no_memory():
    packed = pack_holdings(examples(), DIM)
    again = unpack_holdings(packed, 8, DIM)
    before = copy.deepcopy(again[5].moments.scatter.values)
    for part in packed.values():
        for tensor in part.values():
            tensor.zero_()
    assert torch.equal(again[5].moments.scatter.values, before)


@pytest.mark.parametrize(
    ("part", "name", "change"),
    [
        ("rows32", "rows", lambda t: t[1:]),
        ("rows32", "counts", lambda t: t * 0),
        ("rows32", "classes", lambda t: t + 8),
        ("moments", "kinds", lambda t: t + 1),
        ("moments", "rows", lambda t: t - 100),
        ("moments", "numbers", lambda t: -t),
        ("moments", "numbers", lambda t: t[:, 1:]),
        ("moments", "means", lambda t: t[:, 1:]),
        ("moments", "packed", lambda t: t[:, 1:]),
        ("moments", "factors", lambda t: t[1:]),
        ("moments", "sketches", lambda t: t[1:]),
        ("moments", "classes", lambda t: t * 0),
    ],
)
def test_what_does_not_belong_together_is_refused(part, name, change):
    packed = pack_holdings(examples(), DIM)
    packed[part][name] = change(packed[part][name])
    with pytest.raises(ArgumentError):
        unpack_holdings(packed, 8, DIM)


def test_a_missing_tensor_is_named():
    packed = pack_holdings(examples(), DIM)
    del packed["moments"]["thirds"]
    with pytest.raises(ArgumentError, match="thirds"):
        unpack_holdings(packed, 8, DIM)
