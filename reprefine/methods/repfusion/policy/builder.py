"""Construction of the networks of the RL timestep selector, and of their optimiser."""

from typing import Any

import torch
from mmengine.registry import OPTIMIZERS
from torch import nn
from torch.optim import Optimizer

from reprefine.registry import MODELS

from ..teacher.diffusion_teacher import DiffusionTeacher
from .policy_networks import TaskHead


def build_nets(
    teacher: DiffusionTeacher,
    actions: int,
    policy: dict[str, Any],
    head: dict[str, Any] | None,
    has_value: bool,
    seed: int,
) -> nn.ModuleDict:
    """Return the networks ``policy``, and optionally ``head`` and ``value``; the global RNG state does not change.

    Args:
        teacher: Determines the size of the policy's images and the channels of the head.
        actions: Number of actions.
        policy: Config of the policy.
        head: Arguments of :class:`TaskHead`, without ``in_channels``; None: no head.
        has_value: Whether to add a value network, built as the policy with one output.
        seed: Seed of the initialisation.
    """
    image_shape = dict(size=teacher.size[0], in_channels=teacher.in_channels)
    with torch.random.fork_rng():  # the initialisation of the student is that without a policy
        torch.manual_seed(seed)
        nets = nn.ModuleDict(dict(policy=MODELS.build({**image_shape, **policy, 'num_actions': actions})))
        if head is not None:
            nets['head'] = TaskHead(teacher.channels[-1], **head)
        if has_value:
            nets['value'] = MODELS.build({**image_shape, **policy, 'num_actions': 1})
    return nets


def build_optimizer(nets: nn.ModuleDict, config: dict[str, Any], head_lr: float | None = None) -> Optimizer:
    """Return the optimiser of all networks; each parameter group stores its learning rate as ``base_lr``.

    Args:
        nets: See :func:`build_nets`.
        config: Config of the optimiser.
        head_lr: Learning rate of the head; None: that of the config.
    """
    groups = [dict(params=[p for name, net in nets.items() if name != 'head' for p in net.parameters()])]
    if 'head' in nets:
        groups.append(dict(params=list(nets['head'].parameters())))
        if head_lr is not None:
            groups[-1]['lr'] = head_lr
    optimizer = OPTIMIZERS.build(dict(config, params=groups))
    for group in optimizer.param_groups:
        group['base_lr'] = group['lr']
    return optimizer
