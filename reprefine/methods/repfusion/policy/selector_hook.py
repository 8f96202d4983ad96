"""The hook that trains a policy to select the timesteps of a distillation."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from reprefine.engine.build import unwrap
from reprefine.engine.errors import UserError
from reprefine.registry import HOOKS

from ..functional import LABEL_REWARDS, Reward, check_timesteps, get_reward, linear_decay
from .builder import build_nets, build_optimizer
from .histogram import HISTOGRAM_FILE, STATS, TimestepHistogram
from .policy_timesteps import PolicyTimesteps
from .reward_baseline import RewardBaseline

# Entry of the checkpoint.
SELECTOR_KEY = 'repfusion_selector'
VERSION = 1


@HOOKS.register_module()
class RLTimestepSelectorHook(Hook):
    """Trains a policy over timesteps by REINFORCE, and sets it as the distiller's timestep source.

    Policy, task head, their optimiser, reward baseline, histogram and random counter belong to the hook, and are saved
    in the checkpoint's entry ``repfusion_selector``; the model's state dict does not contain them. Statistics are
    logged, and ``{work_dir}/timestep_hist.npz`` gets a row in every epoch.

    Args:
        policy: Config of the policy network; number of actions, size and channels of the images are added. Default:
            :class:`LeNetPolicy`.
        head: Arguments of :class:`TaskHead`, without ``in_channels``, such as ``dict(num_classes=10)``; None: no head.
        reward: ``'neg_ce'``, ``'neg_info_nce'``, ``'accuracy'``, ``'neg_feature_mse'``, or a function of logits,
            features and labels; see :func:`get_reward`.
        baseline: Reward baseline, ``'none'``, ``'batch_mean'``, ``'ema'`` or ``'value'``; see :class:`RewardBaseline`.
        entropy_weight: ``lambda_H`` in the first epoch.
        entropy_epochs: Epoch at which its linear decay reaches 0; None: no decay.
        optimizer: Config of the optimiser; default: SGD with lr 0.1, momentum 0.9 and weight decay 1e-4.
        head_lr: Learning rate of the head; None: that of the optimiser.
        lr_follow: Scale the learning rates by the same factor as the student's schedule.
        follow_accumulation: Update in the same steps as the student, with the mean gradient; otherwise after every
            batch.
        grad_clip: Maximum norm of the gradient; None: no clipping.
        warmup_epochs: Number of first epochs with uniform timesteps, in which only the head is trained.
        warmup_iters: Number of first iterations of the same kind; the later end counts.
        uniform_prob: Probability that a batch between warm-up and freezing has uniform timesteps, on all ranks. Such a
            batch trains only the head, and does not update the reward baseline. With ``follow_accumulation`` it counts
            as a gradient of 0 of the policy.
        freeze_after_epoch: Number of epochs after which the policy is frozen; None: never.
        freeze_entropy: Pair of an entropy in nats and a number of epochs: the policy is frozen after so many
            consecutive epochs with a lower entropy.
        frozen_scope: Timestep of a frozen policy. ``'sample'``: the most probable one of each image; ``'global'``: the
            one selected most often, for all images.
        candidates: Timesteps to select from; None: all.
        seed: Seed of initialisation and sampling; rank ``r`` samples with ``seed + 1000 r``.

    Raises:
        UserError: If a setting is unknown or out of range, or the reward needs a head and there is none.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(
        self,
        policy: dict[str, Any] | None = None,
        head: dict[str, Any] | None = None,
        reward: str | Reward = 'neg_ce',
        baseline: str = 'ema',
        entropy_weight: float = 0.1,
        entropy_epochs: int | None = 100,
        optimizer: dict[str, Any] | None = None,
        head_lr: float | None = None,
        lr_follow: bool = True,
        follow_accumulation: bool = False,
        grad_clip: float | None = None,
        warmup_epochs: int = 0,
        warmup_iters: int = 0,
        uniform_prob: float = 0.0,
        freeze_after_epoch: int | None = None,
        freeze_entropy: tuple[float, int] | None = None,
        frozen_scope: str = 'sample',
        candidates: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        self.reward = get_reward(reward)
        if self.reward in LABEL_REWARDS and head is None:
            raise UserError(f"reward '{self.reward.__name__}' needs a head: set head=dict(num_classes=...)")
        if frozen_scope not in ('sample', 'global'):
            raise UserError(f"frozen_scope='{frozen_scope}': use sample or global")
        if not 0 <= uniform_prob < 1:
            raise UserError(
                f'uniform_prob={uniform_prob}: give at least 0 and less than 1; at 1 no batch trains the policy'
            )
        self.baseline = RewardBaseline(baseline)
        self.policy, self.head = policy or dict(type='reprefine.LeNetPolicy'), head
        self.entropy_weight, self.entropy_epochs = entropy_weight, entropy_epochs
        self.optimizer = optimizer or dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4)
        self.head_lr, self.lr_follow, self.follow_accumulation = head_lr, lr_follow, follow_accumulation
        self.grad_clip, self.warmup_epochs, self.warmup_iters = grad_clip, warmup_epochs, warmup_iters
        self.uniform_prob = uniform_prob
        self.freeze_after_epoch, self.freeze_entropy = freeze_after_epoch, freeze_entropy
        self.frozen_scope, self.seed = frozen_scope, seed
        self.candidates = None if candidates is None else sorted(set(candidates))
        self.low_entropy_epochs = 0  # consecutive ones

    def before_run(self, runner: Runner) -> None:
        """Build the networks and the optimiser, equal on all ranks.

        The model does not change before the training starts, because EMAHook deep-copies it at this hook point.

        Raises:
            UserError: If the model has no teacher.
        """
        teacher = getattr(unwrap(runner.model), 'teacher', None)
        if teacher is None:
            raise UserError(
                f'RLTimestepSelectorHook: {type(unwrap(runner.model)).__name__} has no teacher; use it with '
                'reprefine.RepFusionDistiller'
            )
        self.selector = self._build_selector(teacher)
        for tensor in self.selector.nets.state_dict().values():
            broadcast(tensor)
        classes = self.head['num_classes'] if self.head else 0
        self.histogram = TimestepHistogram(teacher.num_timesteps, classes, teacher.alphas_cumprod.device)

    def _build_selector(self, teacher: nn.Module) -> PolicyTimesteps:
        candidates = list(range(teacher.num_timesteps)) if self.candidates is None else self.candidates
        check_timesteps(candidates, teacher.num_timesteps, 'candidates')
        has_value = self.baseline.kind == 'value'
        nets = build_nets(teacher, len(candidates), self.policy, self.head, has_value, self.seed)
        nets = nets.to(teacher.alphas_cumprod.device)
        optimizer = build_optimizer(nets, self.optimizer, self.head_lr)
        options = dict(grad_clip=self.grad_clip, uniform_prob=self.uniform_prob)
        return PolicyTimesteps(nets, optimizer, self.reward, self.baseline, candidates, self.seed, **options)

    def replay_state(self) -> dict[str, Any]:
        """Return the weights that select the timesteps of the next step, for a replay of the step."""
        return self.selector.nets.state_dict()

    def prepare_replay(self, model: nn.Module, state: dict[str, Any]) -> None:
        """Set a policy with the weights of :meth:`replay_state` as the timestep source of a model."""
        selector = self._build_selector(model.teacher)
        selector.nets.load_state_dict(state)
        selector.bind(model.teacher.num_timesteps, len(model.teacher.channels))
        model.timestep_source = selector

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restore the state when resuming.

        Raises:
            UserError: If the state has another version, or does not match the networks.
        """
        if not runner._resume:
            return
        state = checkpoint.get(SELECTOR_KEY)
        if state is None:
            runner.logger.warning(f'The checkpoint has no {SELECTOR_KEY}: the policy starts from its initialisation')
            return
        if state['version'] != VERSION:
            raise UserError(
                f'{SELECTOR_KEY} of the checkpoint has version {state["version"]}, not {VERSION}: resume with the '
                'release of reprefine that wrote it'
            )
        self.selector.load_state_dict(state)
        self.histogram.load_state_dict(state['histogram'])
        self.low_entropy_epochs = state['calm_epochs']

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Save the state in the checkpoint."""
        checkpoint[SELECTOR_KEY] = dict(
            version=VERSION,
            histogram=self.histogram.state_dict(),
            calm_epochs=self.low_entropy_epochs,
            **self.selector.state_dict(),
        )

    def before_train(self, runner: Runner) -> None:
        """Set the policy as the timestep source of the model.

        Raises:
            UserError: If the training loop does not count epochs.
        """
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise UserError(
                f'RLTimestepSelectorHook counts epochs, but the loop is {type(runner.train_loop).__name__}: set '
                'train_cfg.by_epoch=True'
            )
        model = unwrap(runner.model)
        self.selector.bind(model.teacher.num_timesteps, len(model.teacher.channels))
        if model.teacher.is_class_conditional and self.reward in LABEL_REWARDS:
            runner.logger.warning(
                "The teacher is conditioned on the labels that the reward's head predicts: prefer "
                "reward='neg_info_nce' or an unconditional teacher"
            )
        self._previous_source, model.timestep_source = model.timestep_source, self.selector

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the entropy weight, a function of the epoch."""
        weight, epochs = self.entropy_weight, self.entropy_epochs
        self.selector.entropy_weight = weight if epochs is None else linear_decay(runner.epoch, weight, 0.0, epochs)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set phase and learning rates, and release the last rollout."""
        self.selector.rollout = None
        if self.selector.phase != 'frozen':
            is_early = runner.epoch < self.warmup_epochs or runner.iter < self.warmup_iters
            self.selector.phase = 'warmup' if is_early else 'learn'
        factor = self._lr_factor(runner) if self.lr_follow else 1.0
        for group in self.selector.optimizer.param_groups:
            group['lr'] = group['base_lr'] * factor

    def _lr_factor(self, runner: Runner) -> float:
        group = runner.optim_wrapper.param_groups[0]
        return group['lr'] / group.get('initial_lr', group['lr'])

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Update the networks, the histogram and the log.

        Raises:
            UserError: If the model does not use its timestep source.
        """
        rollout = self.selector.rollout
        if rollout is None:
            raise UserError(
                f'{type(unwrap(runner.model)).__name__} has not called select of its timestep_source: use '
                'reprefine.RepFusionDistiller'
            )
        stats = self.selector.learn(update=not self.follow_accumulation or runner.optim_wrapper.should_update())
        self.histogram.add(rollout.timesteps, rollout.labels, stats)
        self.selector.rollout = None
        for name, value in zip(STATS, stats.tolist(), strict=True):  # one device synchronisation
            if not math.isnan(value):
                runner.message_hub.update_scalar(f'train/{name}', value)
        runner.message_hub.update_scalar('train/entropy_weight', self.selector.entropy_weight)

    def after_train_epoch(self, runner: Runner) -> None:
        """Write the row of the epoch, and freeze the policy if a criterion is met."""
        epoch = runner.epoch + 1
        if self.freeze_entropy is not None:
            is_low = self.histogram.mean('policy_entropy') < self.freeze_entropy[0]  # False for NaN
            self.low_entropy_epochs = self.low_entropy_epochs + 1 if is_low else 0
        self.histogram.end_epoch(epoch)
        if is_main_process():
            self.histogram.save(Path(runner.work_dir) / HISTOGRAM_FILE)
        is_last = self.freeze_after_epoch is not None and epoch >= self.freeze_after_epoch
        is_low_entropy = self.freeze_entropy is not None and self.low_entropy_epochs >= self.freeze_entropy[1]
        if (is_last or is_low_entropy) and self.selector.phase != 'frozen':
            self._freeze(runner)

    def _freeze(self, runner: Runner) -> None:
        self.selector.phase = 'frozen'
        if self.frozen_scope == 'global':
            self.selector.frozen_t = int(self.histogram.total().argmax())
        selection = (
            f't = {self.selector.frozen_t}' if self.frozen_scope == 'global' else 'the most probable t of each image'
        )
        runner.logger.info(f'The policy over timesteps is frozen after epoch {runner.epoch + 1}: {selection}')

    def after_train(self, runner: Runner) -> None:
        """Log the timesteps selected most often, and restore the model's own timestep source."""
        total = self.histogram.total()
        if total.sum():
            most_frequent = total.topk(min(3, len(total))).indices
            fractions = ', '.join(f't={t} ({total[t] / total.sum():.1%})' for t in most_frequent)
            runner.logger.info(f'Timesteps selected most often: {fractions}')
        unwrap(runner.model).timestep_source = self._previous_source
