"""Stage 2 and the linear probe on features that are computed once, with the settings of the demonstration's configs."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from mmengine.config import Config
from runner import config_file
from torch import Tensor, nn

from reprefine.methods.dvt import FeatureDenoiser, FeatureLoss
from reprefine.methods.dvt.denoiser.schedulers import denoiser_lr

from .scenes import IGNORED, Scenes, class_names, probe_recipe

DENOISER = 'dvt/demo/vit-p4_denoiser_300_ade20k-64px'


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches of indices without end, shuffled in every pass."""
    order = torch.empty(0, dtype=torch.long)
    while True:
        while len(order) < size:
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        yield order[:size]
        order = order[size:]


def train_denoiser(raw: Tensor, target: Tensor, seed: int, iterations: int | None = None) -> FeatureDenoiser:
    """Train a denoiser on pairs of features, ``[N, rows, columns, C]`` each.

    Args:
        raw: Raw features.
        target: Denoised features; the raw ones for the control.
        seed: Seed of weights and order.
        iterations: Number of iterations; default that of the config.
    """
    config = Config.fromfile(config_file(DENOISER))
    iterations = iterations or config.train_cfg.max_iters
    torch.manual_seed(seed)
    model = FeatureDenoiser(**{key: value for key, value in config.model.neck.items() if key != 'type'})
    settings = {key: value for key, value in config.optim_wrapper.optimizer.items() if key != 'type'}
    optimizer, loss = torch.optim.AdamW(model.parameters(), **settings), FeatureLoss()
    order = batches(len(raw), config.train_dataloader.batch_size, torch.Generator().manual_seed(seed))
    for step in range(iterations):
        rows = next(order)
        optimizer.param_groups[0]['lr'] = denoiser_lr(step, settings['lr'], iterations, int(0.15 * iterations), 1e-6)
        optimizer.zero_grad()
        sum(loss(model(raw[rows].movedim(-1, 1)), target[rows].movedim(-1, 1)).values()).backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def denoise_features(model: FeatureDenoiser, raw: Tensor) -> Tensor:
    """Return the output of a denoiser for raw features ``[N, rows, columns, C]``."""
    return torch.cat([model(part.movedim(-1, 1)).movedim(1, -1) for part in raw.split(32)])


def train_probe(features: Tensor, labels: Tensor, seed: int) -> nn.Module:
    """Train the linear probe: batch normalisation and a 1x1 convolution.

    Args:
        features: ``[N, rows, columns, C]``.
        labels: Indices of classes ``[N, height, width]``, 255 is ignored.
        seed: Seed of weights and order.
    """
    config = probe_recipe()
    iterations, settings = config.train_cfg.max_iters, config.optim_wrapper.optimizer
    torch.manual_seed(seed)
    probe = nn.Sequential(nn.BatchNorm2d(features.shape[-1]), nn.Conv2d(features.shape[-1], len(class_names()), 1))
    nn.init.normal_(probe[1].weight, std=0.01)
    nn.init.zeros_(probe[1].bias)
    optimizer = torch.optim.AdamW(probe.parameters(), settings.lr, weight_decay=settings.weight_decay)
    order = batches(len(features), config.train_dataloader.batch_size, torch.Generator().manual_seed(seed))
    for step in range(iterations):
        rows = next(order)
        optimizer.param_groups[0]['lr'] = settings.lr * (1 - step / iterations)
        logits = _upsample(probe(features[rows].movedim(-1, 1)), labels.shape[1:])
        optimizer.zero_grad()
        F.cross_entropy(logits, labels[rows], ignore_index=IGNORED).backward()
        optimizer.step()
    return probe.eval()


@torch.no_grad()
def evaluate_probe(probe: nn.Module, features: Tensor, scenes: Scenes) -> dict[str, float]:
    """Return ``mIoU`` and ``aAcc`` in percent, at the images' own size, as mmseg computes them."""
    classes = len(class_names())
    confusion = torch.zeros(classes, classes, dtype=torch.long)
    for feature, labels in zip(features, scenes.labels, strict=True):
        predicted = _upsample(probe(feature.movedim(-1, 0)[None]), labels.shape)[0].argmax(0)
        valid = labels != IGNORED
        confusion += torch.bincount(labels[valid] * classes + predicted[valid], minlength=classes**2).view_as(confusion)
    hits = confusion.diag().double()
    union = confusion.sum(0) + confusion.sum(1) - hits
    return dict(mIoU=100 * (hits / union)[union > 0].mean().item(), aAcc=100 * (hits.sum() / confusion.sum()).item())


def _upsample(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(logits, tuple(size), mode='bilinear', align_corners=False)
