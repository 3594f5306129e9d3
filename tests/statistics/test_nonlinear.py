import mpmath
import numpy as np
import pytest
import torch

from bisector.statistics.shrinkage import ledoit_peche, quadratic_inverse


def sample_spectrum(count, true, seed=0):
    generator = torch.Generator().manual_seed(seed)
    true = torch.as_tensor(true, dtype=torch.float64)
    x = torch.randn(count, len(true), generator=generator, dtype=torch.float64) * true.sqrt()
    x = x - x.mean(0)
    return torch.linalg.eigvalsh(x.T @ x / (count - 1))[max(0, len(true) - count + 1) :]


def ledoit_peche_in_fifty_digits(eigenvalues, p, n):
    # The printed formula: it cancels, so it is taken with digits to spare.
    mp = mpmath.mp.clone()
    mp.dps = 50
    lam = [mp.mpf(v) for v in eigenvalues.tolist()]
    h, c, s5, size = mp.mpf(n) ** (-mp.mpf(1) / 3), mp.mpf(p) / n, mp.sqrt(5), len(lam)
    shrunk = []
    for li in lam:
        f = hilbert = mp.mpf(0)
        for lj in lam:
            hj = h * lj
            x = (li - lj) / hj
            f += 3 / (4 * s5 * hj) * max(0, 1 - x**2 / 5) / size
            log = mp.log(abs((s5 - x) / (s5 + x)))
            hilbert += (-3 * x / (10 * mp.pi) + 3 / (4 * s5 * mp.pi) * (1 - x**2 / 5) * log) / hj / size
        if p <= n:
            shrunk.append(li / ((mp.pi * c * li * f) ** 2 + (1 - c - mp.pi * c * li * hilbert) ** 2))
        else:
            shrunk.append(1 / (mp.pi**2 * li * (f**2 + hilbert**2)))
    if p > n:
        edge = s5 * h
        log = mp.log((1 + edge) / (1 - edge))
        at_zero = (3 / (10 * h**2) + 3 / (4 * s5 * h) * (1 - 1 / (5 * h**2)) * log) / mp.pi
        at_zero *= sum(1 / v for v in lam) / size
        shrunk = [1 / (mp.pi * (mp.mpf(p) - n) / n * at_zero)] * (p - size) + shrunk
    return np.array([float(v) for v in shrunk])


def quadratic_inverse_as_printed(eigenvalues, p, n):
    # A transcription of the authors' code, loops and all.
    inverse = [1 / v for v in eigenvalues.tolist()]
    c = p / n
    h = min(c**2, 1 / c**2) ** 0.35 / p**0.35
    shrunk = []
    for ui in inverse:
        theta = sum(uj * (uj - ui) / ((uj - ui) ** 2 + h**2 * uj**2) for uj in inverse) / len(inverse)
        conjugate = sum(uj * h * uj / ((uj - ui) ** 2 + h**2 * uj**2) for uj in inverse) / len(inverse)
        squared = theta**2 + conjugate**2
        if p <= n:
            shrunk.append(1 / ((1 - c) ** 2 * ui + 2 * c * (1 - c) * ui * theta + c**2 * ui * squared))
        else:
            shrunk.append(1 / (ui * squared))
    if p > n:
        shrunk = [1 / ((c - 1) * sum(inverse) / len(inverse))] * (p - len(inverse)) + shrunk
    shrunk = np.array(shrunk)
    return shrunk * eigenvalues.sum().item() / shrunk.sum()


@pytest.mark.parametrize("condition", [10.0, 1e3, 1e8])
@pytest.mark.parametrize("count", [13, 20, 21, 22, 23, 80, 1000])
def test_both_match_their_printed_formulas(count, condition):
    # p = 20: n = m - 1 is below, next to, equal to and above the dimension.
    true = torch.logspace(0, float(np.log10(condition)), 20, dtype=torch.float64)
    eigenvalues = sample_spectrum(count, true)
    for estimate, oracle in (
        (ledoit_peche, ledoit_peche_in_fifty_digits),
        (quadratic_inverse, quadratic_inverse_as_printed),
    ):
        shrunk = estimate(eigenvalues, 20, count - 1)
        np.testing.assert_allclose(shrunk, oracle(eigenvalues, 20, count - 1), rtol=1e-10)


def test_the_kernels_edge_is_finite():
    # Two eigenvalues exactly sqrt(5) bandwidths apart, as near as float64 comes to it.
    bandwidth = 27 ** (-1 / 3)
    near = 1 + 5**0.5 * bandwidth
    for other in (near, np.nextafter(near, 0), np.nextafter(near, 9)):
        eigenvalues = torch.tensor([1.0, float(other)], dtype=torch.float64)
        oracle = ledoit_peche_in_fifty_digits(eigenvalues, 2, 27)
        np.testing.assert_allclose(ledoit_peche(eigenvalues, 2, 27), oracle, rtol=1e-10)


@pytest.mark.parametrize("count", [2, 3, 20, 21, 22, 500])
def test_quadratic_inverse_keeps_the_trace(count):
    eigenvalues = sample_spectrum(count, torch.linspace(1, 9, 20))
    torch.testing.assert_close(quadratic_inverse(eigenvalues, 20, count - 1).sum(), eigenvalues.sum())
