"""Models of the training of the denoiser on stored pairs, and of its distillation into a ViT."""

from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from reprefine.engine.checkpoints.method_keys import added_names, state_without_added
from reprefine.engine.checkpoints.weights import check_match, load_weights
from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

LOSS = {'type': 'reprefine.FeatureLoss'}


def restrict_state_dict(module: nn.Module, prefix: str) -> None:
    """Restrict the state dict of a module to the keys with a prefix; loading ignores the missing other keys.

    Args:
        module: The module.
        prefix: Prefix of the keys that are saved and loaded.
    """

    def drop(_: nn.Module, state: dict[str, Any], path: str, __: Any) -> None:
        for name in [name for name in state if name.startswith(path) and not name[len(path) :].startswith(prefix)]:
            del state[name]

    def ignore_missing(_: nn.Module, keys: Any) -> None:
        keys.missing_keys[:] = [name for name in keys.missing_keys if f'.{prefix}' in f'.{name}']

    module.register_state_dict_post_hook(drop)
    module.register_load_state_dict_post_hook(ignore_missing)


@MODELS.register_module()
class DenoiserTraining(BaseModel):
    """Trains the denoiser to predict the denoised features of stage 1 from raw features (Sec. 4.3).

    Checkpoints hold the denoiser only, with the keys of a neck.

    Args:
        neck: Config of :class:`~.neck.DVTDenoiser`; ``frozen`` is set to False.
        backbone: Config of the frozen ViT, to compute raw features that are not stored.
        loss: Config of the loss of prediction and target.
        data_preprocessor: Config of the data preprocessor; mmengine's default moves data to the device.
    """

    def __init__(
        self,
        neck: dict[str, Any],
        backbone: dict[str, Any] | None = None,
        loss: dict[str, Any] = LOSS,
        data_preprocessor: dict[str, Any] | None = None,
    ):
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build({**backbone, 'frozen': True}) if backbone else None
        self.neck = MODELS.build({**neck, 'frozen': False})
        self.feature_loss = MODELS.build(loss)
        restrict_state_dict(self, 'neck.')

    def forward(
        self,
        denoised: Tensor | None = None,
        raw: Tensor | None = None,
        image: Tensor | None = None,
        mode: str = 'tensor',
        **kwargs: Any,
    ) -> Tensor | dict[str, Tensor]:
        """Denoise the features of a batch.

        Args:
            denoised: Targets (B, C, h, w), for ``loss``.
            raw: Raw features of the same shape.
            image: Normalised images (B, 3, H, W), instead of raw features.
            mode: ``loss`` returns the losses, otherwise the denoised features are returned.
            **kwargs: Other entries of the samples, such as the name; ignored.

        Raises:
            UserError: If raw features are neither stored nor computed, or the grids differ.
        """
        if mode != 'loss':
            return self.predict(raw, image)[1]
        raw = self._raw(image) if raw is None else raw
        if raw.shape != denoised.shape:
            raise UserError(
                f'raw features have shape {tuple(raw.shape)}, targets {tuple(denoised.shape)}; '
                'use the same model, stride and input size for both'
            )
        return self.feature_loss(self.neck(raw), denoised)

    def predict(self, raw: Tensor | None = None, image: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return raw and denoised features, both (B, C, h, w).

        Args:
            raw: Raw features (B, C, h, w).
            image: Normalised images (B, 3, H, W), from which raw features are computed if they are not given.
        """
        raw = self._raw(image) if raw is None else raw
        return raw, self.neck(raw)

    def _raw(self, image: Tensor | None) -> Tensor:
        if self.backbone is None or image is None:
            raise UserError('raw features are not stored: set model.backbone and train_dataloader.dataset.image_root')
        with torch.no_grad():
            return self.backbone(image)[-1]


@MODELS.register_module()
class DVTDistiller(BaseModel):
    """Distills a frozen ViT with its denoiser (teacher) into a ViT without one (student).

    Checkpoints hold the student only, as ``backbone``.

    Args:
        backbone: Config of the ViT; teacher and student start from the same weights.
        neck: Config of the trained :class:`~.neck.DVTDenoiser`.
        loss: Config of the loss of the student's features and the denoised features of the teacher.
        data_preprocessor: Config of the data preprocessor that normalises images.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        neck: dict[str, Any],
        loss: dict[str, Any] = LOSS,
        data_preprocessor: dict[str, Any] | None = None,
    ):
        super().__init__(data_preprocessor)
        self.teacher = MODELS.build({**backbone, 'frozen': True})
        self.neck = MODELS.build({**neck, 'frozen': True})
        self.backbone = MODELS.build({**backbone, 'frozen': False})
        self.feature_loss = MODELS.build(loss)
        restrict_state_dict(self, 'backbone.')

    def init_weights(self) -> None:
        """Load the pre-trained weights into the teacher, and copy the teacher into the student."""
        super().init_weights()
        weights = state_without_added(self.teacher)
        match = load_weights(self.backbone, weights, allowed_missing=added_names(self.backbone))
        check_match(match, 'of the teacher', 1.0)

    def forward(
        self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor'
    ) -> tuple[Tensor, ...] | dict[str, Tensor]:
        """Compute the distillation losses or the features of the student.

        Args:
            inputs: Normalised images (B, 3, H, W).
            data_samples: Ignored.
            mode: ``loss`` returns the losses, otherwise the feature maps of the student are returned.
        """
        features = self.backbone(inputs)
        if mode != 'loss':
            return features
        with torch.no_grad():
            target = self.neck(self.teacher(inputs))[-1]
        return self.feature_loss(features[-1], target)
