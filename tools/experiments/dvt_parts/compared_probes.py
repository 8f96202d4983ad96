"""Linear probes of raw and denoised features, with and without a known pattern in them."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from reprefine.methods.dvt import Stage1, Stage1Config
from reprefine.methods.dvt.visualization.position_metrics import fixed_fraction

from .scenes import Scenes
from .stage1 import ImageViews, denoise_views, extract_views, known_pattern, stage1_config, whole_features
from .stage2 import denoise_features, evaluate_probe, train_denoiser, train_probe

RAW, DVT, CONTROL = 'raw features', 'denoiser', 'same network, trained to give raw features'


def extract_images(config: Stage1Config, backbone: torch.nn.Module, images: list, count: int) -> ImageViews:
    """Return the raw features of ``count`` random views of images, the same views for all, and of the whole images.

    Args:
        config: Settings of stage 1.
        backbone: The network.
        images: Images, RGB ``[H, W, 3]``, 8 bit.
        count: Number of random views.
    """
    return extract_views(Stage1(replace(config, num_views=count), backbone=backbone), images, [''] * len(images))


def stage1_targets(config: Stage1Config, backbone: torch.nn.Module, data: ImageViews) -> Tensor:
    """Return ``F`` in closed form, ``[N, rows, columns, C]``."""
    return denoise_views(Stage1(config, backbone=backbone), data, [''] * len(data.features))[0]


class ProbedFeatures:
    """Raw features of scenes, and the metrics of a linear probe on what denoisers make of them.

    Args:
        train: Scenes of the linear probe.
        test: Test scenes.
        raw: Raw features of both, ``[N, rows, columns, C]``.
        seed: Seed of denoiser and probe.
        iterations: Iterations of the denoiser; None for those of the config.
    """

    def __init__(self, train: Scenes, test: Scenes, raw: tuple[Tensor, Tensor], seed: int, iterations: int | None):
        self.labels, self.test, self.raw = train.small_labels(), test, raw
        self.seed, self.iterations = seed, iterations

    def probe(self, target: Tensor | None = None) -> dict[str, float]:
        """Return the metrics with a denoiser trained on ``target``, which belongs to the first training scenes.

        Args:
            target: Denoised features ``[N, rows, columns, C]``; None for a probe of the raw features.
        """
        features = self.raw
        if target is not None:
            model = train_denoiser(self.raw[0][: len(target)], target, self.seed, self.iterations)
            features = tuple(denoise_features(model, raw) for raw in self.raw)
        probe = train_probe(features[0], self.labels, self.seed)
        return dict(evaluate_probe(probe, features[1], self.test), fixed=fixed_fraction(features[1]))


def compare_features(
    seed: int, train: Scenes, test: Scenes, sizes: Any, config: Stage1Config | None = None, scale: float = 1.0
) -> dict[str, dict[str, float]]:
    """Return the metrics of linear probes, by ``natural`` or ``pattern`` and the name of the features.

    Args:
        seed: Seed of views, denoisers and probes.
        train: Scenes of the linear probe; stage 1 and 2 have the first of them.
        test: Test scenes.
        sizes: Sizes of the experiment.
        config: Settings of stage 1; default those of the shipped ViT.
        scale: Factor of the pattern.
    """
    config = replace(config or stage1_config(), seed=seed)
    stage1, pattern = Stage1(config), known_pattern(scale)
    backbone, counts = stage1.extractor.backbone, sizes.trained_views
    raw = [whole_features(stage1, scenes.images) for scenes in (train, test)]
    data, values = extract_images(config, backbone, train.images[: sizes.images], counts[-1]), {}
    for kind, added in (('natural', torch.zeros_like(pattern)), ('pattern', pattern)):
        features = ProbedFeatures(train, test, tuple(x + added for x in raw), seed, sizes.iterations)
        values[f'{kind} {RAW}'] = features.probe()
        values[f'{kind} {CONTROL}'] = features.probe(features.raw[0][: sizes.images])
        for count in counts if kind == 'pattern' else counts[-1:]:
            target = stage1_targets(config, backbone, data.first(count, added))
            values[f'{kind} closed form, {count} views'] = features.probe(target)
        values[f'{kind} {DVT}'] = values[f'{kind} closed form, {counts[-1]} views']
    return values
