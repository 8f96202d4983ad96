"""What the two gloo processes of the distributed test run; results go to files."""

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import Runner

from reprefine.engine.build import unwrap
from reprefine.engine.errors import UserError
from reprefine.tasks.classification.hooks import KNNMonitorHook, extract_features, find_neighbors

from .toys import loader, moco_ft, runner, views

WRAPPER = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)


class Watch(Hook):
    """Remembers queue, pointer and draws of every step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.draws: list[torch.Tensor] = []

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module
        self.keep(model)
        sample = model.feature_transform.sample

        def spy(*args: Any) -> Any:
            draws = sample(*args)
            self.draws.append(torch.stack([draws.lam, draws.mu, draws.perm[0].float()]))
            return draws

        model.feature_transform.sample = spy

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        self.keep(runner.model.module)

    def keep(self, model: torch.nn.Module) -> None:
        self.seen.append(dict(queue=model.queue.clone(), pointer=model.queue_ptr.clone()))


def work(rank: int, folder: str) -> None:
    """Run every job in one pair of processes, because starting them is what takes the time."""
    torch.set_num_threads(1)
    os.environ |= dict(GLOO_SOCKET_IFNAME='lo', RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    dist.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    results = dict(train=train(rank, Path(folder)), bare=bare(rank), step=wrapped_step(rank), **neighbors(rank))
    torch.save(results, Path(folder) / f'rank{rank}.pth')
    dist.destroy_process_group()


def train(rank: int, folder: Path) -> dict[str, Any]:
    """Three steps by the Runner, of four images a rank and a queue of 22."""
    watch = Watch()
    monitor = KNNMonitorHook(*[_sharded(count, rank) for count in (9, 7)], k=3, interval=1)
    made = runner(
        folder / 'run',
        moco_ft(seed=rank, queue_len=22),
        custom_hooks=[dict(type='reprefine.ScoreStatsHook', reduce=True), watch, monitor],
        train_cfg=dict(by_epoch=True, max_epochs=1),
        launcher='pytorch',
        randomness=dict(seed=0, diff_rank_seed=True),
        cfg=dict(model_wrapper_cfg=WRAPPER),
    )
    own: list[float] = []
    made.register_hook(_Own(own), priority='LOWEST')
    made.train()
    state = {key: value.clone() for key, value in made.model.module.state_dict().items()}
    knn = made.message_hub.get_scalar('val/knn_top1').current()
    return dict(seen=watch.seen, draws=watch.draws, state=state, pos_mean=own, knn=knn)


class _Own(Hook):
    def __init__(self, values: list[float]) -> None:
        self.values = values

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.values.append(outputs['pos_mean'].item())


def _sharded(count: int, rank: int) -> torch.utils.data.DataLoader:
    from mmengine.dataset import DefaultSampler

    baseline = loader(count, two_views=False)
    return loader(count, two_views=False, sampler=DefaultSampler(baseline.dataset, shuffle=False))


def neighbors(rank: int) -> dict[str, Any]:
    """Neighbours of 7 images among 9, with the same model in both processes."""
    model = moco_ft().eval()
    query, truth = extract_features(model, _sharded(7, rank))
    found = {k: tuple(find_neighbors(model, _sharded(9, rank), query, k)) for k in (3, 8)}
    try:
        find_neighbors(model, loader(9, two_views=False), query, 3)
    except UserError as error:
        return dict(neighbors=found, truth=truth, refusal=str(error))


def bare(rank: int) -> dict[str, Any]:
    """One step of a model that no Runner has initialised, seeded by rank."""
    model = moco_ft(seed=10 + rank)
    before = model.queue.clone()
    torch.manual_seed(rank)
    model.loss(views(4, seed=rank), None)
    return dict(before=before, after=model.queue.clone(), pointer=model.queue_ptr.clone())


def one_step(model: torch.nn.Module, rows: slice) -> dict[str, Any]:
    """A step on some of eight pairs of views, without a transform and with norms that keep their statistics."""
    model.eval()
    losses = model([view[rows] for view in views(8)], None, mode='loss')
    losses['loss'].backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1).step()
    return dict(loss=losses['loss'].detach(), state={key: v.clone() for key, v in unwrap(model).state_dict().items()})


def wrapped_step(rank: int) -> dict[str, Any]:
    """The step of one process on its half of the pairs."""
    model = MMDistributedDataParallel(moco_ft(feature_transform=None), broadcast_buffers=False)
    return one_step(model, slice(4 * rank, 4 * rank + 4))
