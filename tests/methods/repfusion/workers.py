"""The code of the two gloo processes of the distributed test, which writes its results to files."""

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel

from reprefine.engine.build import unwrap

from .distillation.test_distiller import GivenTimesteps, distiller, images, samples
from .run import make_runner, selector_hook

WRAPPER = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)


class Recording(Hook):
    """Records the timesteps and the networks of every iteration."""

    def __init__(self):
        self.t, self.nets, self.is_uniform = [], [], []

    def before_train(self, runner):
        source = runner.model.module.timestep_source
        select = source.select

        def recording_select(x, data_samples):
            t = select(x, data_samples)
            self.t.append(t.clone())
            self.is_uniform.append(source.rollout.log_probs is None)
            return t

        source.select = recording_select

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        nets = runner.model.module.timestep_source.nets
        self.nets.append(torch.cat([p.detach().flatten().clone() for p in nets.parameters()]))


def train(folder: Path, epochs: int, resume: bool = False, **options: Any) -> dict:
    recording = Recording()
    runner = make_runner(
        folder,
        dict(baseline='ema', **options),
        launcher='pytorch',
        cfg=dict(model_wrapper_cfg=WRAPPER),
        resume=resume,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
    )
    runner.register_hook(recording, priority='LOWEST')
    runner.train()
    hook = selector_hook(runner)
    counts = hook.histogram.rows['counts'].sum(dim=0)
    baseline = hook.selector.baseline.average
    return dict(t=recording.t, nets=recording.nets, is_uniform=recording.is_uniform, counts=counts, baseline=baseline)


def one_step(model: torch.nn.Module, rows: slice) -> dict:
    """A step on some of eight images, by a student whose norms keep their statistics."""
    model.eval()
    timesteps = torch.arange(0, 800, 100)
    unwrap(model).timestep_source = GivenTimesteps(timesteps[rows])
    loss = model(images(8)[rows], samples(8)[rows], mode='loss')['loss_feat']
    loss.backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    return dict(loss=loss.detach(), weights={name: p.detach() for name, p in unwrap(model).named_parameters()})


def wrapped_step(rank: int) -> dict:
    """The step of one process on its half of the images."""
    return one_step(MMDistributedDataParallel(distiller(), broadcast_buffers=False), slice(4 * rank, 4 * rank + 4))


def work(rank: int, folder: str) -> None:
    """Train three epochs, and again two and one more."""
    torch.set_num_threads(1)
    os.environ |= {'GLOO_SOCKET_IFNAME': 'lo', 'LOCAL_RANK': str(rank), 'RANK': str(rank), 'WORLD_SIZE': '2'}
    dist.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    results = dict(step=wrapped_step(rank), uninterrupted=train(Path(folder) / 'uninterrupted', 3))
    train(Path(folder) / 'resumed', 2)
    results['resumed'] = train(Path(folder) / 'resumed', 3, resume=True)
    results['uniform'] = train(Path(folder) / 'uniform', 2, uniform_prob=0.5)
    torch.save(results, Path(folder) / f'rank{rank}.pth')
    dist.barrier()
    dist.destroy_process_group()
