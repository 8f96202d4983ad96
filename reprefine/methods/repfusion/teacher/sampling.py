"""Evaluation of a diffusion model during its training: denoising errors at fixed timesteps, and a grid of samples."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from reprefine.engine.build import unwrap
from reprefine.registry import HOOKS, METRICS


@torch.no_grad()
def ddim_samples(unet: nn.Module, scheduler: Any, noise: Tensor, steps: int, labels: Tensor | None = None) -> Tensor:
    """Return images sampled by DDIM with eta = 0 (Song et al. 2021).

    Args:
        unet: UNet of diffusers.
        scheduler: Scheduler that it was trained with.
        noise: Standard normal noise ``[N, C, H, W]``.
        steps: Number of sampling steps, at most the number of timesteps.
        labels: Labels ``[N]`` for a class-conditional network.

    Returns:
        Images of the same shape in [-1, 1].
    """
    from diffusers import DDIMScheduler

    sampler = DDIMScheduler.from_config(scheduler.config)
    sampler.set_timesteps(min(steps, sampler.config.num_train_timesteps))
    condition = {} if labels is None else dict(class_labels=labels)
    images = noise
    for t in sampler.timesteps:
        images = sampler.step(unet(images, t, **condition).sample, t, images, eta=0.0).prev_sample
    return images.clamp(-1, 1)


@METRICS.register_module()
class DenoisingError(BaseMetric):
    """Mean squared error of the noise prediction at each evaluation timestep, and its mean over them."""

    default_prefix = 'mse'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Store the errors of a batch."""
        self.timesteps = data_samples[0]['timesteps']
        self.results.extend(sample['errors'].cpu() for sample in data_samples)

    def compute_metrics(self, results: list[Tensor]) -> dict[str, float]:
        """Return the error ``t<timestep>`` at each timestep, and ``mean``."""
        means = torch.stack(results).mean(0)
        errors = {f't{t:04d}': mean.item() for t, mean in zip(self.timesteps, means, strict=True)}
        return errors | {'mean': means.mean().item()}


@HOOKS.register_module()
class SampleGridHook(Hook):
    """Generates samples after an evaluation, and logs mean and standard deviation of their pixels and of the data's.

    The noise is the same in every evaluation. With an EMAHook the samples are those of the averaged weights.

    Args:
        num: Number of samples.
        steps: Number of sampling steps.
        seed: Seed of the noise.
        interval: Number of evaluations between two grids.
    """

    # Before EMAHook, which restores the trained weights at the same hook point.
    priority = 'HIGH'

    def __init__(self, num: int = 64, steps: int = 50, seed: int = 0, interval: int = 1) -> None:
        self.num, self.steps, self.seed, self.interval = num, steps, seed, interval
        self._evaluations = 0
        self._pixels: list[Tensor] = []

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Store the moments of the evaluated images."""
        images = unwrap(runner.model).data_preprocessor(data_batch, False)['inputs']
        self._shape = images.shape[1:]
        self._pixels.append(torch.stack([images.mean(), images.square().mean()]).cpu())

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Generate the samples, log their moments and save the grid."""
        self._log_samples(runner, 'val')

    after_test_iter = after_val_iter

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Generate the samples, log their moments and save the grid."""
        self._log_samples(runner, 'test')

    def _log_samples(self, runner: Runner, mode: str) -> None:
        pixels, self._pixels = self._pixels, []
        self._evaluations += 1
        if (self._evaluations - 1) % self.interval or not pixels or not is_main_process():
            return
        model = unwrap(runner.model)
        with torch.random.fork_rng():
            samples = self.sample(model)
        first, second = torch.stack(pixels).mean(0)
        moments = dict(
            sample_mean=samples.mean().item(),
            sample_std=samples.std().item(),
            data_mean=first.item(),
            data_std=(second - first.square()).sqrt().item(),
        )
        runner.logger.info('Samples: ' + ', '.join(f'{name} {value:.3f}' for name, value in moments.items()))
        for name, value in moments.items():
            runner.message_hub.update_scalar(f'{mode}/{name}', value)
        runner.visualizer.add_image('samples', make_image_grid(samples), step=runner.iter)

    def sample(self, model: nn.Module) -> Tensor:
        """Return samples ``[num, C, H, W]`` in [-1, 1]; for a class-conditional model of all classes, cyclically."""
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(self.num, *self._shape, generator=generator).to(model.unet.device)
        classes = model.unet.config.num_class_embeds
        labels = None if classes is None else torch.arange(self.num, device=noise.device) % classes
        return ddim_samples(model.unet, model.scheduler, noise, self.steps, labels)


def make_image_grid(images: Tensor) -> Any:
    """Return a grid of images ``[N, C, H, W]`` in [-1, 1] as uint8 pixels ``(H', W', 3)``."""
    from torchvision.utils import make_grid

    rows = make_grid(images.cpu(), nrow=max(1, round(len(images) ** 0.5)), normalize=True, value_range=(-1, 1))
    return (rows.permute(1, 2, 0) * 255).round().byte().numpy()
