import pytest
import torch
from torch import nn

from bisector.errors import ArgumentError
from bisector.networks.backbones import build_backbone

_IMAGENET = [0.485, 0.456, 0.406]


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("resnet18", 512),
        ("mobilenet_v3_small", 1024),
        ("efficientnet_b0", 1280),
        ("convnext_tiny", 768),
        ("squeezenet1_1", 512),
    ],
)
def test_torchvision_networks_lose_their_classifier_alone(name: str, width: int) -> None:
    """The original classifier, put behind the embeddings, gives the original logits."""
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    whole = models.get_model(name, weights=None).eval()
    torch.manual_seed(0)
    backbone = build_backbone(f"torchvision/{name}", (3, 64, 64)).eval()
    assert backbone.embedding_dim == width
    assert torch.allclose(backbone.normalize.mean.flatten(), torch.tensor(_IMAGENET))
    images = torch.rand(2, 3, 64, 64)
    given: list[torch.Tensor] = []
    last = [m for m in whole.modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    last.register_forward_hook(lambda module, args, out: given.append(args[0]))
    with torch.no_grad():
        whole(backbone.normalize(images))
        found = backbone(images)
    before = given[0] if given[0].dim() == 2 else given[0].relu().mean(dim=(2, 3))
    assert torch.allclose(found, before, atol=1e-5)


@pytest.mark.parametrize("spec", ["torchvision/mobilenet_v3_small", "torchvision/efficientnet_b0"])
def test_an_embedding_is_not_dropped(spec: str) -> None:
    pytest.importorskip("torchvision")
    network = build_backbone(spec, (3, 32, 32)).network
    assert not any(isinstance(module, nn.Dropout) and module.p for module in network.modules())


def test_images_of_one_channel_are_repeated() -> None:
    pytest.importorskip("torchvision")
    backbone = build_backbone("torchvision/resnet18", (1, 32, 32), 8).eval()
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.allclose(backbone(images), backbone(images.expand(-1, 3, -1, -1)), atol=1e-6)
    assert backbone(images).shape == (2, 8)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_with_a_second_classifier_return_one_embedding_in_training(name: str) -> None:
    pytest.importorskip("torchvision")
    backbone = build_backbone(f"torchvision/{name}", (3, 80, 80), 8)
    assert backbone(torch.rand(2, 3, 80, 80)).shape == (2, 8)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            "torchvision/vit_b_16",
            r"for examples of shape \(3, 32, 32\); expected a size .*Expected 224 but got 32",
        ),
        ("torchvision/resnet19", "did you mean 'torchvision/resnet1"),
        ("torchvision/fcn_resnet50", "expected one of the [0-9]+ of torchvision"),
        ("timm/resnett18", "did you mean 'timm/resnet18'"),
        ("timm/vit_tiny_patch16_224", r"for examples of shape \(3, 32, 32\); expected a size .*224"),
    ],
)
def test_networks_that_refuse(spec: str, told: str) -> None:
    pytest.importorskip(spec.partition("/")[0])
    with pytest.raises(ArgumentError, match=told) as caught:
        build_backbone(spec, (3, 32, 32))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "width"), [("resnet10t", 512), ("test_efficientnet", 256)])
def test_timm_networks(name: str, width: int) -> None:
    timm = pytest.importorskip("timm")
    backbone = build_backbone(f"timm/{name}", (1, 32, 32))
    assert (
        backbone.embedding_dim
        == width
        == timm.create_model(name, num_classes=0)(torch.rand(2, 3, 32, 32)).shape[1]
    )
    assert backbone(torch.rand(2, 1, 32, 32)).shape == (2, width)
    assert torch.allclose(
        backbone.normalize.mean.flatten(), torch.tensor(timm.get_pretrained_cfg(name).mean), atol=1e-6
    )


def test_weights_that_cannot_be_had_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """A proxy that nothing listens on: a connection that is refused, on any machine."""
    pytest.importorskip("torchvision")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(
        ArgumentError, match="pretrained: got 'torchvision/resnet18', whose weights cannot be"
    ) as caught:
        build_backbone("torchvision/resnet18", (3, 32, 32), pretrained=True)
    assert "\n" not in str(caught.value)
