"""What a distillation step costs with the ways to run the teacher, each measured in turn with the whole UNet."""

from dataclasses import dataclass
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from reprefine.engine.cost.timing import Spread, interleave

# The UNet of google/ddpm-cifar10-32, 35.7 million parameters.
CIFAR10_UNET = dict(
    kind='UNet2DModel',
    sample_size=32,
    block_out_channels=(128, 256, 256, 256),
    down_block_types=('DownBlock2D', 'AttnDownBlock2D', 'DownBlock2D', 'DownBlock2D'),
    up_block_types=('UpBlock2D', 'UpBlock2D', 'AttnUpBlock2D', 'UpBlock2D'),
    layers_per_block=2,
    norm_num_groups=32,
    norm_eps=1e-6,
    downsample_padding=0,
    flip_sin_to_cos=False,
    freq_shift=1,
    attention_head_dim=None,
)
LAYER = ['mid_block.resnets.1.conv2', 256]


@dataclass(frozen=True)
class Variant:
    """A way to run the teacher.

    Attributes:
        early_exit: Stop after the layer that is read.
        channels_last: Memory format of the teacher.
        bf16: Teacher in bfloat16.
        compiled: Blocks of the teacher compiled.
        cached: Features from disk, at one timestep.
        fresh: Images that are new at every step, as in the first epoch of a cache.
    """

    early_exit: bool = True
    channels_last: bool = False
    bf16: bool = False
    compiled: bool = False
    cached: bool = False
    fresh: bool = False

    def __str__(self) -> str:
        """Return the name for the table."""
        options = ('channels_last', 'bf16', 'compiled', 'cached', 'fresh')
        first = 'early exit' if self.early_exit else 'full UNet'
        return ' + '.join([first, *(name.replace('_', ' ') for name in options if getattr(self, name))])


FULL = Variant(early_exit=False)
VARIANTS = (
    Variant(),
    Variant(channels_last=True),
    Variant(bf16=True),
    Variant(channels_last=True, bf16=True),
    Variant(cached=True),
    Variant(cached=True, fresh=True),
)
COMPILED = (Variant(compiled=True), Variant(channels_last=True, compiled=True))


@dataclass(frozen=True)
class Cost:
    """Cost of a variant relative to the whole UNet.

    Attributes:
        time: Ratio of the times of a step, round by round.
        seconds: Median time of a step.
        difference: Relative difference of the features.
    """

    time: Spread
    seconds: float
    difference: float


def build_distiller(variant: Variant, cache_dir: str, unet: dict[str, Any], layer: list) -> nn.Module:
    """Return a ResNet-18 for CIFAR that learns from ``unet``, with the same random weights for every variant."""
    teacher: dict[str, Any] = dict(type='reprefine.DiffusionTeacher', source=unet, layers=[layer])
    teacher |= dict(early_exit=variant.early_exit, channels_last=variant.channels_last, compile=variant.compiled)
    if variant.bf16:
        teacher['dtype'] = 'bfloat16'
    if variant.cached:
        teacher |= dict(type='reprefine.CachedDiffusionTeacher', cache_dir=cache_dir, capacity=4096, pooled=True)
    with torch.random.fork_rng(), DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.manual_seed(0)
        return MODELS.build(
            dict(
                type='reprefine.RepFusionDistiller',
                student=dict(backbone=dict(type='ResNet_CIFAR', depth=18)),
                student_layers=['backbone.layer4.1.relu'],
                teacher=teacher,
                loss=dict(type='reprefine.HintLoss'),
                timestep_source=dict(type='reprefine.FixedTimesteps', timestep=50),
                data_preprocessor=dict(type='ImgDataPreprocessor', mean=[128.0] * 3, std=[128.0] * 3),
            )
        ).train()


class Side:
    """A distiller that steps on one batch by one variant.

    Args:
        variant: How to run the teacher.
        images: ``[N, 3, H, W]`` in grey levels 0..255.
        cache_dir: Folder for the cache.
        unet: Config of the UNet.
        layer: Path and width of the layer that is read.
    """

    def __init__(self, variant: Variant, images: Tensor, cache_dir: str, unet: dict[str, Any], layer: list) -> None:
        self.model = build_distiller(variant, cache_dir, unet, layer).to(images.device)
        self.optimizer = OptimWrapper(torch.optim.SGD(self.model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4))
        self.images, self.fresh = images, variant.fresh

    def step(self) -> None:
        """Do a whole training step, preprocessing included."""
        if self.fresh:
            self.images = (self.images + 1) % 256
        self.model.train_step(dict(inputs=self.images), self.optimizer)

    def feature(self) -> Tensor:
        """Return the pooled feature ``[N, C]`` of the images."""
        images = self.images / 127.5 - 1
        return self.model.teacher(images, torch.full((len(images),), 50, device=images.device))[0].mean(dim=(2, 3))


def step_cost(
    variant: Variant,
    images: Tensor,
    cache_dir: str,
    repeats: int,
    warmup: int = 2,
    unet: dict | None = None,
    layer: list | None = None,
) -> Cost:
    """Compare a variant with the whole UNet.

    Args:
        variant: How to run the teacher.
        images: ``[N, 3, H, W]`` in grey levels 0..255.
        cache_dir: Folder for the cache.
        repeats: Timed rounds.
        warmup: Rounds before them.
        unet: Config of the UNet, default that of CIFAR-10.
        layer: Path and width of the layer that is read.
    """
    given = unet or CIFAR10_UNET, layer or LAYER
    ours, full = (Side(v, images, cache_dir, *given) for v in (variant, FULL))
    expected = full.feature()
    difference = ((ours.feature() - expected).norm() / expected.norm()).item()
    synchronize = torch.cuda.synchronize if images.is_cuda else lambda: None
    times = interleave((lambda: ours.step, lambda: full.step), repeats, warmup, synchronize)
    ratios = [a / b for a, b in zip(*times, strict=True)]
    return Cost(Spread.of(ratios), Spread.of(times[0]).median, difference)
