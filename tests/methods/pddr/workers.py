"""Jobs of the two gloo processes of the distributed tests, which write results to files."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from reprefine.deploy import switch_to_deploy

from .toys import image, make_conv

JOBS = [(mode, compute) for mode in 'AB' for compute in ('branches', 'fused', 'lean')]
STEPS = 3


def network(mode: str, compute: str) -> nn.Module:
    """Two PD convolutions in training mode."""
    first = make_conv(4, 8, mode=mode, compute=compute)
    return nn.Sequential(first, nn.ReLU(), make_conv(8, 8, stride=2, mode=mode, compute=compute)).train()


def half(step: int, rank: int) -> torch.Tensor:
    return image(3, 4, 6, 6, seed=10 * step + rank)


def loss_of(model: nn.Module, step: int, rank: int) -> torch.Tensor:
    y = model(half(step, rank))
    return (y * image(*y.shape, seed=100 + rank)).mean()


def train(mode: str, compute: str, rank: int) -> dict[str, torch.Tensor]:
    """Train on one half of each batch and return the weights, and the output of the deployed model."""
    model = network(mode, compute)
    parallel = DistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(parallel, step, rank).backward()
        optimizer.step()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    model.eval()
    with torch.no_grad():
        before = model(half(0, 0))
        switch_to_deploy(model)
        return state | {'before': before, 'after': model(half(0, 0))}


def one_process(mode: str, compute: str) -> dict[str, torch.Tensor]:
    """The same training without processes: each half with statistics of its own, gradients averaged."""
    models = [network(mode, compute) for _ in range(2)]
    optimizers = [torch.optim.SGD(model.parameters(), 0.1, momentum=0.9) for model in models]
    for step in range(STEPS):
        for rank, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            optimizer.zero_grad()
            loss_of(model, step, rank).backward()
        for first, second in zip(models[0].parameters(), models[1].parameters(), strict=True):
            mean = (first.grad + second.grad) / 2
            first.grad, second.grad = mean, mean.clone()
        for optimizer in optimizers:
            optimizer.step()
    return models[0].state_dict()


def work(rank: int, folder: str) -> None:
    """Run every job in one pair of processes, because starting them is what takes the time."""
    torch.set_num_threads(1)
    os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    dist.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    torch.save({'-'.join(job): train(*job, rank) for job in JOBS}, Path(folder) / f'rank{rank}.pth')
    dist.destroy_process_group()
