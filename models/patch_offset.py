#!/usr/bin/env python3
"""Measure how far a backbone's feature patches look from the centres of their cells.

    python3 models/patch_offset.py FILE.onnx TAP...

Convolutions with stride 2 that pad on one side only, as TensorFlow's do, shift what a patch sees against the cell that
it fills in the map. Strips of noise pictures are disturbed one after the other; the centre of a patch is the mean place
of the strips that it responds to, weighted by the squared change of its features. The mean over patches away from the
border, taps, axes and pictures goes into the ONNX metadata `vadlite.patch_offset`, in input pixels to the right and
down; vadlite shifts the anomaly map by it. Needed: numpy, onnxruntime.
"""

import argparse

import numpy as np
import onnxruntime

SIDE, STRIP, PICTURES = 224, 4, 6


def smooth(x, sigma):
    """Gaussian blur by the Fourier transform: the border wraps, which noise does not mind."""
    frequency = np.fft.fftfreq(SIDE)
    window = np.exp(-2 * (np.pi * sigma * frequency) ** 2)
    return np.fft.ifft2(np.fft.fft2(x) * window[:, None] * window).real


def offsets(run, taps, rng):
    """Offset in pixels of each tap and axis, for one picture of noise."""
    picture = smooth(rng.normal(size=(3, SIDE, SIDE)), rng.choice([0.0, 1.0, 2.0, 4.0]))
    picture = (picture / picture.std() * 0.5).clip(-1, 1).astype(np.float32)
    plain = run(picture)
    # A channel that never varies says nothing.
    scale = [np.where(deviation > 0, deviation, np.inf)[:, None, None] for deviation in (f.std((1, 2)) for f in plain)]
    centres = np.arange(0, SIDE, STRIP) + STRIP / 2
    for axis in (0, 1):
        energy = [[] for _ in taps]
        for start in range(0, SIDE, STRIP):
            disturbed = picture.copy()
            strip = disturbed[:, start : start + STRIP] if axis == 0 else disturbed[:, :, start : start + STRIP]
            strip += 0.3 * rng.normal(size=strip.shape).astype(np.float32)
            for tap, (features, before) in enumerate(zip(run(disturbed), plain)):
                energy[tap].append((((features - before) / scale[tap]) ** 2).sum((0, 2 - axis)))
        for tap, response in enumerate(energy):
            response = np.array(response)
            patches = response.shape[1]
            inner = np.arange(patches // 4, patches - patches // 4)
            seen = (response[:, inner] * centres[:, None]).sum(0) / response[:, inner].sum(0)
            yield taps[tap], axis, (seen - (inner + 0.5) * SIDE / patches).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("taps", nargs="+")
    options = parser.parse_args()
    session = onnxruntime.InferenceSession(options.file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(picture):
        return [features[0] for features in session.run(options.taps, {name: picture[None]})]

    found = {}
    for seed in range(PICTURES):
        for tap, axis, offset in offsets(run, options.taps, np.random.default_rng(seed)):
            found.setdefault((tap, "down" if axis == 0 else "right"), []).append(offset)
    for (tap, axis), values in found.items():
        print(f"{tap:12} {axis:5}  {np.mean(values):+.2f} px  (standard deviation over {PICTURES} pictures {np.std(values):.2f})")
    print(f"vadlite.patch_offset  {np.mean([np.mean(values) for values in found.values()]):.1f}")


if __name__ == "__main__":
    main()
