"""MoCo with variants of feature transformation, trained on the same batches with the same random draws."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, set_random_seed
from runner import config_file
from torch import Tensor, nn

from reprefine.engine.build import build_model
from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.cli.launch import load_config
from reprefine.tasks.classification.functional import knn_top1, nearest_neighbors
from reprefine.tasks.classification.hooks import extract_features

PRETRAINING = 'baselines/selfsup/moco-v2_resnet14-narrow_60e_mnist5k'


class Variant(NamedTuple):
    """What is trained.

    Attributes:
        name: Name in tables.
        transform: Arguments of ``FeatureTransform``; None: MoCo.
        enabled: Whether the transform is enabled.
        base: Whether the model is mmpretrain's MoCo, which returns its loss only.
    """

    name: str
    transform: dict[str, Any] | None = None
    enabled: bool = True
    base: bool = False


@cache
def _read_config() -> Config:
    return load_config(str(config_file(PRETRAINING)))


def pretraining_config() -> Config:
    """Set the default scope of the pre-training and return its config."""
    cfg = _read_config()
    init_default_scope(cfg.default_scope)
    return cfg


def build_moco(variant: Variant, weights: Mapping[str, Tensor] | None = None, seed: int = 0) -> nn.Module:
    """Build a variant in training mode.

    Args:
        variant: The variant.
        weights: State dict of MoCo, with both encoders and the queue; None: random weights.
        seed: Seed of random weights and of a random queue.
    """
    cfg = pretraining_config().copy()
    options = dict(type='MoCo') if variant.base else dict(feature_transform=variant.transform)
    cfg.model = dict(cfg.model, **options)
    set_random_seed(seed)
    model = build_model(cfg)
    if weights is None:
        model.init_weights()
    else:
        model.load_state_dict(weights)
    if not variant.base:
        model.feature_transform.enabled = variant.enabled
    return model.train()


def read_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint."""
    return read_checkpoint(str(checkpoint))['state_dict']


def view_batches(epochs: int, seed: int, images: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield batches of two views of the training images.

    Args:
        epochs: Number of epochs.
        seed: Seed of order and augmentation.
        images: Number of images; None: all.
    """
    config = pretraining_config().train_dataloader.copy()
    config.dataset = dict(config.dataset, indices=images)
    loader = Runner.build_dataloader(config, seed=seed)
    set_random_seed(seed)
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        yield from loader


def train_together(
    variants: Sequence[Variant],
    weights: Mapping[str, Tensor] | None,
    batches: Iterator[dict[str, Any]],
    seed: int,
    after_step: Callable[[int], None] = lambda step: None,
) -> tuple[dict[str, nn.Module], dict[str, list[dict[str, float]]]]:
    """Train variants from the same weights on the same batches, with the initial learning rate of the pre-training.

    The random numbers of a step start from the same seed for all variants: they share the shuffling of the keys and
    the coefficients of the same distribution.

    Args:
        variants: The variants.
        weights: State dict of MoCo; None: random weights of the seed.
        batches: Batches of two views.
        seed: Seed of the random draws of each step.
        after_step: Called with the number of finished steps.

    Returns:
        The models and, for each step, what their loss returned, both by the name of the variant.
    """
    solver = pretraining_config().optim_wrapper.optimizer
    models = {variant.name: build_moco(variant, weights, seed) for variant in variants}
    options = {key: value for key, value in solver.items() if key != 'type'}
    optimizers = {name: torch.optim.SGD(model.parameters(), **options) for name, model in models.items()}
    history = {name: [] for name in models}
    for step, batch in enumerate(batches):
        data = models[variants[0].name].data_preprocessor(batch, True)
        for name, model in models.items():
            with torch.random.fork_rng(devices=()):
                torch.manual_seed(seed * 1_000_000 + step)
                out = model.loss(**data)
            optimizers[name].zero_grad()
            out['loss'].backward()
            optimizers[name].step()
            history[name].append({key: float(value.detach()) for key, value in out.items()})
        after_step(step + 1)
    return models, history


def knn_accuracy(model: nn.Module, images: int | None = None) -> float:
    """Return the accuracy of the test images in percent by their 20 nearest neighbours among the training images.

    Args:
        model: Model of the pre-training.
        images: Number of images of either split; None: all.
    """
    hook = pretraining_config().neighbours
    features = {}
    model.eval()
    for side, split in (('bank', 'train'), ('query', 'test')):
        config = hook[side].copy()
        config.dataset = dict(config.dataset, split=split, indices=images)
        features[side] = extract_features(model, Runner.build_dataloader(config, seed=0))
    model.train()
    (bank, labels), (query, truth) = features['bank'], features['query']
    return knn_top1(nearest_neighbors(query, bank, labels, hook.k), truth, temperature=0.07)
