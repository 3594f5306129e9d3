"""Heads in what records or transforms their calls: traces, exporters, torch.func, tensors without values."""

import io
import warnings

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.func import functional_call, grad, vmap

from bisector.errors import ArgumentError
from bisector.heads import AMSoftmax, Head, Seesaw
from head_cases import CASES, Case

D, C = 6, 5
ALL = [*CASES, Case("seesaw", Seesaw, lambda C, w: None)]
EVERY = pytest.mark.parametrize("case", ALL, ids=str)


class Logits(nn.Module):
    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.head.logits(embeddings)


def made(case: Case, **options: object) -> Head:
    torch.manual_seed(0)
    return case.build(D, C, **options)


def batch(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(rows, D, generator=generator), torch.arange(rows) % C


@EVERY
def test_a_trace_holds_for_any_number_of_rows(case: Case) -> None:
    head = made(case)
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)  # that a size or a value was baked in
        logits = torch.jit.trace(Logits(head), batch(7)[0])
        loss = torch.jit.trace(head, batch(7), check_trace=False)
    for rows in (1, 4, 30):
        embeddings, labels = batch(rows)
        torch.testing.assert_close(logits(embeddings), head.logits(embeddings))
        torch.testing.assert_close(loss(embeddings, labels), head(embeddings, labels))


@EVERY
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_onnx_gives_the_same_logits_for_any_number_of_rows(case: Case) -> None:
    runtime = pytest.importorskip("onnxruntime")
    head, file = made(case).eval(), io.BytesIO()
    names = {"input_names": ["embeddings"], "dynamic_axes": {"embeddings": {0: "rows"}}}
    torch.onnx.export(Logits(head), (batch(7)[0],), file, dynamo=False, **names)
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for rows in (1, 30):
        embeddings = batch(rows)[0]
        (logits,) = session.run(None, {"embeddings": embeddings.numpy()})
        numpy.testing.assert_allclose(logits, head.logits(embeddings).detach().numpy(), rtol=1e-4, atol=1e-5)


@EVERY
def test_export_gives_the_same_logits_for_any_number_of_rows(case: Case) -> None:
    head = made(case)
    rows = {"embeddings": {0: torch.export.Dim("rows", min=2, max=1000)}}
    exported = torch.export.export(Logits(head), (batch(7)[0],), dynamic_shapes=rows).module()
    torch.testing.assert_close(exported(batch(30)[0]), head.logits(batch(30)[0]))


@EVERY
def test_script_is_refused_in_one_line(case: Case) -> None:
    with pytest.raises(ArgumentError, match=r"torch.jit.script: got a head, \w+; expected torch.jit.trace"):
        torch.jit.script(made(case))
    with pytest.raises(ArgumentError, match=r"torch\.jit\.script"):
        torch.jit.script(Logits(made(case)))


@EVERY
@pytest.mark.parametrize("backend", ["auto", "chunked"])
def test_gradients_of_each_row_are_those_of_a_loop(case: Case, backend: str) -> None:
    if case.name == "seesaw" and backend == "chunked":
        pytest.skip("Seesaw is dense")
    head = made(case, backend=backend)
    embeddings, labels = batch(7)
    parameters = {name: parameter.detach() for name, parameter in head.named_parameters()}

    def loss(parameters: dict[str, Tensor], row: Tensor, label: Tensor) -> Tensor:
        return functional_call(head, parameters, (row[None], label[None]))

    per_row = vmap(grad(loss), in_dims=(None, 0, 0))
    if backend == "chunked":
        with pytest.raises(ArgumentError, match=r"backend: got 'chunked' with torch.func; expected 'dense'"):
            per_row(parameters, embeddings, labels)
        return
    found = per_row(parameters, embeddings, labels)
    for row in range(len(labels)):
        head.zero_grad()
        head(embeddings[row : row + 1], labels[row : row + 1]).backward()
        for name, parameter in head.named_parameters():
            torch.testing.assert_close(found[name][row], parameter.grad)


@EVERY
def test_tensors_without_values_have_a_loss_of_its_shape(case: Case) -> None:
    head = made(case).to("meta")
    embeddings, labels = (tensor.to("meta") for tensor in batch(7))
    loss = head(embeddings, labels)
    assert (loss.device.type, loss.shape) == ("meta", ())
    loss.backward()
    assert all(p.grad is not None for p in head.parameters() if p.requires_grad)
    head = made(case)
    with FakeTensorMode(allow_non_fake_inputs=True):
        rows, classes = torch.empty(7, D), torch.zeros(7, dtype=torch.int64)
        assert head(rows, classes).shape == ()


def test_classes_are_not_drawn_where_nothing_can_be_drawn() -> None:
    head = AMSoftmax(D, C, sample=0.5, device="meta")
    with pytest.raises(ArgumentError, match=r"sample: got 0.5 with meta tensors; expected 1"):
        head(*(tensor.to("meta") for tensor in batch(7)))
