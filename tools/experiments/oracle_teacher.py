"""A teacher that is known to be useful: a classifier with the interface of a diffusion model."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from reprefine.engine.build import build_model
from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.weights import check_match, load_weights
from reprefine.engine.cli.launch import load_config
from reprefine.methods.repfusion import DiffusionTeacher
from reprefine.registry import MODELS


class ClassifierUNet(nn.Module):
    """A classifier with the inputs of a UNet of diffusers; its layer ``features`` outputs the backbone's last map.

    Args:
        classifier: Image classifier of mmpretrain.
        size: Height and width of its images.
        informative_t: The only timestep at which ``features`` has the map of the image. At all others it has that of a
            random image of the batch, which is as large and varies as much, but says nothing about the image. None:
            every timestep.
        seed: Seed of the random images.
    """

    def __init__(self, classifier: nn.Module, size: int, informative_t: int | None, seed: int) -> None:
        super().__init__()
        self.backbone, self.features = classifier.backbone, nn.Identity()
        pixels = classifier.data_preprocessor
        self.register_buffer('mean', pixels.mean.clone())
        self.register_buffer('std', pixels.std.clone())
        self.config = SimpleNamespace(sample_size=size, in_channels=3, num_class_embeds=None)
        self.dtype, self.informative_t = torch.float32, informative_t
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, images: Tensor, timesteps: Tensor, **_: Any) -> Tensor:
        """Return the map ``[N, C, H, W]`` of images ``[N, 3, H, W]`` in [-1, 1] at timesteps ``[N]``."""
        maps = self.backbone(((images + 1) * 127.5 - self.mean) / self.std)[-1]
        if self.informative_t is not None:
            is_informative = (timesteps == self.informative_t).view(-1, 1, 1, 1)
            others = maps[torch.randperm(len(maps), generator=self.generator)]
            maps = torch.where(is_informative, maps, others)
        return self.features(maps)


@MODELS.register_module()
class OracleTeacher(DiffusionTeacher):
    """A :class:`DiffusionTeacher` whose network is a :class:`ClassifierUNet`.

    Args:
        config: Config file of the classifier.
        checkpoint: Its checkpoint; None: random weights, by the global random state.
        num_timesteps: Number of timesteps.
        informative_t: See :class:`ClassifierUNet`.
        seed: See :class:`ClassifierUNet`.
    """

    def __init__(
        self, config: str, checkpoint: str | None, num_timesteps: int, informative_t: int | None, seed: int
    ) -> None:
        source = dict(config=config, checkpoint=checkpoint, informative_t=informative_t, seed=seed)
        super().__init__(source, [['features']], scheduler=dict(num_train_timesteps=num_timesteps))

    def _load(self, source: dict[str, Any], scheduler: dict[str, Any]) -> Any:
        from diffusers import DDPMScheduler

        classifier = build_model(load_config(source['config']))
        classifier.init_weights()
        if source['checkpoint']:
            check_match(load_weights(classifier, read_checkpoint(source['checkpoint'])), source['checkpoint'], 1.0)
        self.size, self.in_channels = (32, 32), 3
        self.unet = ClassifierUNet(classifier, self.size[0], source['informative_t'], source['seed'])
        return DDPMScheduler(**scheduler)
