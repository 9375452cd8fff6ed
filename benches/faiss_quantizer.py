#!/usr/bin/env python3
"""Compare the product quantiser with faiss: reconstruction error at equal m, b and vectors.

    pip install faiss-cpu numpy
    vadlite fit --method patchcore --images bottle/train/good --out bank.vadlite
    python3 benches/faiss_quantizer.py bank.vadlite

The vectors are the bank of a PatchCore model. faiss starts k-means from random vectors, vadlite from k-means++ seeds.
"""

import argparse
import json
import struct
import subprocess
import tempfile
from pathlib import Path

import faiss
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SEEDS = 5


def bank(path):
    """The vectors of a PatchCore model, read as the safetensors format is described."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensor = json.loads(data[8 : 8 + length])["head.bank"]
    start, end = tensor["data_offsets"]
    return np.frombuffer(data[8 + length + start : 8 + length + end], "<f2").reshape(tensor["shape"]).astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    vectors = bank(parser.parse_args().model)
    dimensions = vectors.shape[1]
    print(f"{len(vectors)} vectors of {dimensions} dimensions; mean squared error of faiss: {SEEDS} seeds, mean and range")
    print(" m  b   vadlite     faiss                       vadlite / faiss")
    with tempfile.NamedTemporaryFile(suffix=".f32") as file:
        vectors.tofile(file.name)
        for m, b in ((4, 8), (8, 4), (8, 6), (8, 8), (16, 8)):
            command = ["cargo", "run", "--quiet", "--release", "--example", "quantizer_error", "--", file.name, dimensions, m, b]
            ours = float(subprocess.run([str(word) for word in command], cwd=ROOT, check=True, capture_output=True, text=True).stdout)
            theirs = []
            for seed in range(SEEDS):
                quantizer = faiss.ProductQuantizer(dimensions, m, b)
                quantizer.cp.seed = seed + 1
                quantizer.train(vectors)
                decoded = quantizer.decode(quantizer.compute_codes(vectors))
                theirs.append(float(((decoded - vectors) ** 2).sum(1).mean()))
            mean = np.mean(theirs)
            print(f"{m:2} {b:2}  {ours:8.3f}  {mean:8.3f} ({min(theirs):.3f} to {max(theirs):.3f})  {ours / mean:.3f}")


if __name__ == "__main__":
    main()
