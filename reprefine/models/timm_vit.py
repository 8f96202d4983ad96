"""Vision transformers of timm as a backbone that gives dense feature maps."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .timm_weights import create_vit, load_file


def center_padding(size: int, multiple: int) -> tuple[int, int]:
    """Return the padding before and after that centres ``size`` pixels in the next multiple of ``multiple``."""
    padding = -size % multiple
    return padding // 2, padding - padding // 2


@MODELS.register_module()
class TimmViT(BaseModule):
    """Patch features of a vision transformer, for images of any size.

    Takes normalised images of shape (B, 3, H, W) and gives a tuple with one entry for each of ``out_indices``: a map of
    shape (B, C, h, w), or with ``with_cls_token`` the pair of this map and the class token of shape (B, C). Class and
    register tokens are left out of the map. With patches of P pixels every S pixels it has ``(H - P) // S + 1`` rows.

    The weights are random until ``init_weights``, which the runner calls before training and which loads what
    ``checkpoint`` or ``pretrained`` name. Testing takes all weights from its own checkpoint.

    Args:
        model_name: Name of a ``VisionTransformer`` or ``Eva`` of timm.
        stride: Distance of the patches in pixels; the patch size if None.
        img_size: Side of the images whose grid the position table has; that of the pre-trained model if None. The
            table is resampled (bicubic, antialiased) to the grid of each input.
        out_indices: Ascending numbers of the blocks to give the output of; negative ones count from the last.
        final_norm: Apply the model's final LayerNorm to each output.
        with_cls_token: Also give the class token.
        frozen: Keep the model in eval mode, without gradients.
        pretrained: Have timm download the weights that belong to the name.
        checkpoint: File with weights that fill the whole model; goes before ``pretrained``.
        center_pad: Pad with zeros on all sides to multiples of the patch size.
        model_args: Further arguments of timm's model, such as ``depth``.

    Raises:
        UserError: If timm cannot create the model, or it lacks the class token or the final norm that are asked for.
    """

    def __init__(
        self,
        model_name: str,
        stride: int | None = None,
        img_size: int | tuple[int, int] | None = None,
        out_indices: Sequence[int] = (-1,),
        final_norm: bool = True,
        with_cls_token: bool = False,
        frozen: bool = True,
        pretrained: bool = False,
        checkpoint: str | None = None,
        center_pad: bool = True,
        model_args: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.model_name = model_name
        self.model_args = dict(model_args or {}, img_size=img_size)
        self.out_indices = list(out_indices)
        self.final_norm = final_norm
        self.with_cls_token = with_cls_token
        self.frozen = frozen
        self.pretrained = pretrained
        self.checkpoint = checkpoint
        self.center_pad = center_pad
        self.vit = create_vit(model_name, **self.model_args)
        self._check_outputs()
        self.patch_size = self.vit.patch_embed.patch_size[0]
        self.stride = stride or self.patch_size
        self.vit.patch_embed.proj.stride = (self.stride, self.stride)
        # Lifts the demand that patches tile the image; the position table keeps its own grid.
        self.vit.patch_embed.img_size = None
        self.vit.requires_grad_(not frozen)
        self.train()

    def _check_outputs(self) -> None:
        if self.with_cls_token and self.vit.cls_token is None:
            raise UserError(f'TimmViT: {self.model_name} has no class token; set with_cls_token=False')
        if self.final_norm and isinstance(self.vit.norm, torch.nn.Identity):
            raise UserError(f'TimmViT: {self.model_name} has no norm after its last block; set final_norm=False')

    def init_weights(self) -> None:
        """Load what ``checkpoint`` or ``pretrained`` name; with neither, the random weights stay.

        Raises:
            UserError: If the file cannot be read or does not fill the model, or the download fails.
        """
        if self.checkpoint:
            load_file(self.vit, self.checkpoint)
        elif self.pretrained:
            trained = create_vit(self.model_name, pretrained=True, **self.model_args)
            self.vit.load_state_dict(trained.state_dict())

    def train(self, mode: bool = True) -> 'TimmViT':
        """Switch to training, unless frozen."""
        return super().train(mode and not self.frozen)

    def grid_size(self, height: int, width: int) -> tuple[int, int]:
        """Return rows and columns of the map of an image of ``height`` x ``width`` pixels."""
        sizes = [size + sum(self._padding(size)) for size in (height, width)]
        return tuple((size - self.patch_size) // self.stride + 1 for size in sizes)

    def _padding(self, size: int) -> tuple[int, int]:
        return center_padding(size, self.patch_size) if self.center_pad else (0, 0)

    def forward(self, x: Tensor) -> tuple[Tensor, ...] | tuple[tuple[Tensor, Tensor], ...]:
        """Return the patch features of ``x``, shape (B, 3, H, W), as the class describes."""
        height, width = x.shape[-2:]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            outputs = self.vit.forward_intermediates(
                F.pad(x, (*self._padding(width), *self._padding(height))),
                indices=self.out_indices,
                return_prefix_tokens=self.with_cls_token,
                norm=self.final_norm,
                stop_early=True,
                output_fmt='NLC',
                intermediates_only=True,
            )
        grid = self.grid_size(height, width)
        if self.with_cls_token:
            return tuple((_to_map(tokens, grid), prefix[:, 0]) for tokens, prefix in outputs)
        return tuple(_to_map(tokens, grid) for tokens in outputs)


def _to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Arrange (B, h*w, C) tokens, row by row, as a (B, C, h, w) map."""
    return tokens.transpose(1, 2).unflatten(2, grid)
