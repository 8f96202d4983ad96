"""Vision transformers of timm as a backbone that returns dense feature maps."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from reprefine.engine.errors import UserError
from reprefine.models.timm_weights import create_vit, load_vit_checkpoint, load_vit_weights, warn_smaller_pos_embed
from reprefine.registry import MODELS

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def center_padding(size: int, multiple: int) -> tuple[int, int]:
    """Return the padding before and after that centres ``size`` pixels in the next multiple of ``multiple``."""
    padding = -size % multiple
    return padding // 2, padding - padding // 2


@MODELS.register_module()
class TimmViT(BaseModule):
    """Patch features of a vision transformer, for images of any size.

    Takes normalised images of shape (B, 3, H, W) and returns a tuple with one entry for each of ``out_indices``: a
    feature map of shape (B, C, h, w), or with ``with_cls_token`` the pair of the feature map and the class token of
    shape (B, C). The feature map does not contain class and register tokens. With patches of P pixels and a stride of S
    pixels it has ``(H - P) // S + 1`` rows.

    The weights are random until ``init_weights``, which the runner calls before training and which loads the weights of
    ``init_cfg``, ``checkpoint`` or ``pretrained``. A test loads all weights from its checkpoint.

    Args:
        model_name: Name of a ``VisionTransformer`` or ``Eva`` of timm.
        stride: Stride of the patch embedding in pixels; the patch size if None.
        img_size: Image size in pixels for which the model has a position embedding; that of the pre-trained model if
            None. The embedding is resampled (bicubic, antialiased) to the grid of each input.
        out_indices: Increasing indices of the blocks whose outputs are returned; negative ones count from the last.
        final_norm: Apply the model's final LayerNorm to each output.
        with_cls_token: Also return the class token.
        frozen: Keep the model in evaluation mode, without gradients.
        pretrained: Download the weights of that name by timm.
        checkpoint: File with all weights of the model; takes precedence over ``pretrained``. A file with a larger
            position embedding than the model's raises an error, unless ``img_size`` sets the smaller one.
        checkpoint_key: Entry of the file that holds the weights, see :func:`.entries.select_weights`.
        revise_keys: Pairs of regular expression and replacement for the names of the weights, as in mmengine.
        center_pad: Pad with zeros on all sides to multiples of the patch size.
        crop_padding: Resample the feature maps of padded images (bilinearly, to the same grid) to the extent of the
            unpadded image. Otherwise they cover the padding too, as in published evaluations of frozen features.
        norm: Normalisation of the images. ``'imagenet'`` does not change the input, which is normalised with the
            statistics of ImageNet; ``'native'`` converts it to the statistics of the model's own training.
        model_args: Further arguments of timm's model, such as ``depth``.
        init_cfg: Initialisation config of mmengine, for a checkpoint of this class, such as that of a pre-training;
            takes precedence over ``checkpoint`` and ``pretrained``.

    Raises:
        UserError: If timm cannot create the model, or it lacks the class token or the final norm that the options need.
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
        checkpoint_key: str | None = None,
        revise_keys: Sequence[tuple[str, str]] = (),
        center_pad: bool = True,
        crop_padding: bool = False,
        norm: str = 'imagenet',
        model_args: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ):
        super().__init__(init_cfg)
        self.model_name = model_name
        self.model_args = dict(model_args or {}, img_size=img_size)
        self.out_indices = list(out_indices)
        self.final_norm = final_norm
        self.with_cls_token = with_cls_token
        self.frozen = frozen
        self.pretrained = pretrained
        self.checkpoint = checkpoint
        self.checkpoint_key = checkpoint_key
        self.revise_keys = revise_keys
        self.center_pad = center_pad
        self.crop_padding = crop_padding
        self.vit = create_vit(model_name, **self.model_args)
        self._check_outputs()
        self.patch_size = self.vit.patch_embed.patch_size[0]
        self.stride = stride or self.patch_size
        self.vit.patch_embed.proj.stride = (self.stride, self.stride)
        # disables timm's check of the image size; the position embedding keeps its own grid
        self.vit.patch_embed.img_size = None
        self.vit.requires_grad_(not frozen)
        self._set_norm(norm)
        self.train()

    @property
    def requires_pretrained(self) -> str | None:
        """Reason why random weights make no sense, see :mod:`reprefine.engine.checkpoints.random_init_warning`."""
        return 'it is frozen' if self.frozen else None

    def _check_outputs(self) -> None:
        if self.with_cls_token and self.vit.cls_token is None:
            raise UserError(f'TimmViT: {self.model_name} has no class token; set with_cls_token=False')
        if self.final_norm and isinstance(self.vit.norm, torch.nn.Identity):
            raise UserError(f'TimmViT: {self.model_name} has no norm after its last block; set final_norm=False')

    def _set_norm(self, norm: str) -> None:
        """Compute scale and shift from ImageNet's statistics to the model's own."""
        if norm not in ('imagenet', 'native'):
            raise UserError(f"TimmViT: norm={norm!r}: use 'imagenet' or 'native'")
        mean, std, own_mean, own_std = (
            torch.tensor(values)[:, None, None]
            for values in (IMAGENET_MEAN, IMAGENET_STD, self.vit.pretrained_cfg['mean'], self.vit.pretrained_cfg['std'])
        )
        self.renormalizes = norm == 'native' and not (torch.equal(mean, own_mean) and torch.equal(std, own_std))
        self.register_buffer('_norm_scale', std / own_std, persistent=False)
        self.register_buffer('_norm_shift', (mean - own_mean) / own_std, persistent=False)

    def init_weights(self) -> None:
        """Load the weights of ``init_cfg``, ``checkpoint`` or ``pretrained``; without them, keep the random ones.

        Raises:
            UserError: If the file cannot be read or does not load the whole model, or the download fails.
        """
        if self.init_cfg:
            super().init_weights()
        elif self.checkpoint:
            is_size_set = self.model_args['img_size'] is not None
            load_vit_checkpoint(
                self.vit, self.checkpoint, self.checkpoint_key, self.revise_keys, allow_smaller_pos_embed=is_size_set
            )
        elif self.pretrained:
            trained = create_vit(self.model_name, pretrained=True, **self.model_args)
            load_vit_weights(self.vit, trained.state_dict(), self.model_name)
            side = self.vit.pretrained_cfg['input_size'][-1] // self.patch_size
            if self.vit.pos_embed is not None and side**2 > prod(self.vit.patch_embed.grid_size):
                warn_smaller_pos_embed(self.model_name, side, self.vit)

    def train(self, mode: bool = True) -> 'TimmViT':
        """Set the mode; a frozen model stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def grid_size(self, height: int, width: int) -> tuple[int, int]:
        """Return rows and columns of the feature map of an image of ``height`` x ``width`` pixels."""
        sizes = [size + sum(self._padding(size)) for size in (height, width)]
        return tuple((size - self.patch_size) // self.stride + 1 for size in sizes)

    def _padding(self, size: int) -> tuple[int, int]:
        return center_padding(size, self.patch_size) if self.center_pad else (0, 0)

    def forward(self, x: Tensor) -> tuple[Tensor, ...] | tuple[tuple[Tensor, Tensor], ...]:
        """Return the patch features of images ``x`` (B, 3, H, W), see the class."""
        height, width = x.shape[-2:]
        if self.renormalizes:
            x = x * self._norm_scale + self._norm_shift
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
            return tuple((self._crop(_to_map(tokens, grid), x), prefix[:, 0]) for tokens, prefix in outputs)
        return tuple(self._crop(_to_map(tokens, grid), x) for tokens in outputs)

    def _crop(self, features: Tensor, images: Tensor) -> Tensor:
        """Resample a feature map ``[B, C, h, w]`` to the extent of the unpadded images, along the padded axes."""
        paddings = [self._padding(size)[0] + self._padding(size)[1] for size in images.shape[-2:]]
        if not self.crop_padding or not any(paddings):
            return features
        lines = [
            self._cell_centers(size, count) for size, count in zip(images.shape[-2:], features.shape[-2:], strict=True)
        ]
        rows, columns = (line.to(features) for line in lines)
        points = torch.stack(torch.meshgrid(columns, rows, indexing='xy'), -1).expand(len(features), -1, -1, -1)
        return F.grid_sample(features, points, padding_mode='border', align_corners=False)

    def _cell_centers(self, size: int, count: int) -> Tensor:
        """Return the centres of ``count`` equal cells of an axis of ``size`` pixels, in coordinates from -1 to 1."""
        cells = torch.arange(count) + 0.5
        before, after = self._padding(size)
        if before + after:
            pixels = before + cells * size / count
            cells = (pixels - self.patch_size / 2) / self.stride + 0.5
        return 2 * cells / count - 1


def _to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Reshape tokens (B, h*w, C) to a feature map (B, C, h, w), row by row."""
    return tokens.transpose(1, 2).unflatten(2, grid)
