"""Where attention blocks stand in the residual blocks of a ResNet of mmpretrain, mmdet, mmseg or mmpose."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

POSITIONS = ('after_conv1', 'after_conv2', 'after_conv3')


class AttentiveBlock:
    """Mixed into the residual blocks of a host: an attention module after one of its norms."""

    attention_norm: str | None = None  # property of the host's block that returns the norm before the attention

    @property
    def last_norm_name(self) -> str:
        """Name of the module that is the norm before the addition."""
        return self.norm3_name if hasattr(self, 'norm3_name') else self.norm2_name

    @property
    def last_conv(self) -> nn.Module:
        """The convolution before the addition."""
        return self.conv3 if hasattr(self, 'norm3_name') else self.conv2

    def attend(self, attention: dict, position: str | None = None) -> None:
        """Add an attention module, as the child ``attention``.

        Args:
            attention: Config of the module; it is built with ``in_channels``.
            position: ``'after_conv1'``, ``'after_conv2'`` or ``'after_conv3'``: behind the norm of that convolution
                and before its activation, in the block's inner width except for the last. None for the last one.

        Raises:
            UserError: If the block has no such position.
        """
        last = 'norm3' if hasattr(self, 'norm3_name') else 'norm2'
        norm = last if position is None else position.replace('after_conv', 'norm')
        if position not in (None, *POSITIONS) or norm > last:
            raise UserError(
                f'attention_position={position!r}: a {type(self).__name__} has {", ".join(POSITIONS[: int(last[-1])])}'
            )
        self.attention_norm = norm
        width = getattr(self, getattr(self, f'{norm}_name')).num_features
        self.attention = MODELS.build(dict(attention, in_channels=width))

    def _norm_of(self, name: str) -> Any:
        norm = getattr(self, getattr(self, f'{name}_name'))
        if name != self.attention_norm:
            return norm

        def norm_and_attention(x: Tensor) -> Tensor:
            return self.attention(norm(x))

        return norm_and_attention

    @property
    def norm1(self) -> Any:
        """The first norm, with the attention behind it if it is there."""
        return self._norm_of('norm1')

    @property
    def norm2(self) -> Any:
        """The second norm, with the attention behind it if it is there."""
        return self._norm_of('norm2')

    @property
    def norm3(self) -> Any:
        """The third norm, with the attention behind it if it is there."""
        return self._norm_of('norm3')


class AttentiveResNet:
    """Mixed into the ResNet of a host: adds the attention to the blocks of each stage when it is made.

    It reads ``attention``, ``attention_stages``, ``attention_blocks`` and ``attention_position`` of the instance.
    """

    def make_res_layer(self, **kwargs: Any) -> nn.Module:
        """Make a stage as the host does, with attention in the blocks asked for."""
        layer = super().make_res_layer(**kwargs)
        stage, stages = len(self.res_layers), self.attention_stages
        if self.attention is not None and (stages is None or stages[stage]):
            for block in chosen_blocks([b for b in layer if isinstance(b, AttentiveBlock)], self.attention_blocks):
                block.attend(self.attention, self.attention_position)
        return layer


def chosen_blocks(blocks: Sequence[nn.Module], indices: Sequence[int] | None) -> list[nn.Module]:
    """Return the blocks of a stage with the given indices, negative ones from the end; all if there are none given.

    Raises:
        UserError: If the stage has no block of an index.
    """
    if indices is None:
        return list(blocks)
    if wrong := [index for index in indices if not -len(blocks) <= index < len(blocks)]:
        raise UserError(f'attention_blocks={tuple(indices)}: a stage has {len(blocks)} blocks, and no {wrong[0]}')
    return [blocks[index] for index in sorted({index % len(blocks) for index in indices})]
