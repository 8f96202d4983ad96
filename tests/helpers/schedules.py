"""Steps the parameter schedulers of a config through its training."""

import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn


def schedule(cfg: Config) -> tuple[list[float], list[float]]:
    """Return learning rate and momentum (beta1) at each iteration of an iteration-based training."""
    options = dict(cfg.optim_wrapper.optimizer)
    optimizer = getattr(torch.optim, options.pop('type'))([nn.Parameter(torch.zeros(()))], **options)
    schedulers = [PARAM_SCHEDULERS.build(one, default_args=dict(optimizer=optimizer)) for one in cfg.param_scheduler]
    optimizer.step()  # torch expects it before the first step of a scheduler
    group, rates, momenta = optimizer.param_groups[0], [], []
    for _ in range(cfg.train_cfg.max_iters):
        rates.append(group['lr'])
        momenta.append(group['betas'][0])
        for scheduler in schedulers:
            scheduler.step()
    return rates, momenta
