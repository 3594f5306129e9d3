import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from head_cases import CASES, Case, batch, made, with_classes_permuted

sizes = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(2, 9), st.integers(0, 10_000))


@pytest.mark.parametrize("case", CASES, ids=str)
@given(sizes=sizes)
def test_the_order_of_rows_and_of_classes_changes_nothing(
    case: Case, sizes: tuple[int, int, int, int]
) -> None:
    B, D, C, seed = sizes
    generator = torch.Generator().manual_seed(seed)
    rows, classes = torch.randperm(B, generator=generator), torch.randperm(C, generator=generator)
    head = made(case, D, C, seed=seed, dtype=torch.float64)
    twin = with_classes_permuted(head, classes)
    embeddings, labels = batch(B, D, C, seed=seed)
    embeddings = embeddings.double().requires_grad_()
    permuted = embeddings.detach()[rows].requires_grad_()

    loss, twin_loss = head(embeddings, labels), twin(permuted, classes.argsort()[labels[rows]])
    torch.testing.assert_close(twin_loss, loss, rtol=1e-9, atol=1e-9)
    loss.backward()
    twin_loss.backward()
    torch.testing.assert_close(permuted.grad, embeddings.grad[rows], rtol=1e-8, atol=1e-8)
    for mine, theirs in zip(head.parameters(), twin.parameters(), strict=True):
        expected = mine.grad[classes] if len(mine) == C else mine.grad
        torch.testing.assert_close(theirs.grad, expected, rtol=1e-8, atol=1e-8)
