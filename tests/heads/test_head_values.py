from typing import Any

import pytest
import torch
from torch import Tensor

from bisector.heads import Head
from head_cases import CASES, Case, batch, made, naive_rows

D, C = 5, 7


def results(loss_rows: Tensor, embeddings: Tensor, head: Head) -> dict[str, Tensor]:
    """The losses and the gradients of a weighted sum of them (a plain sum could hide a mistake by symmetry)."""
    weights = torch.linspace(0.5, 1.5, len(loss_rows), dtype=loss_rows.dtype)
    names, parameters = zip(*head.named_parameters(), strict=True)
    gradients = torch.autograd.grad((weights * loss_rows).sum(), [embeddings, *parameters])
    return dict(zip(["loss", "embeddings", *names], [loss_rows.detach(), *gradients], strict=True))


def ours_and_naive(
    case: Case, dtype: torch.dtype, seed: int, B: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    head = made(case, D, C, seed=seed, dtype=dtype, reduction="none")
    embeddings, labels = batch(B, D, C, seed=seed)
    embeddings = embeddings.to(dtype).requires_grad_()
    ours = results(head(embeddings, labels), embeddings, head)
    return ours, results(naive_rows(case, head, embeddings, labels), embeddings, head)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_equal_the_naive_loss_in_float64(case: Case) -> None:
    ours, naive = ours_and_naive(case, torch.float64, seed=0, B=12)
    assert ours.keys() == naive.keys()
    for name, value in ours.items():
        torch.testing.assert_close(
            value, naive[name], rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float32_errs_at_most_twice_as_much_as_the_plain_formula(case: Case) -> None:
    pairs: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
    for seed in range(4):
        ours, naive = ours_and_naive(case, torch.float32, seed, B=8)
        _, exact = ours_and_naive(case, torch.float64, seed, B=8)
        for name in exact:
            pairs.setdefault(name, []).append((ours[name], naive[name], exact[name]))
    for name, triples in pairs.items():
        mine, plain, exact = (torch.cat([t[k].flatten().double() for t in triples]) for k in range(3))
        error, allowed = (mine - exact).square().mean().sqrt(), 2 * (plain - exact).square().mean().sqrt()
        # Even the exact number errs by half a unit in its last place once it is stored in float32.
        floor = torch.finfo(torch.float32).eps * exact.abs().max()
        assert error <= allowed + floor, (name, float(error), float(allowed))


@pytest.mark.parametrize("labelled", ["soft", "smoothed"])
@pytest.mark.parametrize("case", [case for case in CASES if case.soft_labels], ids=str)
def test_soft_labels_equal_the_naive_loss_and_smoothing_by_hand_equals_the_option(
    case: Case, labelled: str
) -> None:
    embeddings, labels = batch(6, D, C, seed=3)
    embeddings = embeddings.double().requires_grad_()
    head = made(case, D, C, dtype=torch.float64, reduction="none")
    if labelled == "soft":
        soft = torch.rand(6, C, generator=torch.Generator().manual_seed(4), dtype=torch.float64).softmax(1)
        expected = results(naive_rows(case, head, embeddings, soft), embeddings, head)
    else:
        soft = 0.8 * torch.nn.functional.one_hot(labels, C).double() + 0.2 / C
        smoothed = made(case, D, C, dtype=torch.float64, reduction="none", label_smoothing=0.2)
        expected = results(smoothed(embeddings, labels), embeddings, smoothed)
    for name, value in results(head(embeddings, soft), embeddings, head).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("options", [{"backend": "dense"}, {"backend": "chunked"}, {"sample": 0.5}], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_mean_over_rows_of_no_weight_is_zero_however_many(case: Case, options: dict[str, Any]) -> None:
    """torch says 0 / 0 = NaN; smoothing alone must not make a sum of it."""
    smoothing = 0.1 if case.soft_labels else 0.0
    head = made(case, D, C, weight=[0.0] + [1.0] * (C - 1), label_smoothing=smoothing, **options)
    for rows in (1, 8, 64):
        embeddings, _ = batch(rows, D, C)
        embeddings.requires_grad_()
        loss = head(embeddings, torch.zeros(rows, dtype=torch.long))
        assert float(loss.detach()) == 0
        for gradient in torch.autograd.grad(loss, [embeddings, *head.parameters()]):
            assert (gradient.to_dense() == 0).all()
