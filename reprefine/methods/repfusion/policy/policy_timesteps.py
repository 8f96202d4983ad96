"""A policy over timesteps that learns by REINFORCE from what a small head makes of the teacher's features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, all_reduce_params
from torch import Tensor, nn
from torch.optim import Optimizer

from reprefine.engine.errors import UserError

from ..functional import (
    LABELLED,
    Reward,
    check_timesteps,
    entropy,
    entropy_loss,
    labelled_cross_entropy,
    policy_loss,
    reads_student,
)
from ..labels import label_range, labels_of
from .histogram import STATS
from .policy_networks import log_policy
from .reward_baseline import Baseline
from .timestep_sources import TimestepSource


@dataclass
class Rollout:
    """What one batch leaves for learning: ``[N]`` each, features ``[N, C]``; None where there is none."""

    timesteps: Tensor
    log_probs: Tensor | None = None
    entropies: Tensor | None = None
    values: Tensor | None = None
    feats: Tensor | None = None
    labels: Tensor | None = None
    student: Tensor | None = None


class PolicyTimesteps(TimestepSource):
    """Draws timesteps from ``pi(t | x)`` and improves it after every batch.

    Args:
        nets: ``policy``, and where wanted ``head`` and ``value``.
        optimizer: Optimiser of their parameters.
        reward: See :func:`find_reward`.
        baseline: What is taken off the reward.
        candidates: The timesteps that actions stand for, ascending.
        seed: Seed of the draws.
        grad_clip: Largest norm of the gradient; None: no limit.
        uniform_prob: Probability of a batch of the phase ``'learn'``, the same on all ranks, to be treated as one of
            ``'warmup'``. Its timesteps do not come from the policy, which therefore learns nothing from it; nor do
            baseline and value network, which expect the reward of the policy.

    Attributes:
        phase: ``'warmup'``: uniform timesteps, only the head learns; ``'learn'``; ``'frozen'``: the most probable
            timestep, nothing learns.
        entropy_weight: ``lambda_H``.
        max_timestep: Exclusive upper limit of the timesteps.
        frozen_t: The one timestep of the frozen phase; None: the most probable for each image.
    """

    def __init__(
        self,
        nets: nn.ModuleDict,
        optimizer: Optimizer,
        reward: Reward,
        baseline: Baseline,
        candidates: Sequence[int],
        seed: int = 0,
        grad_clip: float | None = None,
        uniform_prob: float = 0.0,
    ) -> None:
        super().__init__(seed)
        self.nets, self.optimizer, self.reward, self.baseline = nets, optimizer, reward, baseline
        self.reads_student = reads_student(reward)
        self.candidates = list(candidates)
        self.grad_clip, self.uniform_prob = grad_clip, uniform_prob
        self.phase, self.entropy_weight, self.frozen_t = 'learn', 0.0, None
        self.max_timestep = self.candidates[-1] + 1
        self.rollout: Rollout | None = None
        self.waiting = 0
        self._actions = torch.tensor(self.candidates, device=next(nets.parameters()).device)

    def bind(self, num_timesteps: int, num_layers: int = 1) -> None:
        """Check the candidates."""
        super().bind(num_timesteps, num_layers)
        check_timesteps(self.candidates, num_timesteps, 'candidates')

    @property
    def allowed(self) -> int:
        """Number of candidates below ``max_timestep``."""
        count = sum(t < self.max_timestep for t in self.candidates)
        if count == 0:
            raise UserError(
                f'max_timestep={self.max_timestep} leaves none of the candidates; the first is {self.candidates[0]}'
            )
        return count

    def select(self, x_teacher: Tensor, data_samples: list[Any] | None) -> Tensor:
        """Choose by the rule of the phase, and keep what learning needs."""
        if self.phase == 'warmup' or (self.phase == 'learn' and self.draws.bernoulli(self.uniform_prob)):
            t = self._actions[self._uniform(x_teacher, 0, self.allowed)]
            self.rollout = Rollout(t)
        elif self.phase == 'frozen' and self.frozen_t is not None:
            self.rollout = Rollout(torch.full((len(x_teacher),), self.frozen_t, device=x_teacher.device))
        else:
            with torch.autocast(x_teacher.device.type, enabled=False):
                self.rollout = self._act(x_teacher.float())
        return self.rollout.timesteps

    def _act(self, x: Tensor) -> Rollout:
        if self.phase == 'frozen':
            with torch.no_grad():
                return Rollout(self._actions[log_policy(self.nets['policy'](x), self.allowed).argmax(dim=1)])
        with torch.enable_grad():
            log_probs = log_policy(self.nets['policy'](x), self.allowed)
            drawn = torch.multinomial(log_probs.detach().exp(), 1, generator=self.draws.next(x.device))
            values = self.nets['value'](x).flatten() if 'value' in self.nets else None
            chosen = log_probs.gather(1, drawn).flatten()
            return Rollout(self._actions[drawn.flatten()], chosen, entropy(log_probs), values)

    def observe(self, t: Tensor, teacher_feats: Sequence[Tensor], data_samples: list[Any] | None) -> None:
        """Keep the pooled feature of the last layer, and the labels."""
        feat = teacher_feats[-1].detach().float()
        self.rollout.feats = feat.mean(dim=(2, 3))
        self.rollout.labels = labels_of(data_samples, feat.device)

    def observe_student(self, student_maps: Sequence[Tensor]) -> None:
        """Keep the student's pooled feature of the last layer, if the reward reads it."""
        if self.reads_student:
            self.rollout.student = student_maps[-1].detach().float().mean(dim=(2, 3))

    def _check_labels(self, labels: Tensor | None) -> None:
        low, high = label_range(labels)
        if low < 0 and self.reward in LABELLED:
            raise UserError(
                f"reward '{self.reward.__name__}' needs labels, and images of these data have none: use "
                "reward='neg_info_nce' or a rule that does not learn, such as reprefine.UniformTimesteps"
            )
        if 'head' in self.nets and high >= (classes := self.nets['head'].num_classes):
            raise UserError(
                f'label {high} of the data set is beyond the {classes} classes of the head: set '
                f'head=dict(num_classes={high + 1}) or more'
            )

    def learn(self, step: bool = True) -> Tensor:
        """Learn from the batch.

        Args:
            step: Change the parameters; otherwise the gradient waits and is averaged with those of later batches.

        Returns:
            The values of :data:`STATS`, means over ranks; NaN where there is none.

        Raises:
            UserError: If the reward needs labels and an image has none, or the head has too few classes.
        """
        rollout = self.rollout
        self._check_labels(rollout.labels)
        device = rollout.timesteps.device
        t = rollout.timesteps.double()
        stats = dict(timestep_mean=t.mean(), timestep_std=t.std(correction=0))
        if self.phase != 'frozen':
            with torch.autocast(device.type, enabled=False), torch.enable_grad():
                objective = self._objective(rollout, stats)
                if objective.requires_grad:
                    objective.backward()
                self.waiting += 1  # one without a gradient counts as 0, with a head or without
            if step:
                self.step()
        row = torch.stack([stats.get(name, t.new_tensor(float('nan'))).detach().double() for name in STATS])
        all_reduce(row, 'mean')
        return row

    def _objective(self, rollout: Rollout, stats: dict[str, Tensor]) -> Tensor:
        """Return cross-entropy of the head + policy loss - weighted entropy (+ error of the value)."""
        total, logits = rollout.feats.new_zeros(()), None
        if 'head' in self.nets:
            logits = self.nets['head'](rollout.feats)
            if rollout.labels is not None:
                total = total + labelled_cross_entropy(logits, rollout.labels)
                known = rollout.labels >= 0
                stats['head_accuracy'] = (logits.argmax(dim=1) == rollout.labels).sum() / known.sum()
        reward = self._reward(rollout, logits).detach()
        mean = reward.mean()
        all_reduce(mean, 'mean')
        stats['reward'] = mean
        if rollout.log_probs is None:  # uniform timesteps
            return total
        expected = self.baseline(mean, rollout.values)
        stats['reward_baseline'] = expected.mean()
        stats['policy_entropy'] = rollout.entropies.mean()
        stats['effective_timesteps'] = rollout.entropies.exp().mean()
        total = total + policy_loss(rollout.log_probs, reward - expected)
        total = total + entropy_loss(rollout.entropies, self.entropy_weight)
        if rollout.values is not None:
            total = total + F.mse_loss(rollout.values, reward)
        return total

    def _reward(self, rollout: Rollout, logits: Tensor | None) -> Tensor:
        of_student = dict(student=rollout.student) if self.reads_student else {}
        logits = None if logits is None else logits.detach()
        return self.reward(logits, rollout.feats, rollout.labels, **of_student)

    def step(self) -> None:
        """Average the waiting gradients over batches and ranks, and change the parameters."""
        grads = [p.grad for p in self.nets.parameters() if p.grad is not None]
        if self.waiting > 1:
            torch._foreach_div_(grads, self.waiting)
        all_reduce_params(grads, op='mean')
        if self.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.nets.parameters(), self.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.waiting = 0

    def state_dict(self) -> dict[str, Any]:
        """Return all that going on exactly needs: networks, optimiser, baseline, phase and number of draws."""
        nets = {name: net.state_dict() for name, net in self.nets.items()}
        own = dict(optimizer=self.optimizer.state_dict(), baseline=self.baseline.state_dict(), rng=self.draws.count)
        grads = {name: p.grad.clone() for name, p in self.nets.named_parameters() if p.grad is not None}
        waiting = dict(waiting=self.waiting, grads=grads)
        return {**nets, **own, **waiting, 'phase': self.phase, 'frozen_t': self.frozen_t}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` left off.

        Raises:
            UserError: If the networks are others.
        """
        try:
            for name, net in self.nets.items():
                net.load_state_dict(state[name])
            self.optimizer.load_state_dict(state['optimizer'])
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(f'the checkpoint holds another timestep selector: {error}') from error
        self.baseline.load_state_dict(state['baseline'])
        self.draws.count, self.waiting = state['rng'], state['waiting']
        self.phase, self.frozen_t = state['phase'], state['frozen_t']
        for name, p in self.nets.named_parameters():
            p.grad = state['grads'][name].to(p) if name in state['grads'] else None
