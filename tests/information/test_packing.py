import pytest
import torch

from bisector.errors import ArgumentError
from bisector.information.packing import pack_means, pack_moments, unpack_means, unpack_moments
from bisector.statistics.moments import Moments


def some_moments():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    return {7: Moments.of_rows(x[:1]), 2: Moments.of_rows(x[1:4]), 0: Moments.of_rows(x).scaled(0.3)}


def test_there_and_back_to_the_last_bit():
    moments = some_moments()
    again = unpack_moments(pack_moments(moments, 4), 8, 4)
    assert list(again) == list(moments)
    for c, m in moments.items():
        assert (again[c].count, again[c].fourth) == (m.count, m.fourth)
        for name in ("mean", "scatter", "third"):
            assert torch.equal(getattr(again[c], name), getattr(m, name))
    means = {c: (m.count, m.mean) for c, m in moments.items()}
    for c, (count, mean) in unpack_means(pack_means(means, 4), 8, 4).items():
        assert count == means[c][0]
        assert torch.equal(mean, means[c][1])


def test_nothing_at_all_packs_too():
    assert unpack_moments(pack_moments({}, 4), 8, 4) == {}
    assert unpack_means(pack_means({}, 4), 8, 4) == {}


def test_what_is_unpacked_is_its_own():
    packed = pack_moments(some_moments(), 4)
    again = unpack_moments(packed, 8, 4)
    expected = again[2].scatter.clone()
    for tensor in packed.values():
        tensor.zero_()
    assert torch.equal(again[2].scatter, expected)
    assert again[2].scatter.untyped_storage().nbytes() == again[2].scatter.nbytes


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("means", lambda t: t[:, :3]),
        ("thirds", lambda t: t[:2]),
        ("counts", lambda t: t[:2]),
        ("counts", lambda t: t * 0),
        ("counts", lambda t: t * torch.nan),
        ("fourths", lambda t: t[:2]),
        ("rows", lambda t: t + 1),
        ("rows", lambda t: t - torch.tensor([1, 0, -1])),
        ("scatters", lambda t: t[1:]),
        ("classes", lambda t: t * 0),
        ("classes", lambda t: t + 1),
        ("classes", lambda t: t - 1),
    ],
)
def test_what_does_not_belong_together_is_refused(name, change):
    packed = pack_moments(some_moments(), 4)
    packed[name] = change(packed[name])
    with pytest.raises(ArgumentError):
        unpack_moments(packed, 8, 4)


@pytest.mark.parametrize("name", ["classes", "counts", "rows", "scatters"])
def test_a_missing_tensor_is_refused(name):
    packed = pack_moments(some_moments(), 4)
    del packed[name]
    with pytest.raises(ArgumentError):
        unpack_moments(packed, 8, 4)
    with pytest.raises(ArgumentError):
        unpack_moments({**pack_moments({}, 4), "more": torch.zeros(1)}, 8, 4)
