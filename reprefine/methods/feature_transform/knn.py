"""Nearest neighbours in feature space: a measure of a pre-training that needs no training of its own."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from reprefine.engine.build import unwrap
from reprefine.registry import HOOKS


def knn_votes(query: Tensor, bank: Tensor, labels: Tensor, classes: int, k: int, temperature: float) -> Tensor:
    """Return the votes of the ``k`` most similar vectors, each weighing ``exp(similarity / temperature)``.

    Args:
        query: Vectors of unit length ``[Q, D]``.
        bank: Labelled vectors of unit length ``[N, D]``; all of them vote if ``k`` exceeds ``N``.
        labels: Their classes ``[N]``.
        classes: Number of classes ``C``.
        k: Number of neighbours.
        temperature: Of the weights.

    Returns:
        Votes ``[Q, C]``.
    """
    similarity, nearest = (query @ bank.T).topk(min(k, len(bank)), dim=1)
    # Relative to the nearest neighbour: the order of the classes is the same, and nothing overflows.
    weights = ((similarity - similarity[:, :1]) / temperature).exp()
    return query.new_zeros(len(query), classes).scatter_add_(1, labels[nearest], weights)


def knn_top1(
    query: Tensor, truth: Tensor, bank: Tensor, labels: Tensor, k: int, temperature: float, chunk: int = 1024
) -> float:
    """Return the accuracy of a nearest-neighbour classifier in percent.

    Args:
        query: Vectors of unit length ``[Q, D]``.
        truth: Their classes ``[Q]``.
        bank: Labelled vectors of unit length ``[N, D]``.
        labels: Their classes ``[N]``.
        k: Number of neighbours.
        temperature: Of their weights.
        chunk: Queries compared at a time, which bounds the memory to ``chunk * N``.
    """
    classes = int(torch.cat([labels, truth]).max()) + 1
    parts = zip(query.split(chunk), truth.split(chunk), strict=True)
    hits = sum((knn_votes(q, bank, labels, classes, k, temperature).argmax(1) == t).sum() for q, t in parts)
    return 100 * int(hits) / len(query)


@torch.no_grad()
def extract(model: nn.Module, loader: DataLoader) -> tuple[Tensor, Tensor]:
    """Return pooled backbone features of unit length ``[N, D]`` and labels ``[N]``, in the order of the data set.

    The loader must not shuffle. With several processes each computes its share.

    Args:
        model: Model with ``data_preprocessor`` and ``extract_feat``.
        loader: Loader of single views with labels.
    """
    features, labels = [], []
    for batch in loader:
        data = model.data_preprocessor(batch, False)
        inputs = data['inputs']
        out = model.extract_feat(inputs[0] if isinstance(inputs, list) else inputs)
        out = out[-1] if isinstance(out, (tuple, list)) else out
        features.append(F.normalize(out.flatten(2).mean(2) if out.dim() > 2 else out, dim=1))
        labels.append(torch.cat([sample.gt_label for sample in data['data_samples']]).to(out.device))
    parts = (torch.cat(features).float(), torch.cat(labels))
    # The sampler deals samples out in turn and fills up with the first ones.
    return tuple(torch.stack(all_gather(p), dim=1).flatten(0, 1)[: len(loader.dataset)] for p in parts)


@HOOKS.register_module()
class KNNMonitorHook(Hook):
    """Classifies held-out images by the nearest neighbours of their features, and logs ``knn_top1`` in percent.

    The features are those of the backbone in evaluation mode, averaged over the image. The random state of the training
    is left as it was.

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
        (bank, labels), (query, truth) = (extract(model, loader) for loader in self._loaders)
        for name, module in model.named_modules():
            module.training = modes[name]
        return knn_top1(query, truth, bank, labels, self.k, self.temperature)
