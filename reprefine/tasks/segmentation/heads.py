"""Decode heads of mmseg: a linear classifier and nearest neighbours."""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .functional import class_centroids, class_shares, labelled_patches, vote
from .memory_bank import MemoryBank

ENTRIES = {'centroids': class_centroids, 'patches': labelled_patches}


@MODELS.register_module()
class LinearHead(BaseDecodeHead):
    """Batch normalisation and a 1x1 convolution, the usual linear probe of frozen features.

    Args:
        in_channels: Channels of the feature map.
        norm_cfg: Config of the normalisation layer; SyncBN if None.
        dropout_ratio: Dropout probability of the channels.
        **kwargs: Other arguments of mmseg's ``BaseDecodeHead``, such as ``num_classes``.
    """

    def __init__(
        self,
        in_channels: int,
        norm_cfg: dict[str, Any] | None = None,
        dropout_ratio: float = 0.0,
        **kwargs: Any,
    ):
        norm_cfg = norm_cfg or dict(type='SyncBN')
        super().__init__(in_channels, in_channels, norm_cfg=norm_cfg, dropout_ratio=dropout_ratio, **kwargs)
        self.norm = build_norm_layer(norm_cfg, in_channels)[1]

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the logits (B, num_classes, h, w) of the selected feature map (B, C, h, w)."""
        return self.cls_seg(self.norm(self._transform_inputs(inputs)))


@MODELS.register_module()
class KNNHead(BaseDecodeHead):
    """Segments each position of a feature map by the votes of the nearest labelled features of the training images.

    The head has no weights. ``train_cfg=dict(type='reprefine.MemoryBankLoop')`` fills its memory bank, which is part
    of the state dict.

    Args:
        in_channels: Channels C of the feature map.
        num_neighbors: Number of neighbours that vote.
        temperature: Votes are weighted by the softmax of cosine similarity / temperature; None for equal weights.
        entries: Entries that an image adds to the bank. ``centroids``: the mean feature of each of its classes.
            ``patches``: the feature of each patch with its class shares.
        max_entries: Maximum number of entries, beyond which a random sample is kept; None keeps all.
        chunk_size: Number of entries compared with an image at once.
        seed: Seed of the random sample.
        **kwargs: Other arguments of mmseg's ``BaseDecodeHead``, such as ``num_classes``.

    Raises:
        UserError: If ``entries`` is unknown.
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
            raise UserError(f'KNNHead: unknown entries {entries!r}; choose from {", ".join(ENTRIES)}')
        super().__init__(in_channels, in_channels, dropout_ratio=0.0, init_cfg=None, **kwargs)
        self.conv_seg = None  # the classifier of the base class, which has weights
        self.num_neighbors = num_neighbors
        self.temperature = temperature
        self.make_entries = ENTRIES[entries]
        self.chunk_size = chunk_size
        self.bank = MemoryBank(in_channels, self.num_classes, max_entries, seed)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the votes (B, num_classes, h, w) on the selected feature map (B, C, h, w).

        Raises:
            UserError: If the bank is empty.
        """
        features = self._transform_inputs(inputs)
        bank = self.bank.entries(features.device)
        if not len(bank.features):
            raise UserError('KNNHead: the memory bank is empty: run tools/train.py with this config')
        options = (self.num_neighbors, self.temperature, self.chunk_size)
        votes = [vote(image.flatten(1).T.float(), bank, *options).T for image in features]
        return torch.stack(votes).unflatten(2, features.shape[2:])

    def loss(self, inputs: Sequence[Tensor], batch_data_samples: Sequence[Any], train_cfg: Any) -> dict[str, Tensor]:
        """Add the images of a batch to the bank; there is no loss.

        Args:
            inputs: Feature maps, from which ``in_index`` selects one.
            batch_data_samples: Data samples with ``gt_sem_seg``.
            train_cfg: Not used.
        """
        features = self._transform_inputs(inputs)
        for image, sample in zip(features, batch_data_samples, strict=True):
            labels = sample.gt_sem_seg.data[0].to(image.device)
            self.bank.add(self.make_entries(image, class_shares(labels, self.num_classes, tuple(image.shape[1:]))))
        return {}
