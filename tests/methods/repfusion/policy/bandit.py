"""Bandits: policies with rewards that depend on the timestep alone, or on the timestep and the class of the image."""

import math

import torch
from torch import Tensor, nn

from reprefine.methods.repfusion.functional import Reward, linear_decay
from reprefine.methods.repfusion.policy.policy_networks import LeNetPolicy
from reprefine.methods.repfusion.policy.policy_timesteps import PolicyTimesteps
from reprefine.methods.repfusion.policy.reward_baseline import RewardBaseline


def make_bandit(reward: Reward, actions: int, baseline: str, seed: int, momentum: float = 0.9) -> PolicyTimesteps:
    """Return a policy over 32 x 32 images, trained by SGD with the published learning rate."""
    torch.manual_seed(seed)
    nets = nn.ModuleDict(dict(policy=LeNetPolicy(actions)))
    if baseline == 'value':
        nets['value'] = LeNetPolicy(1)
    optimizer = torch.optim.SGD(nets.parameters(), lr=0.1, momentum=momentum, weight_decay=1e-4)
    source = PolicyTimesteps(nets, optimizer, reward, RewardBaseline(baseline), range(actions), seed)
    source.bind(actions)
    return source


def train_step(source: PolicyTimesteps, images: Tensor, bonus: Tensor | float = 0.0) -> Tensor:
    """Run one training step; the features of the reward are the timestep and ``bonus``."""
    t = source.select(images, None)
    feats = torch.stack([t.float(), torch.as_tensor(bonus).float().expand(len(t))], dim=1)
    source.observe(t, [feats[:, :, None, None]], None)
    source.learn()
    return t


@torch.no_grad()
def probabilities(source: PolicyTimesteps, images: Tensor) -> Tensor:
    """Return the mean probability ``[A]`` of each action."""
    return source.nets['policy'](images).softmax(dim=1).mean(dim=0)


def bump(logits: Tensor | None, feats: Tensor, labels: Tensor | None) -> Tensor:
    """Return rewards near that of an untrained head for ten classes, highest at t = 60."""
    return -2.5 + 0.8 * torch.exp(-(((feats[:, 0] - 60) / 40) ** 2))


def expected_reward_of_bump(baseline: str, seed: int, enough: float = math.inf) -> tuple[float, int]:
    """Train on the bump over 1000 timesteps for 500 iterations, or until the expected reward is above ``enough``.

    Returns:
        Expected reward and most probable timestep.
    """
    source = make_bandit(bump, 1000, baseline, seed)
    generator = torch.Generator().manual_seed(seed)
    held_out = torch.randn(256, 3, 32, 32, generator=torch.Generator().manual_seed(seed + 100))
    rewards = bump(None, torch.arange(1000.0)[:, None], None)
    for i in range(500):
        source.entropy_weight = linear_decay(i, 0.1, 0.0, 250)
        train_step(source, torch.randn(64, 3, 32, 32, generator=generator))
        if i % 50 == 49:
            probs = probabilities(source, held_out)
            reward = (probs * rewards).sum().item()
            if reward > enough:
                break
    return reward, int(probs.argmax())
