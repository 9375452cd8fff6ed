"""Fits and scores once more, in numpy, and compares.

Pillow decodes and resizes, ONNX Runtime's Python package computes the feature taps from the committed backbone, and the rest is
written here from the equations. Called by tests/independent.sh.
"""

import argparse
import json
import os
import re
import struct
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

GOOD = 24
FOLDS = 5
# Relative difference of scores that counts as the same.
TOLERANCE = 1e-3
# The same for what was fitted: features that differ in the seventh digit may be rounded to neighbouring 16-bit floats.
FIT_TOLERANCE = 3e-3


def read_model(path):
    """Metadata and tensors of a .vadlite file, read as the safetensors format is described."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = json.loads(header.pop("__metadata__")["vadlite"])
    types = {"F16": "<f2", "F32": "<f4", "I8": "i1", "U8": "u1"}
    tensors = {}
    for name, tensor in header.items():
        start, end = tensor["data_offsets"]
        values = np.frombuffer(data[8 + length + start : 8 + length + end], types[tensor["dtype"]])
        tensors[name] = values.reshape(tensor["shape"])
    return metadata, tensors


def resize(plane, height, width):
    """Antialiased bilinear, as Pillow does it, in floating point."""
    return np.asarray(Image.fromarray(plane.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR), np.float64)


def upsample(patches, height, width, offset):
    """Bilinear between patches that look `offset` pixels of the result right of and below their cells' centres."""
    for axis, size in ((0, height), (1, width)):
        count = patches.shape[axis]
        centres = (np.arange(count) + 0.5) * size / count + offset
        patches = np.apply_along_axis(lambda line: np.interp(np.arange(size) + 0.5, centres, line), axis, patches)
    return patches


def blur(image, sigma):
    """Gaussian, mirrored at the border with the border pixel repeated, cut at four sigma."""
    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        image = np.apply_along_axis(lambda line: np.convolve(np.pad(line, radius, mode="symmetric"), kernel, mode="valid"), axis, image)
    return image


class Network:
    def __init__(self, metadata, models):
        self.metadata = metadata
        self.session = onnxruntime.InferenceSession(models / metadata["backbone"], providers=["CPUExecutionProvider"])

    def features(self, path):
        """Dimensions x rows x columns: the taps on the grid of the largest."""
        height, width = self.metadata["input_size"]
        rgb = np.asarray(Image.open(path).convert("RGB"))
        mean, std = (self.metadata["normalization"][name] for name in ("mean", "std"))
        planes = [(resize(rgb[..., c], height, width) / 255 - mean[c]) / std[c] for c in range(3)]
        image = np.stack(planes)[None].astype(np.float32)
        taps = [tap[0] for tap in self.session.run(self.metadata["taps"], {self.session.get_inputs()[0].name: image})]
        rows = max(tap.shape[1] for tap in taps)
        taps = [tap.repeat(rows // tap.shape[1], axis=1).repeat(rows // tap.shape[2], axis=2) for tap in taps]
        return np.concatenate(taps).astype(np.float64)

    def image_score(self, patches):
        if highest := self.metadata.get("highest_patches"):
            return np.sort(patches, axis=None)[-highest:].mean()
        height, width = self.metadata["map_size"]
        offset = self.metadata["map_offset"]
        return blur(upsample(patches, height, width, offset), self.metadata["map_sigma"]).max()


class Paper:
    """PaDiM-Lite by the paper's equations 2 to 5: a variance per dimension and position."""

    @staticmethod
    def fit(features):
        mean = features.mean(axis=0)
        variance = ((features - mean) ** 2).sum(axis=0) / (len(features) - 1) + 0.01
        return {"head.mean": mean, "head.precision": 1 / variance}

    @staticmethod
    def patch_scores(features, head):
        shape = features.shape
        mean, precision = (head[name].astype(np.float64).reshape(shape) for name in ("head.mean", "head.precision"))
        return ((features - mean) ** 2 * precision).sum(axis=0)


class Default:
    """A projection to d dimensions, then the inverse covariance of each position as a factor whose entries below the diagonal have two bits."""

    # What a two-bit code stands for, times the scales of its position and of its place in the factor.
    LEVELS = np.array([-10.0, -3.0, 3.0, 10.0])

    @classmethod
    def project(cls, features, head):
        """Images x positions x d, about the positions' means."""
        images, full, rows, columns = features.shape
        near = np.zeros_like(features)
        count = np.zeros((rows, columns))
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                to = np.s_[max(0, -dy) : rows - max(0, dy), max(0, -dx) : columns - max(0, dx)]
                source = np.s_[max(0, dy) : rows - max(0, -dy), max(0, dx) : columns - max(0, -dx)]
                near[(..., *to)] += features[(..., *source)]
                count[to] += 1
        blended = (0.7 * features + 0.3 * near / count).reshape(images, full, rows * columns)
        column = {name: head[f"head.{name}"].astype(np.float64)[:, None] for name in ("projection_scale", "mean_scale", "mean_offset")}
        mean = head["head.mean"] * column["mean_scale"] + column["mean_offset"]
        return ((head["head.projection"] * column["projection_scale"]) @ blended - mean).transpose(0, 2, 1)

    @classmethod
    def factors(cls, head):
        """Positions x d x d, lower triangular."""
        positions, d = head["head.diagonal"].shape
        scale = {name: head[f"head.{name}_scale"].astype(np.float64) for name in ("diagonal", "lower", "lower_table")}
        codes = (head["head.lower"][:, :, None] >> np.array([0, 2, 4, 6])) & 3
        codes = codes.reshape(positions, -1)[:, : d * (d - 1) // 2]
        factors = np.zeros((positions, d, d))
        factors[:, *np.tril_indices(d, -1)] = cls.LEVELS[codes] * scale["lower"][:, None] * head["head.lower_table"] * scale["lower_table"]
        factors[:, range(d), range(d)] = head["head.diagonal"] * scale["diagonal"][:, None]
        return factors

    @classmethod
    def patch_scores(cls, features, head):
        z = np.einsum("pij,pj->pi", cls.factors(head), cls.project(features[None], head)[0])
        return np.sqrt((z**2).mean(axis=1)).reshape(features.shape[1:])

    @classmethod
    def check_fit(cls, features, head):
        """Whether the stored factors undo the good images' covariances, shrunk by 0.3, as far as two bits can."""
        y = cls.project(features, head)
        step = np.abs(y.mean(axis=0)).max(axis=0) / head["head.mean_scale"]
        # Half a step from the 8 bits, and a little from the features' 16.
        if not step.max() < 0.6:
            raise SystemExit(f"FAILED: default: a mean is {step.max():.2f} steps of its 8 bits off, more than rounding explains")
        y -= y.mean(axis=0)
        pooled = np.einsum("npi,npj->ij", y, y) / ((len(y) - 1) * y.shape[1])
        off = np.abs(pooled - np.eye(len(pooled))).max()
        print(f"default: pooled covariance after the projection differs from the identity by {off:.1e}")
        if not off < 0.1:
            raise SystemExit("FAILED: default: the projection does not whiten")
        covariance = np.einsum("npi,npj->pij", y, y) / (len(y) - 1)
        shrunk = 0.7 * covariance + 0.3 * np.eye(y.shape[2])
        factors = cls.factors(head)
        whitened = factors @ shrunk @ factors.transpose(0, 2, 1)
        error = np.sqrt(((whitened - np.eye(y.shape[2])) ** 2).sum(axis=(1, 2)) / (shrunk**2).sum(axis=(1, 2)))
        before = np.sqrt(((shrunk - np.eye(y.shape[2])) ** 2).sum(axis=(1, 2)) / (shrunk**2).sum(axis=(1, 2)))
        print(f"default: covariance of z off the identity by {np.median(error):.3f}, of y by {np.median(before):.3f} (median over positions)")
        if not np.median(error) < 0.5 * np.median(before):
            raise SystemExit("FAILED: default: the factors do not whiten")


PRESETS = {"paper": Paper, "default": Default}


def half(head):
    """As kept in the file."""
    return {name: values.astype(np.float16) for name, values in head.items()}


def compare(what, values):
    """Names and numbers that have to be the same; the first is the reference."""
    reference = next(iter(values.values()))
    difference = max(abs(value / reference - 1) for value in values.values())
    print(f"{what}: " + ", ".join(f"{name} {value:.6g}" for name, value in values.items()) + f", difference {difference:.1e}")
    if not difference <= TOLERANCE:
        raise SystemExit(f"FAILED: {what}: the difference is above {TOLERANCE}")


def draw(path, size, seed, blob=None):
    """A part with a ring pattern and noise, and a dark blob where it is defective."""
    random = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    x, y = (x + 0.5) / width, (y + 0.5) / height
    distance = np.hypot(x - 0.5 + random.uniform(-0.005, 0.005), y - 0.5)
    inside = 1 / (1 + np.exp((distance - 0.35) / 0.006))
    shade = (1 - inside) * (90 + 25 * x) + inside * (165 + 14 * np.sin(60 * distance)) + random.uniform(-4, 4)
    if blob:
        shade = shade - 100 * np.exp(-((x - blob[0]) ** 2 + (y - blob[1]) ** 2) / 0.04**2)
    rgb = shade[..., None] * [1, 0.95, 0.8] + random.normal(0, 2, (height, width, 3))
    Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8)).save(path)
    return path


def run(*command, **environment):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True, env=os.environ | environment).stdout


def program_score(program, model, path):
    return json.loads(run(program, "score", "--json", "--model", model, path))["score"]


def element_score(plugins, work, model, path):
    launch = f"filesrc location={path} ! pngdec ! videoconvert ! video/x-raw,format=RGB ! vadlite model={model} post-messages=all ! fakesink"
    output = run("gst-launch-1.0", "-m", *launch.split(), GST_PLUGIN_PATH=str(plugins), GST_REGISTRY=str(work / "registry.bin"))
    (score,) = re.findall(r"vadlite, score=\(double\)([0-9.e+-]+)", output)
    return float(score)


def check_paper_fit(features, network, metadata, tensors):
    # What was fitted.
    head, preset = Paper, "paper"
    for name, values in head.fit(features).items():
        stored = tensors[name].astype(np.float64).reshape(values.shape)
        difference = np.abs(stored - values).max() / np.abs(values).max()
        print(f"{preset}: {name} {tensors[name].dtype}{list(tensors[name].shape)}, difference {difference:.1e}")
        if not difference <= FIT_TOLERANCE:
            raise SystemExit(f"FAILED: {preset}: {name} differs by more than {FIT_TOLERANCE}")

    # The threshold: every good picture scored by a head that has not seen its fold, then a conformal quantile.
    fold = np.arange(GOOD) % FOLDS
    heads = [half(head.fit(features[fold != number])) for number in range(FOLDS)]
    scores = sorted(network.image_score(head.patch_scores(features[i], heads[fold[i]])) for i in range(GOOD))
    for index, quantile in ((0, "smallest"), (GOOD // 2, "middle"), (GOOD - 1, "largest")):
        compare(f"{preset}: {quantile} calibration score", {"numpy": scores[index], "file": tensors["calibration.scores"][index]})
    rank = int(np.ceil((GOOD + 1) * (1 - metadata["false_reject_rate"]) - 1e-9))
    compare(f"{preset}: threshold", {"numpy": scores[rank - 1], "file": metadata["threshold"]})


def check(preset, arguments):
    work, program = arguments.work, arguments.program
    images, model = work / "good", work / f"{preset}.vadlite"
    images.mkdir(exist_ok=True)
    good = [draw(images / f"{seed:03}.png", (320, 240), seed) for seed in range(GOOD)]
    # All images, whole and as they are.
    as_they_are = ("--same-light", "false", "--leave-out", "none", "--locate", "none")
    run(program, "fit", "--method", "padim-lite", "--preset", preset, *as_they_are, "--images", images, "--out", model)
    metadata, tensors = read_model(model)
    network, head = Network(metadata, arguments.models), PRESETS[preset]

    features = np.stack([network.features(path) for path in good])
    if preset == "paper":
        # Good images are held as 16-bit floats while fitting, so that the same numbers can be taken out again for a fold.
        check_paper_fit(features.astype(np.float16).astype(np.float64), network, metadata, tensors)
    else:
        head.check_fit(features, tensors)

    # One and the same picture.
    for size in ((320, 240), (641, 479), (150, 100), (1920, 1080)):
        for name, blob in (("good", None), ("defective", (0.6, 0.45))):
            path = draw(work / f"{name}-{size[0]}x{size[1]}.png", size, 1000, blob)
            values = {
                "numpy": network.image_score(head.patch_scores(network.features(path), tensors)),
                "vadlite score": program_score(program, model, path),
                "element": element_score(arguments.plugins, work, model, path),
            }
            compare(f"{preset}: {path.stem}", values)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("program", "plugins", "models", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    for preset in PRESETS:
        check(preset, arguments)
    print(f"independent.py: the same to {TOLERANCE} for {', '.join(PRESETS)}")


if __name__ == "__main__":
    main()
