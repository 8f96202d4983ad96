"""Cost of a RepFusion distillation step by the way the teacher is run, for bench_repfusion.py."""

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
    """Options of the teacher's forward pass.

    Attributes:
        early_exit: Stop after the recorded layer.
        channels_last: Use the channels-last memory format.
        bf16: Run the UNet in bfloat16.
        compiled: Compile the blocks of the UNet.
        cached: Read features from the cache on disk, at one timestep.
        fresh: Use new images at every step, as in the first epoch of a cache.
    """

    early_exit: bool = True
    channels_last: bool = False
    bf16: bool = False
    compiled: bool = False
    cached: bool = False
    fresh: bool = False

    def __str__(self) -> str:
        """Return the name in the printed table."""
        options = ('channels_last', 'bf16', 'compiled', 'cached', 'fresh')
        first = 'early exit' if self.early_exit else 'full UNet'
        return ' + '.join([first, *(name.replace('_', ' ') for name in options if getattr(self, name))])


FULL_UNET = Variant(early_exit=False)
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
class StepCost:
    """Cost of a variant relative to :data:`FULL_UNET`.

    Attributes:
        ratio: Ratio of the step times, one value a round.
        seconds: Median time of a step.
        difference: Relative L2 difference of the features.
    """

    ratio: Spread
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


class TimedDistiller:
    """A distiller that trains on one batch with one variant.

    Args:
        variant: Options of the teacher's forward pass.
        images: Pixels ``[N, 3, H, W]`` in 0..255.
        cache_dir: Folder of the feature cache.
        unet: Config of the UNet.
        layer: Path and number of channels of the recorded layer.
    """

    def __init__(self, variant: Variant, images: Tensor, cache_dir: str, unet: dict[str, Any], layer: list) -> None:
        self.model = build_distiller(variant, cache_dir, unet, layer).to(images.device)
        self.optimizer = OptimWrapper(torch.optim.SGD(self.model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4))
        self.images, self.fresh = images, variant.fresh

    def step(self) -> None:
        """Run a full training step, preprocessing included."""
        if self.fresh:
            self.images = (self.images + 1) % 256
        self.model.train_step(dict(inputs=self.images), self.optimizer)

    def feature(self) -> Tensor:
        """Return the pooled teacher feature ``[N, C]`` of the images."""
        images = self.images / 127.5 - 1
        return self.model.teacher(images, torch.full((len(images),), 50, device=images.device))[0].mean(dim=(2, 3))


def measure_step_cost(
    variant: Variant,
    images: Tensor,
    cache_dir: str,
    repeats: int,
    warmup: int = 2,
    unet: dict | None = None,
    layer: list | None = None,
) -> StepCost:
    """Time a variant against :data:`FULL_UNET`, in alternating order.

    Args:
        variant: Options of the teacher's forward pass.
        images: Pixels ``[N, 3, H, W]`` in 0..255.
        cache_dir: Folder of the feature cache.
        repeats: Timed rounds.
        warmup: Untimed rounds before them.
        unet: Config of the UNet, default :data:`CIFAR10_UNET`.
        layer: Path and number of channels of the recorded layer, default :data:`LAYER`.
    """
    network = unet or CIFAR10_UNET, layer or LAYER
    measured, reference = (TimedDistiller(v, images, cache_dir, *network) for v in (variant, FULL_UNET))
    expected = reference.feature()
    difference = ((measured.feature() - expected).norm() / expected.norm()).item()
    synchronize = torch.cuda.synchronize if images.is_cuda else lambda: None
    times = interleave((lambda: measured.step, lambda: reference.step), repeats, warmup, synchronize)
    ratios = [a / b for a, b in zip(*times, strict=True)]
    return StepCost(Spread.of(ratios), Spread.of(times[0]).median, difference)
