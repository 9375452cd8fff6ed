"""Times vadlite, anomalib's exports and MoViAD's methods in turns, and prints one table.

Every system goes from an image tensor [1, 3, 224, 224] to an anomaly map and a score on one thread, with the same taps of MobileNetV2 and,
where it has a memory bank, 10,000 vectors. Rounds go through all of them one after the other, so that a disturbance falls on all alike.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

warnings.filterwarnings("ignore")

import numpy as np
import onnxruntime
import openvino
import torch
import torchvision
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from PIL import Image

import moviad

BANK = 10_000
GOOD = 40


def pictures(folder: Path) -> torch.Tensor:
    """Good pictures of one scene, each with a little of its own, as files and as a tensor [GOOD, 3, 224, 224]."""
    random = np.random.default_rng(1)
    scene = torch.from_numpy(random.random((1, 3, 28, 28), dtype=np.float32))
    scene = torch.nn.functional.interpolate(scene, size=(224, 224), mode="bicubic").clamp(0, 1)
    tensors = []
    for number in range(GOOD):
        own = torch.from_numpy(random.random((1, 3, 224, 224), dtype=np.float32))
        tensor = 0.8 * scene + 0.2 * own
        pixels = (tensor[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
        tensors.append(tensor * 2 - 1)
    return torch.cat(tensors)


def repeat(run: Callable[[], object], frames: int) -> list[float]:
    """Milliseconds of each of `frames` calls, after a tenth as many to warm up."""
    times = []
    for _ in range(frames + frames // 10 + 1):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times[-frames:]


class Vadlite:
    """The detector on its own thread count, timed by `vadlite bench`."""

    def __init__(self, program: str, folder: Path, method: str, *options: str) -> None:
        self.command = [program, "bench", "--threads", "1", "--json", "--model", str(folder / f"{method}{''.join(options)}.vadlite")]
        fit = [program, "fit", "--method", method, "--images", str(folder), "--out", self.command[-1], *options]
        subprocess.run(fit, check=True, capture_output=True)

    def __call__(self, frames: int) -> float:
        report = json.loads(subprocess.run([*self.command, "--frames", str(frames)], check=True, capture_output=True).stdout)
        return report["total_ms"] - report["preprocess_ms"]


class InOnnxRuntime:
    def __init__(self, file: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def __call__(self, image: np.ndarray) -> object:
        return self.session.run(None, {"input": image})


class InOpenVino:
    def __init__(self, file: Path) -> None:
        settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        self.request = openvino.compile_model(openvino.convert_model(file), "CPU", settings).create_infer_request()

    def __call__(self, image: np.ndarray) -> object:
        return self.request.infer([image])


def export(model: torch.nn.Module, image: torch.Tensor, file: Path) -> Path:
    """As anomalib's own `to_onnx` does it."""
    torch.onnx.export(model.eval(), (image,), file, opset_version=17, input_names=["input"], dynamo=False)
    return file


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vadlite", required=True, help="the vadlite command")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=50, help="frames of each system and round")
    parser.add_argument("--json", help="write all medians there")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.manual_seed(1)
    features = torchvision.models.mobilenet_v2(weights=None).eval().features
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = pictures(folder)
        image = good[:1].contiguous()
        array = image.numpy()

        network = lambda: torchvision.models.mobilenet_v2(weights=None)
        padim = PadimModel(layers=[f"features.{tap}" for tap in (7, 10, 13)], backbone=network(), pre_trained=False, n_features=56)
        padim(good)
        padim.fit()
        padim_file = export(padim, image, folder / "padim.onnx")
        patchcore = PatchcoreModel(layers=[f"features.{tap}" for tap in (4, 7, 10)], backbone=network(), pre_trained=False)
        patchcore(good)
        stored = torch.vstack(patchcore.embedding_store)
        patchcore.memory_bank = stored[torch.randperm(len(stored))[:BANK]]
        patchcore_file = export(patchcore, image, folder / "patchcore.onnx")

        # Milliseconds a frame, the median of so many.
        once = lambda run, *inputs: lambda frames: statistics.median(repeat(lambda: run(*inputs), frames))
        systems = {
            "vadlite padim-lite": Vadlite(arguments.vadlite, folder, "padim-lite"),
            "vadlite padim-lite, int8 backbone": Vadlite(arguments.vadlite, folder, "padim-lite", "--backbone", "mobilenetv2-int8.onnx"),
            "anomalib PaDiM, ONNX Runtime": once(InOnnxRuntime(padim_file), array),
            "anomalib PaDiM, OpenVINO": once(InOpenVino(padim_file), array),
            "anomalib PaDiM, PyTorch": once(padim.eval(), image),
            "MoViAD PaDiM-Lite, re-created, PyTorch": once(moviad.PadimLite(features, good), image),
            "vadlite patchcore-lite": Vadlite(arguments.vadlite, folder, "patchcore-lite"),
            "vadlite patchcore-lite, int8 backbone": Vadlite(arguments.vadlite, folder, "patchcore-lite", "--backbone", "mobilenetv2-int8.onnx"),
            "vadlite patchcore-lite, preset paper": Vadlite(arguments.vadlite, folder, "patchcore-lite", "--preset", "paper"),
            "anomalib PatchCore, ONNX Runtime": once(InOnnxRuntime(patchcore_file), array),
            "anomalib PatchCore, OpenVINO": once(InOpenVino(patchcore_file), array),
            "anomalib PatchCore, PyTorch": once(patchcore.eval(), image),
            "MoViAD PatchCore-Lite, re-created, PyTorch": once(moviad.PatchcoreLite(features, good, BANK), image),
        }
        medians = {name: [] for name in systems}
        for number in range(arguments.rounds):
            for name, system in systems.items():
                # A frame of MoViAD's PatchCore-Lite takes half a second.
                frames = max(arguments.frames // 10, 3) if "MoViAD PatchCore" in name else arguments.frames
                medians[name].append(system(frames))
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)

    if arguments.json:
        Path(arguments.json).write_text(json.dumps(medians, indent=2))
    print(f"{arguments.rounds} rounds of {arguments.frames} frames, one thread, milliseconds from tensor to map and score\n")
    print("| system | median | least–most of the rounds | against vadlite |\n|---|---|---|---|")
    ours = None
    for name, rounds in medians.items():
        median = statistics.median(rounds)
        if name in ("vadlite padim-lite", "vadlite patchcore-lite"):
            ours = rounds
        against = statistics.median(other / own for other, own in zip(rounds, ours, strict=True))
        print(f"| {name} | {median:.2f} | {min(rounds):.2f}–{max(rounds):.2f} | {against:.2f} x |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
