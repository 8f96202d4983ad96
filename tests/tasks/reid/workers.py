"""Functions that the two gloo processes of the distributed tests run; results are written to files."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.dataset import BaseDataset
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from reprefine.tasks.reid import ReIDMetric

from . import references

QUERIES, GALLERY = 4, 17  # an odd sum: the sampler pads it for two processes


class Features(BaseDataset):
    """A dataset whose images are their features."""

    def load_data_list(self):
        """Queries first, as in the real datasets; cameras alternate."""
        data = [references.clustered(size, 3, 8, seed) for size, seed in ((QUERIES, 1), (GALLERY, 2))]
        features, pids = torch.cat([feature for feature, _ in data]), [int(pid) for _, pids in data for pid in pids]
        return [
            dict(
                feature=feature,
                gt_label=pid,
                pid=pid,
                camera=number % 3,
                role='query' if number < QUERIES else 'gallery',
                img_path=f'{number}.jpg',
            )
            for number, (feature, pid) in enumerate(zip(features, pids, strict=True))
        ]


def evaluate(out_file):
    """Run the metric as a test loop does; return its values and the number of samples of this process."""
    loader = Runner.build_dataloader(
        dict(
            dataset=Features(serialize_data=False),
            batch_size=3,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        seed=0,
    )
    evaluator = Evaluator(ReIDMetric(topk=(1, 2, 5), out_file=out_file))
    seen = 0
    for batch in loader:
        samples = [{key: values[i] for key, values in batch.items()} for i in range(len(batch['pid']))]
        evaluator.process(samples)
        seen += len(samples)
    return evaluator.evaluate(len(loader.dataset)), seen


def draw_batches(batch_size):
    """Return the images of every batch of the first epoch."""
    loader = Runner.build_dataloader(
        dict(
            dataset=Features(serialize_data=False),
            batch_size=batch_size,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            batch_sampler=dict(type='reprefine.PKSampler', num_instances=2),
        ),
        seed=5,
    )
    return list(loader.batch_sampler)


def work(rank, folder):
    """Run everything in one pair of processes, because starting them takes most of the time."""
    torch.set_num_threads(1)
    os.chdir(folder)  # where mmengine collects results
    os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    dist.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        results = dict(metrics=evaluate(f'{folder}/two.npz'), batches=draw_batches(2))
    torch.save(results, Path(folder) / f'rank{rank}.pth')
    dist.destroy_process_group()
