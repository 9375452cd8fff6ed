#!/usr/bin/env python3
"""Make a backbone for vadlite from a torchvision network.

    python3 models/export_torchvision.py NETWORK --out FILE.onnx [--weights FILE.pth | --random]

NETWORK is resnet18, wide_resnet50_2 (outputs layer1, layer2, layer3) or mobilenet_v2 (outputs features.4 to
features.14). Without --weights torchvision downloads its default ImageNet weights; --random keeps the random
initialisation and serves tests only. Batch normalisation is folded while exporting; ImageNet's mean and standard
deviation go into the file's metadata, where vadlite reads them. Needed: torch, torchvision, onnx.

    vadlite fit --method patchcore --backbone FILE.onnx --images DIR --out part.vadlite
"""

import argparse

import onnx
import torch
import torchvision
from torch import nn

TAPS = {
    "resnet18": ["layer1", "layer2", "layer3"],
    "wide_resnet50_2": ["layer1", "layer2", "layer3"],
    "mobilenet_v2": [f"features.{n}" for n in range(4, 15)],
}

OPSET = 17
MEAN, STD = "0.485,0.456,0.406", "0.229,0.224,0.225"


class Taps(nn.Module):
    """The network up to the last tap, returning every tap."""

    def __init__(self, network, taps):
        super().__init__()
        prefix = taps[0].rpartition(".")[0]
        children = list((network.get_submodule(prefix) if prefix else network).named_children())
        names = [f"{prefix}.{name}" if prefix else name for name, _ in children]
        end = names.index(taps[-1]) + 1
        self.names, self.taps = names[:end], taps
        self.parts = nn.ModuleList(module for _, module in children[:end])

    def forward(self, x):
        out = []
        for name, part in zip(self.names, self.parts):
            x = part(x)
            if name in self.taps:
                out.append(x)
        return tuple(out)


def load(name, weights, random):
    """The torchvision network in evaluation mode."""
    build = getattr(torchvision.models, name)
    if weights is None:
        return build(weights=None if random else "DEFAULT").eval()
    network = build(weights=None)
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()


def check(module, path, taps):
    """Run the file in ONNX Runtime and compare every tap with PyTorch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = torch.rand(2, 3, 192, 256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = module(x)
    for name, got, expected in zip(taps, session.run(taps, {"input": x.numpy()}), want):
        error = (torch.from_numpy(got) - expected).abs().max() / expected.abs().max()
        print(f"{name:12} {tuple(got.shape)}  largest difference / largest value = {error:.1e}")
        if not error < 1e-4:
            raise SystemExit(f"{name} differs from PyTorch's forward pass")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=sorted(TAPS))
    parser.add_argument("--out", required=True, help="ONNX file to write")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--weights", help="state dictionary (.pth) of this network")
    source.add_argument("--random", action="store_true", help="random weights, for tests")
    parser.add_argument("--check", action="store_true", help="compare the written file with PyTorch (needs onnxruntime)")
    options = parser.parse_args()

    torch.manual_seed(0)
    taps = TAPS[options.network]
    module = Taps(load(options.network, options.weights, options.random), taps).eval()
    axes = {"input": {0: "batch", 2: "height", 3: "width"}}
    axes.update({tap: {0: "batch", 2: f"height_{tap}", 3: f"width_{tap}"} for tap in taps})
    torch.onnx.export(
        module,
        (torch.zeros(1, 3, 224, 224),),
        options.out,
        input_names=["input"],
        output_names=taps,
        dynamic_axes=axes,
        opset_version=OPSET,
        do_constant_folding=True,
        dynamo=False,
    )
    model = onnx.load(options.out)
    for key, value in [("vadlite.name", options.network), ("vadlite.mean", MEAN), ("vadlite.std", STD)]:
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, options.out)
    print(f"{options.out}: input {[d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]}, outputs {', '.join(taps)}")
    if options.check:
        check(module, options.out, taps)


if __name__ == "__main__":
    main()
