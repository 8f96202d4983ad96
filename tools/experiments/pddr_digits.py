"""MNIST-5k as tensors, and training on it, for the mechanism experiments of PDDR."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from digit_images import load_images
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

DATA = 'MNIST-5k: 3,000 training, 1,000 validation and 1,000 test images'
Labelled = tuple[Tensor, Tensor]


def digits(split: str) -> Labelled:
    """Return images ``[N, 1, 28, 28]``, 0 (background) to 1 (stroke), and labels ``[N]``.

    Args:
        split: ``train``, ``val`` or ``test``.
    """
    images = load_images('mnist5k', split)
    return images.pixels / 255, images.labels


def batches(count: int, size: int, epochs: int, generator: torch.Generator) -> Iterator[tuple[int, Tensor]]:
    """Yield the epoch and the indices of each batch; the last batch of an epoch may be smaller.

    Args:
        count: Number of samples.
        size: Batch size.
        epochs: Number of epochs.
        generator: Source of the order of the samples.
    """
    for epoch in range(epochs):
        yield from ((epoch, indices) for indices in torch.randperm(count, generator=generator).split(size))


def step(
    optimizer: torch.optim.Optimizer, logits: Tensor, labels: Tensor, scheduler: LRScheduler | None = None
) -> None:
    """Take one step on the cross entropy."""
    optimizer.zero_grad()
    F.cross_entropy(logits, labels).backward()
    optimizer.step()
    if scheduler is not None:
        scheduler.step()


@torch.no_grad()
def accuracy(network: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> float:
    """Return the top-1 accuracy in percent of a network that returns logits, alone or in a tuple."""
    logits = network(images)
    logits = logits[0] if isinstance(logits, tuple) else logits  # a backbone returns a tuple
    return 100 * (logits.argmax(1) == labels).double().mean().item()
