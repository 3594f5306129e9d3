from pathlib import Path

import pytest
import torch
from torch import nn

from bisector.errors import ArgumentError
from bisector.networks.backbones import _OWN, build_backbone
from bisector.networks.names import OWN
from bisector.networks.zoo import Normalize


@pytest.mark.parametrize(
    ("spec", "shape", "width"),
    [
        ("auto", (1, 8, 8), 256),
        ("small-conv", (3, 32, 32), 256),
        ("small-conv:width=48", (1, 28, 28), 384),
        ("resnet20", (1, 8, 8), 64),
        ("auto", (7,), 256),
        ("mlp:width=24", (7,), 24),
        ("mlp", (1, 8, 8), 256),
        ("identity", (7,), 7),
        ("identity", (1, 8, 8), 64),
    ],
)
@pytest.mark.parametrize("embedding_dim", [None, 5])
def test_shapes(spec: str, shape: tuple[int, ...], width: int, embedding_dim: int | None) -> None:
    backbone = build_backbone(spec, shape, embedding_dim)
    embeddings = backbone(torch.rand(3, *shape))
    assert backbone.training
    assert embeddings.dtype == torch.float32
    assert embeddings.shape == (3, backbone.embedding_dim) == (3, embedding_dim or width)


def test_a_name_draws_the_weights_of_its_layers_in_their_order() -> None:
    torch.manual_seed(3)
    layers = [nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)]
    plain = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 5))
    torch.manual_seed(3)
    named = build_backbone("auto", (1, 8, 8), 5)
    images = torch.rand(4, 1, 8, 8)
    assert torch.allclose(plain(images), named(images), atol=1e-5)


def test_trying_the_size_leaves_no_trace() -> None:
    backbone = build_backbone("resnet20", (3, 32, 32))
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert int(module.num_batches_tracked) == 0
            assert module.training


def test_identity_returns_the_examples() -> None:
    vectors = torch.randn(4, 7)
    assert torch.equal(build_backbone("identity", (7,))(vectors), vectors)


def test_the_residual_network_normalises_its_pixels() -> None:
    backbone = build_backbone("resnet20", (2, 8, 8)).eval()
    images = torch.rand(3, 2, 8, 8)
    assert torch.allclose(backbone(images), backbone.network((images - 0.5) / 0.25), atol=1e-6)
    assert {"normalize.mean", "normalize.std"} <= set(backbone.state_dict())


def test_normalize_against_torchvision() -> None:
    transforms = pytest.importorskip("torchvision.transforms.v2.functional")
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    images = torch.rand(2, 3, 4, 5)
    assert torch.allclose(Normalize(mean, std)(images), transforms.normalize(images, mean, std))
    gray = images[:, :1]
    assert torch.equal(Normalize(mean, std)(gray), Normalize(mean, std)(gray.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    ("spec", "shape", "told"),
    [
        ("small-con", (1, 8, 8), "backbone: got 'small-con'; did you mean 'small-conv'?"),
        ("resnet33", (1, 8, 8), "did you mean 'resnet32'?"),
        ("resnet18", (1, 8, 8), "did you mean 'torchvision/resnet18' or 'timm/resnet18'?"),
        ("vit_b_16", (1, 8, 8), "did you mean 'torchvision/vit_b_16'?"),
        ("small-conv:widht=4", (1, 8, 8), "got 'widht'; did you mean 'width'?"),
        ("small-conv:width", (1, 8, 8), "expected name:option=value"),
        ("small-conv:width=", (1, 8, 8), "expected name:option=value"),
        ("small-conv:width=wide", (1, 8, 8), "width of backbone .*: got 'wide'; expected an integer"),
        ("mlp:width=0", (7,), "width of backbone 'mlp:width=0': got 0; expected an integer of at least 1"),
        ("mlp:width=3:width=4", (7,), "width twice in .*; expected each option once"),
        ("resnet32:width=3", (3, 32, 32), "got 'width=3'; expected no option"),
        ("small-conv", (7,), "got 'small-conv' for vectors; expected mlp or identity"),
        ("torchvision/resnet18", (7,), "for vectors; expected mlp or identity"),
        ("small-conv", (1, 3, 3), "got 'small-conv' for examples of shape \\(1, 3, 3\\); expected a size"),
        ("auto", (8, 8), "shape: got \\(8, 8\\)"),
        ("torchvison/resnet18", (3, 32, 32), "did you mean 'torchvision'?"),
        ("torchvision/resnet18", (4, 32, 32), "expected 1 or 3 channels"),
    ],
)
def test_mistakes_are_told(spec: str, shape: tuple[int, ...], told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        build_backbone(spec, shape)


@pytest.mark.parametrize("spec", ["auto", "resnet32", "mlp"])
def test_only_libraries_have_pretrained_weights_and_a_dimension_is_at_least_1(spec: str) -> None:
    with pytest.raises(ArgumentError, match="pretrained: got backbone"):
        build_backbone(spec, (3, 32, 32), pretrained=True)
    with pytest.raises(ArgumentError, match="embedding_dim: got 0"):
        build_backbone(spec, (3, 32, 32), 0)


def test_a_backbone_is_saved_with_its_normalisation(tmp_path: Path) -> None:
    backbone = build_backbone("resnet20", (3, 8, 8), 4)
    torch.save(backbone.state_dict(), tmp_path / "weights.pt")
    other = build_backbone("resnet20", (3, 8, 8), 4)
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(backbone.eval()(images), other.eval()(images))


@pytest.mark.parametrize("size", [(8, 8), (20, 30), (30, 20), (4, 4), (28, 36), (13, 13)])
def test_any_size_is_pooled_as_pytorch_does_and_goes_into_onnx(size: tuple[int, int], tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    network = build_backbone("small-conv", (3, *size), None).eval()
    images = torch.rand(4, 3, *size)
    stages = network.network[:-2]
    expected = nn.functional.adaptive_avg_pool2d(stages(network.normalize(images)), 2).flatten(1)
    torch.testing.assert_close(network(images), expected)
    path = tmp_path / "network.onnx"
    torch.onnx.export(network, (images,), path, dynamo=False, input_names=["x"])
    (found,) = runtime.InferenceSession(path).run(None, {"x": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), network(images), atol=1e-5, rtol=1e-4)


def test_names_are_those_that_are_built() -> None:
    assert tuple(_OWN) == OWN
