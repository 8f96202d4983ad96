"""A timestep source with a policy, which is trained by REINFORCE with a reward on the teacher's features."""

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
    LABEL_REWARDS,
    Reward,
    check_timesteps,
    entropy,
    entropy_loss,
    labelled_cross_entropy,
    policy_loss,
    uses_student,
)
from ..labels import get_labels, label_range
from .histogram import STATS
from .policy_networks import action_log_probs
from .reward_baseline import RewardBaseline
from .timestep_sources import TimestepSource


@dataclass
class Rollout:
    """Selected timesteps of a batch, and what the update of the policy needs.

    Attributes:
        timesteps: ``[N]``.
        log_probs: Log-probabilities of the selected actions ``[N]``; None without a policy.
        entropies: Entropies of the policy in nats ``[N]``; None without a policy.
        values: Outputs of the value network ``[N]``; None without one.
        feats: Pooled features of the teacher ``[N, C]``; None before :meth:`PolicyTimesteps.observe`.
        labels: Labels ``[N]``, -1 for an unlabelled image; None without data samples.
        student: Pooled features of the student ``[N, C]``; None if the reward does not use them.
    """

    timesteps: Tensor
    log_probs: Tensor | None = None
    entropies: Tensor | None = None
    values: Tensor | None = None
    feats: Tensor | None = None
    labels: Tensor | None = None
    student: Tensor | None = None


class PolicyTimesteps(TimestepSource):
    """Samples timesteps from ``pi(t | x)`` and updates the policy after every batch.

    Args:
        nets: ``policy``, and optionally ``head`` and ``value``.
        optimizer: Optimiser of their parameters.
        reward: See :func:`get_reward`.
        baseline: The reward baseline.
        candidates: Timesteps of the actions, in ascending order.
        seed: Seed of the random timesteps.
        grad_clip: Maximum norm of the gradient; None: no clipping.
        uniform_prob: Probability that a batch of the phase ``'learn'`` is treated as one of ``'warmup'``, equally on
            all ranks. Policy, reward baseline and value network are not updated by such a batch, because its timesteps
            do not come from the policy.

    Attributes:
        phase: ``'warmup'``: uniform timesteps, only the head is trained; ``'learn'``; ``'frozen'``: the most probable
            timestep, nothing is trained.
        entropy_weight: ``lambda_H``.
        max_timestep: Exclusive upper limit of the timesteps.
        frozen_t: The timestep of all images in the frozen phase; None: the most probable one of each image.
        rollout: The last batch; None before :meth:`select`.
    """

    def __init__(
        self,
        nets: nn.ModuleDict,
        optimizer: Optimizer,
        reward: Reward,
        baseline: RewardBaseline,
        candidates: Sequence[int],
        seed: int = 0,
        grad_clip: float | None = None,
        uniform_prob: float = 0.0,
    ) -> None:
        super().__init__(seed)
        self.nets, self.optimizer, self.reward, self.baseline = nets, optimizer, reward, baseline
        self.uses_student = uses_student(reward)
        self.candidates = list(candidates)
        self.grad_clip, self.uniform_prob = grad_clip, uniform_prob
        self.phase, self.entropy_weight, self.frozen_t = 'learn', 0.0, None
        self.max_timestep = self.candidates[-1] + 1
        self.rollout: Rollout | None = None
        self.accumulated_batches = 0
        self._actions = torch.tensor(self.candidates, device=next(nets.parameters()).device)

    def bind(self, num_timesteps: int, num_layers: int = 1) -> None:
        """Check the candidates."""
        super().bind(num_timesteps, num_layers)
        check_timesteps(self.candidates, num_timesteps, 'candidates')

    @property
    def num_allowed(self) -> int:
        """Number of candidates below ``max_timestep``, which are the first actions."""
        count = sum(t < self.max_timestep for t in self.candidates)
        if count == 0:
            raise UserError(
                f'max_timestep={self.max_timestep} excludes all candidates, of which the lowest is '
                f'{self.candidates[0]}: raise it, or add lower candidates'
            )
        return count

    def select(self, x_teacher: Tensor, data_samples: list[Any] | None) -> Tensor:
        """Select timesteps as the phase says, and store the rollout."""
        if self.phase == 'warmup' or (self.phase == 'learn' and self.rng.bernoulli(self.uniform_prob)):
            self.rollout = Rollout(self._actions[self._uniform(x_teacher, 0, self.num_allowed)])
        elif self.phase == 'frozen' and self.frozen_t is not None:
            self.rollout = Rollout(torch.full((len(x_teacher),), self.frozen_t, device=x_teacher.device))
        else:
            with torch.autocast(x_teacher.device.type, enabled=False):
                self.rollout = self._act(x_teacher.float())
        return self.rollout.timesteps

    def _act(self, x: Tensor) -> Rollout:
        if self.phase == 'frozen':
            with torch.no_grad():
                log_probs = action_log_probs(self.nets['policy'](x), self.num_allowed)
                return Rollout(self._actions[log_probs.argmax(dim=1)])
        with torch.enable_grad():
            log_probs = action_log_probs(self.nets['policy'](x), self.num_allowed)
            actions = torch.multinomial(log_probs.detach().exp(), 1, generator=self.rng.next_generator(x.device))
            values = self.nets['value'](x).flatten() if 'value' in self.nets else None
            selected_log_probs = log_probs.gather(1, actions).flatten()
            return Rollout(self._actions[actions.flatten()], selected_log_probs, entropy(log_probs), values)

    def observe(self, t: Tensor, teacher_feats: Sequence[Tensor], data_samples: list[Any] | None) -> None:
        """Store the teacher's pooled feature of the last layer, and the labels."""
        feat = teacher_feats[-1].detach().float()
        self.rollout.feats = feat.mean(dim=(2, 3))
        self.rollout.labels = get_labels(data_samples, feat.device)

    def observe_student(self, student_maps: Sequence[Tensor]) -> None:
        """Store the student's pooled feature of the last layer, if the reward uses it."""
        if self.uses_student:
            self.rollout.student = student_maps[-1].detach().float().mean(dim=(2, 3))

    def _check_labels(self, labels: Tensor | None) -> None:
        low, high = label_range(labels)
        if low < 0 and self.reward in LABEL_REWARDS:
            raise UserError(
                f"reward '{self.reward.__name__}' needs labels, but images of the data have none (-1): use "
                "reward='neg_info_nce', or a timestep source without a policy, such as reprefine.UniformTimesteps"
            )
        if 'head' in self.nets and high >= (classes := self.nets['head'].num_classes):
            raise UserError(
                f'label {high} of the dataset is outside the {classes} classes of the head: set '
                f'head=dict(num_classes={high + 1}) or more'
            )

    def learn(self, update: bool = True) -> Tensor:
        """Compute the gradients of the rollout, and update the networks.

        Args:
            update: Whether to update the networks; otherwise the gradient is accumulated, and averaged with those of
                later batches.

        Returns:
            Values of :data:`STATS`, means over ranks; NaN for a missing one.

        Raises:
            UserError: If the reward needs labels and an image is unlabelled, or a label is not in the head's classes.
        """
        rollout = self.rollout
        self._check_labels(rollout.labels)
        device = rollout.timesteps.device
        t = rollout.timesteps.double()
        stats = dict(timestep_mean=t.mean(), timestep_std=t.std(correction=0))
        if self.phase != 'frozen':
            with torch.autocast(device.type, enabled=False), torch.enable_grad():
                loss = self._total_loss(rollout, stats)
                if loss.requires_grad:
                    loss.backward()
                self.accumulated_batches += 1  # also a batch without gradients, whose gradient is 0
            if update:
                self.update()
        values = torch.stack([stats.get(name, t.new_tensor(float('nan'))).detach().double() for name in STATS])
        all_reduce(values, 'mean')
        return values

    def _total_loss(self, rollout: Rollout, stats: dict[str, Tensor]) -> Tensor:
        """Return cross-entropy of the head + policy loss + entropy loss (+ squared error of the value network)."""
        total, logits = rollout.feats.new_zeros(()), None
        if 'head' in self.nets:
            logits = self.nets['head'](rollout.feats)
            if rollout.labels is not None:
                total = total + labelled_cross_entropy(logits, rollout.labels)
                is_labelled = rollout.labels >= 0
                stats['head_accuracy'] = (logits.argmax(dim=1) == rollout.labels).sum() / is_labelled.sum()
        reward = self._reward(rollout, logits).detach()
        mean = reward.mean()
        all_reduce(mean, 'mean')
        stats['reward'] = mean
        if rollout.log_probs is None:  # uniform timesteps
            return total
        baseline = self.baseline(mean, rollout.values)
        stats['reward_baseline'] = baseline.mean()
        stats['policy_entropy'] = rollout.entropies.mean()
        stats['effective_timesteps'] = rollout.entropies.exp().mean()
        total = total + policy_loss(rollout.log_probs, reward - baseline)
        total = total + entropy_loss(rollout.entropies, self.entropy_weight)
        if rollout.values is not None:
            total = total + F.mse_loss(rollout.values, reward)
        return total

    def _reward(self, rollout: Rollout, logits: Tensor | None) -> Tensor:
        options = dict(student=rollout.student) if self.uses_student else {}
        logits = None if logits is None else logits.detach()
        return self.reward(logits, rollout.feats, rollout.labels, **options)

    def update(self) -> None:
        """Average the accumulated gradients over batches and ranks, and run the optimiser."""
        grads = [p.grad for p in self.nets.parameters() if p.grad is not None]
        if self.accumulated_batches > 1:
            torch._foreach_div_(grads, self.accumulated_batches)
        all_reduce_params(grads, op='mean')
        if self.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.nets.parameters(), self.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.accumulated_batches = 0

    def state_dict(self) -> dict[str, Any]:
        """Return networks, gradients, optimiser, reward baseline, phase and random counter, for exact resuming."""
        nets = {name: net.state_dict() for name, net in self.nets.items()}
        grads = {name: p.grad.clone() for name, p in self.nets.named_parameters() if p.grad is not None}
        return dict(
            **nets,
            optimizer=self.optimizer.state_dict(),
            baseline=self.baseline.state_dict(),
            rng=self.rng.count,
            waiting=self.accumulated_batches,
            grads=grads,
            phase=self.phase,
            frozen_t=self.frozen_t,
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of :meth:`state_dict`.

        Raises:
            UserError: If the networks or the optimiser do not match.
        """
        try:
            for name, net in self.nets.items():
                net.load_state_dict(state[name])
            self.optimizer.load_state_dict(state['optimizer'])
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(
                f'the timestep selector of the checkpoint does not match RLTimestepSelectorHook: {error}; resume with '
                'the settings of the run'
            ) from error
        self.baseline.load_state_dict(state['baseline'])
        self.rng.count, self.accumulated_batches = state['rng'], state['waiting']
        self.phase, self.frozen_t = state['phase'], state['frozen_t']
        for name, p in self.nets.named_parameters():
            p.grad = state['grads'][name].to(p) if name in state['grads'] else None
