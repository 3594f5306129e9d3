import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from bisector.functional.cosine import angle, psi, shift_angle, sine, unit

CIRCLE = torch.linspace(0, math.pi, 4001, dtype=torch.float64)
margins = st.floats(-4 * math.pi, 4 * math.pi)


def test_unit_rows_have_length_one_and_the_gradient_of_normalize() -> None:
    rows = torch.randn(
        5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    torch.testing.assert_close(unit(rows), F.normalize(rows, dim=-1))
    assert torch.autograd.gradcheck(unit, rows)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_row_of_zeros_stays_zero_and_passes_no_gradient(dtype: torch.dtype) -> None:
    rows = torch.zeros(2, 3, dtype=dtype, requires_grad=True)
    unit(rows).sum().backward()
    assert (unit(rows) == 0).all()
    assert (rows.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", [sine, angle])
def test_sine_and_angle_have_finite_gradients_up_to_the_poles(function, dtype: torch.dtype) -> None:
    one = torch.tensor(1.0, dtype=dtype)
    edge = torch.stack([one, one.nextafter(0 * one), one.nextafter(2 * one)])
    cosines = torch.cat([edge, -edge]).requires_grad_()
    (gradient,) = torch.autograd.grad(function(cosines).sum(), cosines)
    assert gradient.isfinite().all()
    assert (gradient[[0, 3]].abs() < 1e-12).all()


def test_sine_and_angle_are_those_of_the_circle() -> None:
    torch.testing.assert_close(sine(CIRCLE.cos()), CIRCLE.sin(), rtol=0, atol=1e-7)
    torch.testing.assert_close(angle(CIRCLE.cos()), CIRCLE, rtol=0, atol=1e-7)
    inner = CIRCLE[100:-100].cos().requires_grad_()
    (slope,) = torch.autograd.grad(angle(inner).sum(), inner)
    torch.testing.assert_close(slope, -1 / CIRCLE[100:-100].sin(), rtol=1e-9, atol=0)


def test_psi_is_the_cosine_inside_and_falls_without_a_jump_over_eight_half_turns() -> None:
    line = torch.linspace(-4 * math.pi, 4 * math.pi, 80_001, dtype=torch.float64)
    steps = psi(line).diff()
    assert (steps <= 0).all()
    assert (steps >= -1.001 * line.diff()).all()  # its slope is that of a cosine: no jump
    torch.testing.assert_close(psi(CIRCLE), CIRCLE.cos(), rtol=0, atol=1e-15)
    turns = torch.arange(-4.0, 5.0, dtype=torch.float64)
    torch.testing.assert_close(psi(turns * math.pi), 1 - 2 * turns, rtol=0, atol=1e-12)


@given(st.floats(0, math.pi), margins)
def test_shift_angle_is_psi_of_the_sum(theta: float, margin: float) -> None:
    cosine = torch.tensor(theta, dtype=torch.float64).cos()
    expected = psi(torch.tensor(math.acos(float(cosine)) + margin, dtype=torch.float64))
    torch.testing.assert_close(shift_angle(cosine, margin), expected, rtol=0, atol=1e-12)


@given(margins, st.sampled_from([torch.float32, torch.float64]))
def test_shift_angle_never_falls_as_the_cosine_rises(margin: float, dtype: torch.dtype) -> None:
    cosines = torch.linspace(-1, 1, 2001, dtype=dtype)
    rounding = 16 * torch.finfo(dtype).eps
    assert (shift_angle(cosines, margin).diff() >= -rounding).all()


@given(margins)
def test_shift_angle_has_the_slope_of_psi(margin: float) -> None:
    theta = CIRCLE[100:-100:200] + 0.0137
    cosines = theta.cos().requires_grad_()
    (slope,) = torch.autograd.grad(shift_angle(cosines, margin).sum(), cosines)
    expected = (theta + margin).sin().abs() / theta.sin()
    torch.testing.assert_close(slope, expected, rtol=1e-8, atol=1e-10)


def test_a_margin_of_zero_changes_no_bit_and_margins_broadcast() -> None:
    cosines = torch.linspace(-1, 1, 101).expand(3, 101)
    assert torch.equal(shift_angle(cosines, 0.0), cosines)
    margins = torch.tensor([[0.0], [0.4], [-5.0]])
    rows = [shift_angle(cosines[0], float(m)) for m in margins]
    torch.testing.assert_close(shift_angle(cosines, margins), torch.stack(rows))


def test_a_margin_may_be_learned() -> None:
    margin = torch.tensor([0.3, 2.0, -7.0], dtype=torch.float64, requires_grad=True)
    cosines = torch.tensor([0.4, -0.9, 0.1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(shift_angle, (cosines, margin))
