"""What a model may be that embeds data, told without PyTorch."""

TORCHSCRIPT = frozenset({".pt", ".pth", ".ts", ".torchscript"})
"""The suffixes of TorchScript files."""

PUBLISHED = ("timm/", "torchvision/")
"""How the names of published networks begin, where no file is called so."""

MODELS = (
    "a folder of a run, a .ckpt, an exported .safetensors, timm/NAME, torchvision/NAME, a folder of transformers, "
    "a TorchScript file (.pt, .pth, .ts, .torchscript), or a file.onnx"
)
