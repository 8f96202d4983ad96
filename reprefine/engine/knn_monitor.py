"""Nearest neighbours in feature space: a measure of a pre-training that needs no training of its own.

The labelled features, 10 GB for ImageNet and a ResNet-50, are never held: every process compares its share of them,
block by block, with all queries, keeps the ``k`` nearest, and the processes exchange those.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

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

BLOCK = 4096  # labelled vectors compared at a time


class Neighbours(NamedTuple):
    """The most similar labelled vectors of each query.

    Attributes:
        similarity: Descending, ``[Q, k]``; ``-inf`` where there are fewer.
        labels: Their classes ``[Q, k]``.
    """

    similarity: Tensor
    labels: Tensor


def nearest(query: Tensor, bank: Tensor, labels: Tensor, k: int, chunk: int = 1024) -> Neighbours:
    """Return the ``k`` most similar vectors of each query, all of them if there are fewer.

    Args:
        query: Vectors of unit length ``[Q, D]``.
        bank: Labelled vectors of unit length ``[N, D]``.
        labels: Their classes ``[N]``.
        k: Number of neighbours.
        chunk: Queries compared at a time, which bounds the memory to ``chunk * N``.
    """
    parts = [(part @ bank.T).topk(min(k, len(bank)), dim=1) for part in query.split(chunk)]
    similarity, places = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return Neighbours(similarity, labels[places])


def best_of(parts: Sequence[Neighbours], k: int) -> Neighbours:
    """Return the ``k`` nearest among the neighbours that were found in several parts of the labelled vectors."""
    similarity, labels = (torch.cat(columns, dim=1) for columns in zip(*parts, strict=True))
    similarity, places = similarity.topk(min(k, similarity.shape[1]), dim=1)
    return Neighbours(similarity, labels.gather(1, places))


def knn_votes(neighbours: Neighbours, classes: int, temperature: float) -> Tensor:
    """Return the votes ``[Q, C]`` of the neighbours, each weighing ``exp(similarity / temperature)``.

    Args:
        neighbours: The neighbours of each query.
        classes: Number of classes ``C``.
        temperature: Of the weights.
    """
    similarity, labels = neighbours
    # Relative to the nearest neighbour: the order of the classes is the same, and nothing overflows.
    weights = ((similarity - similarity[:, :1]) / temperature).exp()
    return similarity.new_zeros(len(similarity), classes).scatter_add_(1, labels, weights)


def knn_top1(neighbours: Neighbours, truth: Tensor, temperature: float) -> float:
    """Return the accuracy of a nearest-neighbour classifier in percent.

    Args:
        neighbours: The neighbours of each query.
        truth: Classes of the queries ``[Q]``.
        temperature: Of the neighbours' weights.
    """
    classes = int(max(neighbours.labels.max(), truth.max())) + 1
    hits = knn_votes(neighbours, classes, temperature).argmax(1) == truth
    return 100 * int(hits.sum()) / len(truth)


@torch.no_grad()
def features_of(model: nn.Module, loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pooled backbone features of unit length ``[n, D]`` in float32 and labels ``[n]``, of this process's share.

    A block holds :data:`BLOCK` of them or, where batches do not add up to it, somewhat more; the last one what is left.

    Args:
        model: Model with ``data_preprocessor`` and ``extract_feat``.
        loader: Loader of single views with labels.

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
        if sum(map(len, labels)) >= BLOCK or number == len(loader):
            yield torch.cat(features), torch.cat(labels)
            features, labels = [], []


def _labels_of(data_samples: list[Any]) -> Tensor:
    if all('gt_label' in sample for sample in data_samples):
        labels = torch.cat([sample.gt_label for sample in data_samples])
        if labels.min() >= 0:
            return labels
    raise UserError('KNNMonitorHook: an image of bank or query has no label, or -1: give it datasets with labels')


def extract(model: nn.Module, loader: DataLoader) -> tuple[Tensor, Tensor]:
    """Return :func:`features_of` all processes, ``[N, D]`` and ``[N]``, in the order of the dataset.

    The loader must not shuffle. With several processes each computes its share.
    """
    parts = [torch.cat(column) for column in zip(*features_of(model, loader), strict=True)]
    # The sampler deals samples out in turn and fills up with the first ones.
    return tuple(torch.stack(all_gather(part), dim=1).flatten(0, 1)[: len(loader.dataset)] for part in parts)


def find_neighbours(model: nn.Module, loader: DataLoader, query: Tensor, k: int) -> Neighbours:
    """Return the neighbours of all queries among the images of all processes, the same in each of them.

    Args:
        model: As in :func:`features_of`.
        loader: Loader of the labelled images, which deals them out to the processes.
        query: Vectors of unit length ``[Q, D]``, the same in all processes.
        k: Number of neighbours.

    Raises:
        UserError: If every process would read all images, or an image has no label.
    """
    left = len(range(get_rank(), len(loader.dataset), get_world_size()))  # what fills up the share comes behind it
    if len(loader.sampler) > left + 1:
        raise UserError(
            f'KNNMonitorHook: every one of {get_world_size()} processes reads {len(loader.sampler)} of '
            f"{len(loader.dataset)} images: give the loader sampler=dict(type='DefaultSampler', shuffle=False)"
        )
    found = Neighbours(query.new_full((len(query), k), float('-inf')), query.new_zeros((len(query), k)).long())
    for bank, labels in features_of(model, loader):
        found = best_of([found, nearest(query, bank[:left], labels[:left], k)], k) if left > 0 else found
        left -= len(bank)
    chunks = zip(*(column.split(BLOCK) for column in found), strict=True)
    of_ranks = (zip(*(all_gather(column.contiguous()) for column in chunk), strict=True) for chunk in chunks)
    merged = [best_of([Neighbours(*pair) for pair in pairs], k) for pairs in of_ranks]
    return Neighbours(*(torch.cat(column) for column in zip(*merged, strict=True)))


CONFIG_SCHEMA = {'KNNMonitorHook.bank': 'dataloader', 'KNNMonitorHook.query': 'dataloader'}


@HOOKS.register_module()
class KNNMonitorHook(Hook):
    """Classifies held-out images by the nearest neighbours of their features, and logs ``knn_top1`` in percent.

    The features are those of the backbone in evaluation mode, averaged over the image. The random state of the training
    is left as it was. Each process needs memory for all queries and their neighbours, not for the labelled images.

    Args:
        bank: Config of the data loader of labelled images, one view each, not shuffled.
        query: Config of the data loader of the images to classify.
        k: Number of neighbours; 20 suits small data sets.
        temperature: Of the neighbours' weights.
        interval: Epochs between two evaluations; the last epoch always has one.
    """

    priority = 'LOW'

    def __init__(
        self, bank: dict[str, Any], query: dict[str, Any], k: int = 200, temperature: float = 0.07, interval: int = 1
    ) -> None:
        self.configs = (bank, query)
        self.k, self.temperature, self.interval = k, temperature, interval
        self._loaders: list[DataLoader] | None = None

    def after_train_epoch(self, runner: Runner) -> None:
        """Evaluate and log."""
        if not (self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)):
            return
        with torch.random.fork_rng():
            accuracy = self.evaluate(runner)
        runner.logger.info(f'Epoch [{runner.epoch + 1}] knn_top1: {accuracy:.2f}')
        runner.message_hub.update_scalar('val/knn_top1', accuracy)
        runner.visualizer.add_scalars(dict(knn_top1=accuracy), step=runner.epoch + 1)

    def evaluate(self, runner: Runner) -> float:
        """Return the accuracy in percent of the model as it is."""
        if self._loaders is None:
            self._loaders = [runner.build_dataloader(config, seed=runner.seed) for config in self.configs]
        model = unwrap(runner.model)
        modes = {name: module.training for name, module in model.named_modules()}
        model.eval()
        query, truth = extract(model, self._loaders[1])
        neighbours = find_neighbours(model, self._loaders[0], query, self.k)
        for name, module in model.named_modules():
            module.training = modes[name]
        return knn_top1(neighbours, truth, self.temperature)
