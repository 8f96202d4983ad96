"""What the two gloo processes of the distributed tests run; results go to files."""

import os
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import nn

from reprefine.methods.denoiserep import DenoiseRep, collect_moments, fit_closed_form, set_phase
from reprefine.methods.denoiserep.conversion.converted import denoise_state
from tests.helpers.small_models import HOSTS, build_denoised

from .toys import images, refined

LABELS = torch.arange(8) % 5
TWO_CASES = ('segformer, depthwise', 'mask r-cnn swin')
PHASES = ('denoise', 'denoise', 'backbone', 'backbone', 'denoise', 'joint', 'backbone')


def wrapped(seed: int = 0) -> DenoiseRep:
    """A model whose norm uses its running statistics, so that halves of a batch are independent."""
    model = refined(seed=seed, include='all', loss_weight=0.1).double().train()
    model.backbone.neck.eval()
    return model


def optimizer_of(model: nn.Module, name: str) -> torch.optim.Optimizer:
    if name == 'sgd':
        return torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=0.05)
    return torch.optim.AdamW(model.parameters(), 1e-3, eps=1e-4)


def rows_of(rank: int) -> slice:
    return slice(4 * rank, 4 * rank + 4)


def noise_of(step: int, rank: int) -> torch.Generator:
    return torch.Generator().manual_seed(100 * step + rank)


def one_process(name: str) -> dict:
    """The same training in one process: both halves of the joint batch, each with its rank's noise."""
    model = wrapped()
    optimizer, batch = optimizer_of(model, name), images(8).double()
    for step, phase in enumerate(PHASES):
        set_phase(model, phase)
        optimizer.zero_grad()
        if phase == 'backbone':  # no noise: simply the joint batch
            model(batch, LABELS, mode='loss')['loss_cls'].backward()
        else:
            for rank in range(2):
                denoise_state(model).generator = noise_of(step, rank)
                losses = model(batch[rows_of(rank)], LABELS[rows_of(rank)], mode='loss')
                (sum(losses.values()) / 2).backward()
        optimizer.step()
    return model.state_dict()


def work(rank: int, folder: str) -> None:
    """Run every job in one pair of processes, because starting them is what takes the time."""
    torch.set_num_threads(1)
    os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    dist.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    results = {'sgd': train(rank, 'sgd'), 'adamw': train(rank, 'adamw'), 'bf16': train(rank, 'sgd', True)}
    results |= {'fit': fit(rank)} | {case: train_case(rank, case) for case in TWO_CASES}
    torch.save(results, Path(folder) / f'rank{rank}.pth')
    dist.destroy_process_group()


def train_case(rank: int, case: str) -> dict:
    """Two phase changes of a real model, each rank with batches of its own."""
    library, text, include, _, make_batch, _ = HOSTS[case]
    torch.manual_seed(0)
    model = build_denoised(library, text, include).train()
    model.init_weights()
    parallel = MMDistributedDataParallel(model, find_unused_parameters=True, broadcast_buffers=False)
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), 1e-3))
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    torch.manual_seed(1 + rank)
    np.random.seed(1 + rank)
    logs = []
    for phase in ('denoise', 'backbone', 'denoise'):
        set_phase(model, phase)
        logs += [parallel.train_step(make_batch(), optimizer) for _ in range(2)]
    losses = torch.stack([log['loss'].detach() for log in logs])
    return {'start': start, 'parameters': {name: p.detach() for name, p in model.named_parameters()}, 'losses': losses}


def train(rank: int, name: str, autocast: bool = False) -> dict:
    model = wrapped(seed=rank)  # DDP broadcasts rank 0
    if autocast:
        model = model.float()
    parallel = MMDistributedDataParallel(model, find_unused_parameters=True, broadcast_buffers=False)
    optimizer = OptimWrapper(optimizer_of(model, name))
    data = {'inputs': images(8).to(model.backbone.head.weight)[rows_of(rank)], 'labels': LABELS[rows_of(rank)]}
    logs = []
    for step, phase in enumerate(PHASES):
        set_phase(model, phase)
        denoise_state(model).generator = noise_of(step, rank)
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            logs.append(parallel.train_step(data, optimizer))
    return {'state': model.state_dict(), 'logs': logs}


def fit(rank: int) -> dict:
    model = wrapped().eval()
    batch = images(8).double()[:5] if rank == 0 else images(8).double()[5:]  # uneven on purpose
    with collect_moments(model) as moments, torch.no_grad():
        model(batch)
    for moment in moments.values():
        moment.all_reduce()
    losses = fit_closed_form(model, moments)
    sums = {name: (m.count, m.mean, m.second_moment) for name, m in moments.items()}
    return {'state': model.state_dict(), 'sums': sums, 'losses': losses}
