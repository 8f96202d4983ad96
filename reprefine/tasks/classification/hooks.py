"""Nearest-neighbour classification of features during pre-training.

The labelled features (10 GB for ImageNet and a ResNet-50) are not stored: every process compares its share of them,
block by block, with all queries, keeps the ``k`` nearest, and the processes gather those.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from reprefine.engine.build import unwrap
from reprefine.engine.errors import UserError
from reprefine.registry import HOOKS

from .functional import Neighbors, knn_top1, merge_neighbors, nearest_neighbors

BLOCK_SIZE = 4096  # labelled vectors in one comparison


@torch.no_grad()
def extract_feature_blocks(model: nn.Module, loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield blocks of pooled, L2-normalised backbone features ``[n, D]`` in float32 and labels ``[n]`` of this process.

    A block consists of whole batches with at least :data:`BLOCK_SIZE` images; the last block may be smaller.

    Args:
        model: Model with ``data_preprocessor`` and ``extract_feat``.
        loader: Data loader of single views with labels.

    Raises:
        UserError: If an image has no label.
    """
    features, labels = [], []
    for number, batch in enumerate(loader, 1):
        data = model.data_preprocessor(batch, False)
        inputs = data['inputs']
        out = model.extract_feat(inputs[0] if isinstance(inputs, list) else inputs)
        out = (out[-1] if isinstance(out, (tuple, list)) else out).float()
        features.append(F.normalize(out.flatten(2).mean(2) if out.dim() > 2 else out, dim=1))
        labels.append(_labels_of(data['data_samples']).to(out.device))
        if sum(map(len, labels)) >= BLOCK_SIZE or number == len(loader):
            yield torch.cat(features), torch.cat(labels)
            features, labels = [], []


def _labels_of(data_samples: list[Any]) -> Tensor:
    if all('gt_label' in sample for sample in data_samples):
        labels = torch.cat([sample.gt_label for sample in data_samples])
        if labels.min() >= 0:
            return labels
    raise UserError('KNNMonitorHook: an image of bank or query has no label, or -1: use datasets with labels')


def extract_features(model: nn.Module, loader: DataLoader) -> tuple[Tensor, Tensor]:
    """Return features ``[N, D]`` and labels ``[N]`` of all processes, in the order of the dataset.

    Args:
        model: As in :func:`extract_feature_blocks`.
        loader: Data loader without shuffling; with several processes each loads its share.
    """
    parts = [torch.cat(column) for column in zip(*extract_feature_blocks(model, loader), strict=True)]
    # The sampler distributes samples round-robin and pads with the first ones.
    return tuple(torch.stack(all_gather(part), dim=1).flatten(0, 1)[: len(loader.dataset)] for part in parts)


def find_neighbors(model: nn.Module, loader: DataLoader, query: Tensor, k: int) -> Neighbors:
    """Return the neighbours of all queries among the images of all processes; the result is equal in all processes.

    Args:
        model: As in :func:`extract_feature_blocks`.
        loader: Data loader of the labelled images, whose sampler distributes them over the processes.
        query: L2-normalised vectors ``[Q, D]``, equal in all processes.
        k: Number of neighbours.

    Raises:
        UserError: If every process loads all images, or an image has no label.
    """
    remaining = len(range(get_rank(), len(loader.dataset), get_world_size()))  # padding of the sampler comes after them
    if len(loader.sampler) > remaining + 1:
        raise UserError(
            f'KNNMonitorHook: each of {get_world_size()} processes loads {len(loader.sampler)} of '
            f"{len(loader.dataset)} images: set sampler=dict(type='DefaultSampler', shuffle=False) of the data loader"
        )
    found = Neighbors(query.new_full((len(query), k), float('-inf')), query.new_zeros((len(query), k)).long())
    for bank, labels in extract_feature_blocks(model, loader):
        if remaining > 0:
            block = nearest_neighbors(query, bank[:remaining], labels[:remaining], k)
            found = merge_neighbors([found, block], k)
        remaining -= len(bank)
    chunks = zip(*(column.split(BLOCK_SIZE) for column in found), strict=True)
    of_ranks = (zip(*(all_gather(column.contiguous()) for column in chunk), strict=True) for chunk in chunks)
    merged = [merge_neighbors([Neighbors(*pair) for pair in pairs], k) for pairs in of_ranks]
    return Neighbors(*(torch.cat(column) for column in zip(*merged, strict=True)))


CONFIG_SCHEMA = {'KNNMonitorHook.bank': 'dataloader', 'KNNMonitorHook.query': 'dataloader'}


@HOOKS.register_module()
class KNNMonitorHook(Hook):
    """Classifies held-out images by the nearest neighbours of their features and logs ``knn_top1`` in percent.

    The features are those of the backbone in evaluation mode after global average pooling. The RNG state of training is
    restored. Each process needs memory for all queries and their neighbours, not for the labelled images.

    Args:
        bank: Config of the data loader of labelled images, one view each, without shuffling.
        query: Config of the data loader of the images to classify.
        k: Number of neighbours; 20 suits small datasets.
        temperature: Temperature of the weights of the neighbours.
        interval: Epochs between two evaluations; the last epoch is always evaluated.
    """

    priority = 'LOW'

    def __init__(
        self, bank: dict[str, Any], query: dict[str, Any], k: int = 200, temperature: float = 0.07, interval: int = 1
    ) -> None:
        self.configs = (bank, query)
        self.k, self.temperature, self.interval = k, temperature, interval
        self._loaders: list[DataLoader] | None = None

    def after_train_epoch(self, runner: Runner) -> None:
        """Evaluate and log the accuracy."""
        if not (self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)):
            return
        with torch.random.fork_rng():
            accuracy = self.evaluate(runner)
        runner.logger.info(f'Epoch [{runner.epoch + 1}] knn_top1: {accuracy:.2f}')
        runner.message_hub.update_scalar('val/knn_top1', accuracy)
        runner.visualizer.add_scalars(dict(knn_top1=accuracy), step=runner.epoch + 1)

    def evaluate(self, runner: Runner) -> float:
        """Return the accuracy of the current model in percent."""
        if self._loaders is None:
            self._loaders = [runner.build_dataloader(config, seed=runner.seed) for config in self.configs]
        model = unwrap(runner.model)
        modes = {name: module.training for name, module in model.named_modules()}
        model.eval()
        query, truth = extract_features(model, self._loaders[1])
        neighbors = find_neighbors(model, self._loaders[0], query, self.k)
        for name, module in model.named_modules():
            module.training = modes[name]
        return knn_top1(neighbors, truth, self.temperature)
