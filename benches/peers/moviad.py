"""PaDiM-Lite and PatchCore-Lite as MoViAD, the library of arXiv 2603.20288, computes them, re-created in PyTorch.

MoViAD is not on PyPI. What is written here follows its published code where that differs from the paper: 56 of 224 dimensions at random,
the square root of the Mahalanobis distance, a Gaussian of sigma 4 at 224 pixels; three-by-three average pooling per tap, nearest
upsampling, 784 patches of 160 dimensions, 1000 candidates a patch from the distances between code numbers, decoded and compared.
"""

import scipy.ndimage
import torch
from torch import nn
from torch.nn import functional

CANDIDATES = 1000
SUBSPACES = 8
CENTROIDS = 256
# Patches decoded at a time: all 784 at once would take half a gigabyte.
CHUNK = 49


class Backbone(nn.Module):
    """torchvision's MobileNetV2 cut after the last tap."""

    def __init__(self, features: nn.Sequential, taps: tuple[int, ...]) -> None:
        super().__init__()
        self.blocks = features[: taps[-1] + 1]
        self.taps = taps

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        taken = []
        for number, block in enumerate(self.blocks):
            image = block(image)
            if number in self.taps:
                taken.append(image)
        return taken


def concatenate(taps: list[torch.Tensor]) -> torch.Tensor:
    size = taps[0].shape[-2:]
    return torch.cat([functional.interpolate(tap, size=size, mode="nearest") for tap in taps], dim=1)


class PadimLite:
    def __init__(self, features: nn.Sequential, good: torch.Tensor) -> None:
        self.backbone = Backbone(features, (7, 10, 13)).eval()
        self.chosen = torch.randperm(224)[:56]
        embedding = concatenate(self.backbone(good))[:, self.chosen]
        self.mean = embedding.mean(0)
        self.variance = embedding.var(0) + 0.01

    def __call__(self, image: torch.Tensor) -> float:
        embedding = concatenate(self.backbone(image))[:, self.chosen]
        distance = ((embedding - self.mean) ** 2 / self.variance).sum(1, keepdim=True).sqrt()
        anomaly_map = functional.interpolate(distance, size=image.shape[-2:], mode="bilinear", align_corners=False)
        return float(scipy.ndimage.gaussian_filter(anomaly_map[0, 0].numpy(), sigma=4).max())


class PatchcoreLite:
    def __init__(self, features: nn.Sequential, good: torch.Tensor, size: int) -> None:
        self.backbone = Backbone(features, (4, 7, 10)).eval()
        bank = self.embed(good)
        bank = bank[torch.randperm(len(bank))[:size]]
        # The neighbours are timed, not judged: bank vectors stand for k-means centroids.
        self.codebooks = bank[:CENTROIDS].reshape(CENTROIDS, SUBSPACES, -1).permute(1, 0, 2).contiguous()
        self.codes = self.encode(bank)

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        pooled = [functional.avg_pool2d(tap, 3, 1, 1) for tap in self.backbone(image)]
        embedding = concatenate(pooled)
        return embedding.permute(0, 2, 3, 1).reshape(-1, embedding.shape[1])

    def encode(self, vectors: torch.Tensor) -> torch.Tensor:
        parts = vectors.reshape(len(vectors), SUBSPACES, -1).permute(1, 0, 2)
        return torch.cdist(parts, self.codebooks).argmin(2).T.contiguous()

    def __call__(self, image: torch.Tensor) -> float:
        patches = self.embed(image)
        coarse = torch.cdist(self.encode(patches).float(), self.codes.float())
        candidates = coarse.topk(CANDIDATES, largest=False, sorted=False).indices
        subspaces = torch.arange(SUBSPACES)
        nearest = []
        for chunk, rows in zip(patches.split(CHUNK), candidates.split(CHUNK), strict=True):
            decoded = self.codebooks[subspaces, self.codes[rows]].flatten(2)
            nearest.append(torch.cdist(chunk[:, None], decoded)[:, 0].amin(1))
        scores = torch.cat(nearest)
        side = int(len(scores) ** 0.5)
        anomaly_map = functional.interpolate(scores.reshape(1, 1, side, side), size=image.shape[-2:], mode="bilinear")
        scipy.ndimage.gaussian_filter(anomaly_map[0, 0].numpy(), sigma=4)
        return float(scores.max())
