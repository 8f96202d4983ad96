"""Nearest neighbours as a decode head of mmseg."""

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .knn import class_centroids, class_shares, labelled_patches, vote
from .memory_bank import MemoryBank

ENTRIES = {'centroids': class_centroids, 'patches': labelled_patches}


@MODELS.register_module()
class KNNHead(BaseDecodeHead):
    """Gives each position of a feature map the votes of its nearest labelled features of the training images.

    It has no weights. ``train_cfg=dict(type='reprefine.MemoryBankLoop')`` fills its bank, which checkpoints hold.

    Args:
        in_channels: Channels C of the feature map.
        num_neighbors: Number of neighbours that vote.
        temperature: Neighbours vote with the softmax of cosine similarity / temperature; None for equal votes.
        entries: What an image adds to the bank. ``centroids``: the mean feature of each of its classes. ``patches``:
            the feature of each patch with the shares of the classes in it.
        max_entries: Bound of the number of entries, of which then a random sample is kept; None keeps all.
        chunk_size: Number of entries that are compared with an image at once.
        seed: Seed of that sample.
        **kwargs: Other arguments of mmseg's ``BaseDecodeHead``, such as ``num_classes``.

    Raises:
        UserError: If ``entries`` is none of the two.
    """

    def __init__(
        self,
        in_channels: int,
        num_neighbors: int = 20,
        temperature: float | None = None,
        entries: str = 'centroids',
        max_entries: int | None = None,
        chunk_size: int = 16384,
        seed: int = 0,
        **kwargs: Any,
    ):
        if entries not in ENTRIES:
            raise UserError(f'KNNHead: entries is {" or ".join(ENTRIES)}, not {entries!r}')
        super().__init__(in_channels, in_channels, dropout_ratio=0.0, init_cfg=None, **kwargs)
        self.conv_seg = None  # the base class has a classifier with weights
        self.num_neighbors = num_neighbors
        self.temperature = temperature
        self.entries_of = ENTRIES[entries]
        self.chunk_size = chunk_size
        self.bank = MemoryBank(in_channels, self.num_classes, max_entries, seed)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the votes (B, num_classes, h, w) on the selected map (B, C, h, w).

        Raises:
            UserError: If the bank is empty.
        """
        features = self._transform_inputs(inputs)
        bank = self.bank.entries(features.device)
        if not len(bank.features):
            raise UserError('KNNHead: the memory bank is empty: fill it by tools/train.py with this config')
        options = (self.num_neighbors, self.temperature, self.chunk_size)
        votes = [vote(image.flatten(1).T.float(), bank, *options).T for image in features]
        return torch.stack(votes).unflatten(2, features.shape[2:])

    def loss(self, inputs: Sequence[Tensor], batch_data_samples: Sequence[Any], train_cfg: Any) -> dict[str, Tensor]:
        """Add the images of a batch to the bank; there is no loss.

        Args:
            inputs: Feature maps, of which one is selected.
            batch_data_samples: Data samples with the labels.
            train_cfg: Not used.
        """
        features = self._transform_inputs(inputs)
        for image, sample in zip(features, batch_data_samples, strict=True):
            labels = sample.gt_sem_seg.data[0].to(image.device)
            self.bank.add(self.entries_of(image, class_shares(labels, self.num_classes, tuple(image.shape[1:]))))
        return {}
