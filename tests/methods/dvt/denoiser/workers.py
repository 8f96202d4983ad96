"""The two gloo processes of the distillation test; they write their results to files."""

import os
from typing import Any

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper

from reprefine.methods.dvt import DVTDistiller

from .test_network import perturbed

BACKBONE = dict(
    type='reprefine.TimmViT',
    model_name='vit_tiny_patch16_224',
    img_size=32,
    model_args=dict(depth=2, embed_dim=64, num_heads=2),
)
NECK = dict(type='reprefine.DVTDenoiser', in_channels=64, grid=2)


def distiller() -> DVTDistiller:
    """A distiller whose denoiser is not the identity."""
    torch.manual_seed(0)
    model = DVTDistiller(BACKBONE, NECK)
    model.init_weights()
    perturbed(model.neck)
    return model


def images(count: int = 4) -> torch.Tensor:
    """Images (count, 3, 48, 32), the same in every process."""
    return torch.randn(count, 3, 48, 32, generator=torch.Generator().manual_seed(5))


def step(model: Any, unwrapped: DVTDistiller, batch: torch.Tensor) -> dict[str, Any]:
    """Train for one step; return losses, gradients and new weights of the student."""
    optimizer = OptimWrapper(torch.optim.SGD(unwrapped.backbone.parameters(), lr=0.1))
    gradients = {}

    def record(*_: Any, **__: Any) -> None:
        gradients.update(
            {name: p.grad.clone() for name, p in unwrapped.backbone.named_parameters() if p.grad is not None}
        )

    optimizer.optimizer.register_step_pre_hook(record)
    losses = model.train_step(dict(inputs=batch), optimizer)
    weights = {name: value.clone() for name, value in unwrapped.state_dict().items()}
    return dict(losses={name: value.item() for name, value in losses.items()}, gradients=gradients, weights=weights)


def work(rank: int, folder: str) -> None:
    """Take one step with the half of the images of this rank."""
    torch.set_num_threads(1)
    os.environ |= dict(GLOO_SOCKET_IFNAME='lo', RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    dist.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    unwrapped = distiller().train()
    model = MMDistributedDataParallel(unwrapped, device_ids=None, broadcast_buffers=False)
    torch.save(step(model, unwrapped, images()[2 * rank :][:2]), f'{folder}/rank{rank}.pth')
    dist.destroy_process_group()
