"""Mixins that insert attention blocks in the ResNet of mmpretrain, mmdet, mmseg or mmpose."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

POSITIONS = ('after_conv1', 'after_conv2', 'after_conv3')


class BlockAttentionMixin:
    """Mixin for residual blocks: inserts an attention block after one of the norms."""

    attention_norm: str | None = None  # property that returns the norm before the attention block

    @property
    def last_norm_name(self) -> str:
        """Name of the last norm of the residual branch."""
        return self.norm3_name if hasattr(self, 'norm3_name') else self.norm2_name

    @property
    def last_conv(self) -> nn.Module:
        """The last convolution of the residual branch."""
        return self.conv3 if hasattr(self, 'norm3_name') else self.conv2

    def add_attention(self, attention: dict, position: str | None = None) -> None:
        """Add an attention block, as the child ``attention``.

        Args:
            attention: Config of the attention block; it is built with ``in_channels``.
            position: ``'after_conv1'``, ``'after_conv2'`` or ``'after_conv3'``: after the norm of that convolution,
                before the activation. None: after the last norm.

        Raises:
            UserError: If the block has no such position.
        """
        last = 'norm3' if hasattr(self, 'norm3_name') else 'norm2'
        norm = last if position is None else position.replace('after_conv', 'norm')
        if position not in (None, *POSITIONS) or norm > last:
            raise UserError(
                f'attention_position={position!r} is unknown for {type(self).__name__}: use one of '
                f'{", ".join(POSITIONS[: int(last[-1])])}'
            )
        self.attention_norm = norm
        channels = getattr(self, getattr(self, f'{norm}_name')).num_features
        self.attention = MODELS.build(dict(attention, in_channels=channels))

    def _norm_of(self, name: str) -> Any:
        norm = getattr(self, getattr(self, f'{name}_name'))
        if name != self.attention_norm:
            return norm

        def norm_and_attention(x: Tensor) -> Tensor:
            return self.attention(norm(x))

        return norm_and_attention

    @property
    def norm1(self) -> Any:
        """The first norm, followed by the attention block if that is its position."""
        return self._norm_of('norm1')

    @property
    def norm2(self) -> Any:
        """The second norm, followed by the attention block if that is its position."""
        return self._norm_of('norm2')

    @property
    def norm3(self) -> Any:
        """The third norm, followed by the attention block if that is its position."""
        return self._norm_of('norm3')


class ResNetAttentionMixin:
    """Mixin for ResNets: adds attention blocks to the residual blocks while the stages are built.

    It reads the attributes ``attention``, ``attention_stages``, ``attention_blocks`` and ``attention_position``.
    """

    def make_res_layer(self, **kwargs: Any) -> nn.Module:
        """Build a stage of the ResNet, with attention in the selected residual blocks."""
        layer = super().make_res_layer(**kwargs)
        stage, stages = len(self.res_layers), self.attention_stages
        if self.attention is not None and (stages is None or stages[stage]):
            for block in select_blocks([b for b in layer if isinstance(b, BlockAttentionMixin)], self.attention_blocks):
                block.add_attention(self.attention, self.attention_position)
        return layer


def select_blocks(blocks: Sequence[nn.Module], indices: Sequence[int] | None) -> list[nn.Module]:
    """Return the residual blocks of a stage with the given indices, negative ones from the end; None selects all.

    Raises:
        UserError: If an index is out of range.
    """
    if indices is None:
        return list(blocks)
    if wrong := [index for index in indices if not -len(blocks) <= index < len(blocks)]:
        raise UserError(
            f'attention_blocks={tuple(indices)}: {wrong[0]} is out of range for a stage with {len(blocks)} blocks'
        )
    return [blocks[index] for index in sorted({index % len(blocks) for index in indices})]
