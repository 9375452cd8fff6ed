#!/usr/bin/env python3
"""Make mobilenetv2-int8.onnx, the same backbone in 8 bits, from mobilenetv2.onnx.

    python3 models/quantize_mobilenetv2.py [--wheel scikit_image-0.26.0-….whl] [--out FILE]
    python3 models/quantize_mobilenetv2.py --check FILE

Activations are unsigned and weights signed bytes, one scale per output channel, written as QuantizeLinear and
DequantizeLinear around each convolution (QDQ), which ONNX Runtime, TensorRT and OpenVINO turn into integer
arithmetic. The first convolution and the residual additions stay in floats.

Weights are not rounded to the nearest number. A depthwise kernel is a difference of large terms, and rounding each
of its nine weights to the nearest lets a constant through that is larger than what the kernel looks for. So all 512
ways of rounding a kernel up or down are tried against the covariance of its inputs (Nagel et al. 2020, AdaRound,
solve this by gradient descent where there are too many ways to try), and the pointwise convolutions pass each error
on to the weights not yet rounded (Frantar et al. 2023, GPTQ). What is left of it in the mean goes into the bias
(Nagel et al. 2019).

The inputs' covariances and ranges come from photographs that the PyPI package scikit-image carries; without --wheel
it is fetched with pip. Needed: numpy, onnx, onnxruntime, pillow. Since ranges are measured in floating point, another
processor or library may give a file that differs in a few bytes; `--check` holds a file against the original.
"""

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

PACKAGE = "scikit-image==0.26.0"
PLATFORM = ["--platform", "manylinux_2_28_x86_64", "--python-version", "3.12", "--only-binary", ":all:"]
WHEEL_SHA256 = "7df650e79031634ac90b11e64a9eedaf5a5e06fcd09bcd03a34be01745744466"
# Photographs in colour and in grey, of objects and of surfaces; not the drawings, scans of text and test patterns.
PICTURES = (
    "astronaut.png brick.png camera.png cell.png chelsea.png clock_motion.png coffee.png coins.png grass.png gravel.png"
    " hubble_deep_field.jpg ihc.png moon.png motorcycle_left.png retina.jpg rocket.jpg"
).split()
SIZE = 224

STEM = "features.0.conv"
RELU6 = (0.0, 6.0)
LARGEST = 127
# Scales tried for a depthwise kernel, relative to the one at which its largest weight just fits.
SCALES = [1.0, 1.03, 1.06, 1.1, 1.14, 1.18, 1.22]
# Share of the mean variance that is added to the covariances, so that they can be inverted.
DAMPING = 0.01
# Below this a file is not the same network. Plain rounding gives 10 to 12 dB.
LEAST_SNR = 15.0


def pictures(wheel_path):
    """Crops of the photographs, normalised as the network wants them: N x 3 x SIZE x SIZE."""
    with tempfile.TemporaryDirectory() as folder:
        if wheel_path is None:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
            subprocess.run([*command, *PLATFORM, "-d", folder, PACKAGE], check=True)
            wheel_path = os.path.join(folder, os.listdir(folder)[0])
        with open(wheel_path, "rb") as file:
            data = file.read()
    found = hashlib.sha256(data).hexdigest()
    if found != WHEEL_SHA256:
        raise SystemExit(f"{wheel_path}: SHA-256 is {found}, expected {WHEEL_SHA256}")
    crops = []
    with zipfile.ZipFile(io.BytesIO(data)) as wheel:
        for name in PICTURES:
            picture = Image.open(io.BytesIO(wheel.read(f"skimage/data/{name}"))).convert("RGB")
            width, height = picture.size
            side = min(width, height)
            # The whole picture, and its middle at full resolution.
            boxes = [(0, 0, side, side), (width - side, height - side, width, height)]
            if side > SIZE:
                left, top = (width - SIZE) // 2, (height - SIZE) // 2
                boxes.append((left, top, left + SIZE, top + SIZE))
            for box in dict.fromkeys(boxes):
                crop = picture.crop(box).resize((SIZE, SIZE), Image.BILINEAR)
                crops.append(np.asarray(crop, np.float32).transpose(2, 0, 1) / 127.5 - 1)
    return np.stack(crops)


def attribute(node, name):
    """An attribute of a node."""
    return next(helper.get_attribute_value(a) for a in node.attribute if a.name == name)


def is_quantised(node):
    """Whether a node is a convolution that is computed in integers."""
    return node.op_type == "Conv" and node.name != STEM


def patches(node, values):
    """The input of a convolution as channels x taps x positions (depthwise) or inputs x positions (pointwise)."""
    if attribute(node, "kernel_shape") == [1, 1]:
        return values.reshape(len(values), -1).astype(np.float64)
    (stride, _), (top, left, bottom, right) = attribute(node, "strides"), attribute(node, "pads")
    padded = np.pad(values, ((0, 0), (top, bottom), (left, right)))
    rows, columns = ((padded.shape[axis] - 3) // stride + 1 for axis in (1, 2))
    parts = [
        padded[:, dy : dy + rows * stride : stride, dx : dx + columns * stride : stride].reshape(len(values), -1)
        for dy in range(3)
        for dx in range(3)
    ]
    return np.stack(parts, 1).astype(np.float64)


def measure(model, images):
    """({value: (smallest, largest)}, {convolution: (mean, covariance) of its inputs}) over the images."""
    wanted = [node.output[0] for node in model.graph.node]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted)
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    ranges, sums = {}, {}
    for image in images:
        values = dict(zip(wanted, session.run(wanted, {"input": image[None]})))
        for name, value in values.items():
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = min(low, float(value.min())), max(high, float(value.max()))
        for node in filter(is_quantised, model.graph.node):
            x = patches(node, values[node.input[0]][0])
            count, first, second = sums.get(node.name, (0, 0, 0))
            products = x @ x.swapaxes(-1, -2)
            sums[node.name] = count + x.shape[-1], first + x.sum(-1), second + products
    moments = {}
    for name, (count, first, second) in sums.items():
        mean = first / count
        moments[name] = mean, second / count - mean[..., :, None] * mean[..., None, :]
    return ranges, moments


def damped(covariance):
    """An invertible covariance."""
    size = len(covariance)
    return covariance + np.eye(size) * (DAMPING * np.trace(covariance) / size + 1e-12)


def round_depthwise(weights, covariances):
    """(codes, scales) of channels x 9 weights: the best of all ways to round each up or down, at several scales."""
    ways = np.indices((2,) * 9).reshape(9, -1).T
    codes, scales = np.zeros_like(weights), np.zeros(len(weights))
    for channel, (kernel, covariance) in enumerate(zip(weights, covariances)):
        least, covariance = np.inf, damped(covariance)
        for factor in SCALES:
            scale = max(np.abs(kernel).max(), 1e-12) * factor / LARGEST
            candidates = np.clip(np.floor(kernel / scale) + ways, -LARGEST, LARGEST)
            errors = candidates * scale - kernel
            cost = np.einsum("ni,ij,nj->n", errors, covariance, errors)
            if cost.min() < least:
                least, codes[channel], scales[channel] = cost.min(), candidates[cost.argmin()], scale
    return codes, scales


def round_pointwise(weights, covariance):
    """(codes, scales) of outputs x inputs weights: each input's rounding error is made up for in those still to come."""
    # The inputs that vary most first: for their errors most is left to make up with.
    order = np.argsort(-np.diag(covariance), kind="stable")
    factor = np.linalg.cholesky(np.linalg.inv(damped(covariance)[np.ix_(order, order)])).T
    scales = np.maximum(np.abs(weights).max(1), 1e-12) / LARGEST
    open_weights, codes = weights[:, order].copy(), np.zeros_like(weights)
    for i, source in enumerate(order):
        codes[:, source] = np.clip(np.round(open_weights[:, i] / scales), -LARGEST, LARGEST)
        error = (open_weights[:, i] - codes[:, source] * scales) / factor[i, i]
        open_weights[:, i:] -= error[:, None] * factor[i, i:]
    return codes, scales


class Builder:
    """Collects the nodes and initialisers of the new graph."""

    def __init__(self):
        self.nodes, self.initialisers = [], []

    def constant(self, name, array):
        self.initialisers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def parameters(self, name, scale, zero):
        return [self.constant(f"{name}.scale", np.float32(scale)), self.constant(f"{name}.zero", zero)]

    def activation(self, value, limits, output, name):
        """value -> QuantizeLinear -> DequantizeLinear -> output; returns the scale."""
        low, high = limits
        scale = np.float32((high - low) / 255)
        parameters = self.parameters(name, scale, np.uint8(np.clip(np.round(-low / scale), 0, 255)))
        self.nodes.append(helper.make_node("QuantizeLinear", [value, *parameters], [f"{name}.u8"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}.u8", *parameters], [output]))
        return scale

    def stored(self, name, codes, scales):
        """Weights or biases, one scale per output channel; returns the dequantised value's name."""
        code = self.constant(f"{name}.code", codes)
        parameters = self.parameters(name, scales, np.zeros(len(scales), codes.dtype))
        self.nodes.append(helper.make_node("DequantizeLinear", [code, *parameters], [name], axis=0))
        return name


def build(model, ranges, moments):
    """The quantised ModelProto, with the inputs, outputs and metadata of `model`."""
    floats = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    clip_of = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Clip"}
    convolved = {node.input[0] for node in model.graph.node if node.op_type == "Conv"}
    builder = Builder()
    # For each value: what a convolution reads instead, and its scale.
    bytes_of = {}
    for node in model.graph.node:
        if node.op_type == "Clip":
            continue  # Bytes that stand for 0 to 6 cannot be outside.
        output = node.output[0]
        if node.op_type == "Add":
            builder.nodes.append(node)
            if output in convolved:
                scale = builder.activation(output, ranges[output], f"{output}.near", output)
                bytes_of[output] = f"{output}.near", scale
            continue
        replacement = onnx.NodeProto()
        replacement.CopyFrom(node)
        del replacement.input[:], replacement.output[:]
        weights, bias = floats[node.input[1]], floats[node.input[2]]
        if is_quantised(node):
            mean, covariance = moments[node.name]
            flat = weights.astype(np.float64).reshape(len(weights), -1)
            codes, scales = (round_pointwise if weights.shape[2] == 1 else round_depthwise)(flat, covariance)
            bias = bias + ((flat - codes * scales[:, None]) * mean).sum(1)
            source, source_scale = bytes_of[node.input[0]]
            # A channel whose weights are next to nothing must not have a bias beyond 32 bits.
            least = np.abs(bias) / (float(source_scale) * 2**30)
            codes = np.where((scales < least)[:, None], np.round(flat / np.maximum(scales, least)[:, None]), codes)
            scales = np.maximum(scales, least).astype(np.float32)
            bias_scales = source_scale * scales
            bias_codes = np.round(bias / bias_scales.astype(np.float64)).astype(np.int32)
            replacement.input.extend(
                [
                    source,
                    builder.stored(node.input[1], codes.reshape(weights.shape).astype(np.int8), scales),
                    builder.stored(node.input[2], bias_codes, bias_scales),
                ]
            )
        else:
            replacement.input.extend([node.input[0], *(builder.constant(n, floats[n]) for n in node.input[1:3])])
        replacement.output.append(f"{output}.sum")
        builder.nodes.append(replacement)
        limits = RELU6 if output in clip_of else ranges[output]
        value = clip_of.get(output, output)
        bytes_of[value] = value, builder.activation(f"{output}.sum", limits, value, f"{output}.out")
    graph = helper.make_graph(builder.nodes, "mobilenetv2-int8", model.graph.input, model.graph.output, builder.initialisers)
    quantised = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    quantised.producer_name, quantised.producer_version = "vadlite", "1"
    for entry in model.metadata_props:
        value = entry.value + "-int8" if entry.key == "vadlite.name" else entry.value
        quantised.metadata_props.add(key=entry.key, value=value)
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def check(original, path, images):
    """Print how far each tap is from the original's on the images; raise when it is another network."""
    one, other = (onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]) for file in (original, path))
    names = [output.name for output in one.get_outputs()]
    if names != [output.name for output in other.get_outputs()]:
        raise SystemExit(f"{path} does not have the outputs of {original}")
    values = [[session.run(names, {"input": image[None]}) for image in images] for session in (one, other)]
    for tap, name in enumerate(names):
        exact, near = (np.stack([taps[tap] for taps in run]) for run in values)
        snr = 10 * np.log10(exact.var() / np.mean((exact - near) ** 2))
        print(f"{name:12} signal to noise {snr:.1f} dB")
        if not snr > LEAST_SNR:
            raise SystemExit(f"{path}: {name} is less than {LEAST_SNR} dB like the original")


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=os.path.join(here, "mobilenetv2.onnx"), help="the network in floats")
    parser.add_argument("--wheel", help="the scikit-image 0.26.0 wheel (default: fetched with pip)")
    parser.add_argument("--out", default=os.path.join(here, "mobilenetv2-int8.onnx"), help="file to write")
    parser.add_argument("--check", metavar="FILE", help="write nothing, compare FILE with the network in floats")
    options = parser.parse_args()
    images = pictures(options.wheel)
    if options.check:
        check(options.source, options.check, images)
        return
    model = onnx.load(options.source)
    data = build(model, *measure(model, images)).SerializeToString(deterministic=True)
    with open(options.out, "wb") as file:
        file.write(data)
    print(f"{options.out}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}, from {len(images)} crops")


if __name__ == "__main__":
    main()
