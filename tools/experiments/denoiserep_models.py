"""Shared by the experiments on DenoiseRep in plain PyTorch: images, corruptions, and small classifiers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from digit_images import Images
from runner import config_file
from torch import Tensor, nn

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.engine.cost.models import quiet_log
from reprefine.methods.denoiserep import FeatureMoments, collect_moments

BATCH, EPOCHS, WARM_UP = 32, 30, 3
NOISE = 64.0  # standard deviation, in grey levels
CONTRAST = 0.5


def noisy(images: Images, seed: int) -> Images:
    """Add Gaussian noise of :data:`NOISE` grey levels; values are clipped to 0 to 255."""
    noise = torch.randn(images.pixels.shape, generator=torch.Generator().manual_seed(seed))
    return images._replace(pixels=(images.pixels + NOISE * noise).clamp(0, 255))


def blurred(images: Images, seed: int) -> Images:
    """Blur with a binomial kernel of 3 pixels, for images of 28 pixels 6 times (standard deviation 1.7 pixels)."""
    kernel = torch.tensor([0.25, 0.5, 0.25])
    pixels = images.pixels
    for _ in range(1 if pixels.shape[-1] < 16 else 6):
        pixels = F.conv2d(pixels, (kernel[:, None] * kernel)[None, None], padding=1)
    return images._replace(pixels=pixels)


def low_contrast(images: Images, seed: int) -> Images:
    """Scale the deviations from the mean grey level of each image by :data:`CONTRAST`."""
    mean = images.pixels.mean((1, 2, 3), keepdim=True)
    return images._replace(pixels=mean + CONTRAST * (images.pixels - mean))


CORRUPTIONS: dict[str, Callable[[Images, int], Images]] = {
    'clean': lambda images, seed: images,
    'noise': noisy,
    'blur': blurred,
    'low contrast': low_contrast,
}


class PixelNet(nn.Module):
    """A network over normalised images: ViT of the baseline's config, or an MLP over the pixels."""

    def __init__(self, network: nn.Module, mean: float, std: float, flat: bool) -> None:
        super().__init__()
        self.network, self.mean, self.std, self.flat = network, mean, std, flat

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits ``[N, 10]`` of grey levels ``[N, 1, H, W]``."""
        x = (pixels - self.mean) / self.std
        return self.network(x.flatten(1)) if self.flat else self.network(x.expand(-1, 3, -1, -1), mode='tensor')


def make_network(kind: str, source: str, seed: int) -> PixelNet:
    """Return an untrained ``vit`` or ``mlp`` for images of ``digits`` or ``mnist5k``."""
    cfg = load_config(str(config_file(f'baselines/classification/vit-tiny_{source}')))
    torch.manual_seed(seed)
    mean, std = cfg.data_preprocessor.mean[0], cfg.data_preprocessor.std[0]
    if kind == 'mlp':
        side = cfg.model.backbone.img_size
        layers = [nn.Linear(side * side, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)]
        return PixelNet(nn.Sequential(*layers), mean, std, flat=True)
    with quiet_log():
        network = build_model(cfg)
        network.init_weights()
    return PixelNet(network, mean, std, flat=False)


def train(model: nn.Module, images: Images, seed: int, steps: int | None = None) -> nn.Module:
    """Train with the recipe of the baseline's config: AdamW, warm-up, cosine, a quarter of the images shifted.

    Args:
        model: Network over grey levels.
        images: Training images.
        seed: Seed of the order and of the shifts.
        steps: Number of iterations; default 30 epochs.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = steps or EPOCHS * -(-len(images.labels) // BATCH)
    warm = steps * WARM_UP // EPOCHS
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([dict(params=decayed), dict(params=others, weight_decay=0)], 2e-3, weight_decay=0.3)
    up = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-2, total_iters=warm)
    down = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - warm, 1e-5)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [up, down], [warm])
    model.train()
    for batch in _batches(len(images.labels), steps, generator):
        loss = F.cross_entropy(model(shifted(images.pixels[batch], generator)), images.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def _batches(count: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        for batch in torch.randperm(count, generator=generator).split(BATCH):
            if steps == 0:
                return
            steps -= 1
            yield batch


def shifted(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image with probability 1/4 by up to one pixel along each axis."""
    padded, side = F.pad(pixels, (1, 1, 1, 1)), pixels.shape[-1]
    chosen = torch.rand(len(pixels), generator=generator) < 0.25
    offsets = torch.where(chosen[:, None], torch.randint(3, (len(pixels), 2), generator=generator), 1)
    rows, columns = (offsets[:, axis, None] + torch.arange(side) for axis in (0, 1))
    return padded[torch.arange(len(pixels))[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]


@torch.no_grad()
def accuracy(model: nn.Module, images: Images) -> float:
    """Return the accuracy in percent."""
    found = torch.cat([model(pixels).argmax(1) for pixels in images.pixels.split(500)])
    return 100 * (found == images.labels).double().mean().item()


@torch.no_grad()
def moments_over(model: PixelNet, images: Images) -> dict[str, FeatureMoments]:
    """Return the moments of the features of a network whose ``network`` is converted, by the names of its layers."""
    with collect_moments(model.eval().network) as moments:
        for pixels in images.pixels.split(500):
            model(pixels)
    return moments


@contextmanager
def noise_on_inputs(model: nn.Module, names: Sequence[str], scale: float, std: float, seed: int) -> Iterator[None]:
    """Scale the inputs of some layers and add Gaussian noise to them while the context is open.

    Args:
        model: Any module.
        names: Names of the layers.
        scale: Factor of the input.
        std: Standard deviation of the noise.
        seed: Seed of the noise, which does not depend on the weights.
    """
    generator = torch.Generator().manual_seed(seed)

    def add(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return scale * inputs[0] + std * torch.randn(inputs[0].shape, generator=generator)

    handles = [model.get_submodule(name).register_forward_pre_hook(add) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
