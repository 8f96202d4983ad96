"""The hook that lets a policy choose the timesteps of a distillation."""

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

from ..functional import LABELLED, Reward, check_timesteps, find_reward, linear_decay
from .builder import build_nets, build_optimizer
from .histogram import FILE, STATS, TimestepHistogram
from .policy_timesteps import PolicyTimesteps
from .reward_baseline import Baseline

KEY = 'repfusion_selector'
VERSION = 1


@HOOKS.register_module()
class RLTimestepSelectorHook(Hook):
    """Trains a policy over timesteps beside the student, and has the distiller ask it.

    Policy, head, their optimiser, baseline, histogram and draws live here and in the checkpoint's entry
    ``repfusion_selector``; the model's own state knows nothing of them. Statistics are logged, and
    ``{work_dir}/timestep_hist.npz`` gets a row an epoch.

    Args:
        policy: Config of the policy; number of actions, size and channels of the images follow from the teacher.
        head: Arguments of :class:`TaskHead` but for the width, ``dict(num_classes=10)``; None: no head.
        reward: ``'neg_ce'``, ``'neg_info_nce'``, ``'accuracy'``, ``'neg_feature_mse'``, or a function of logits,
            features and labels; see :func:`find_reward`.
        baseline: ``'none'``, ``'batch_mean'``, ``'ema'`` or ``'value'``; see :class:`Baseline`.
        entropy_weight: ``lambda_H`` in the first epoch.
        entropy_epochs: It falls linearly to 0 at this epoch; None: it stays.
        optimizer: Config of the optimiser; default SGD with lr 0.1, momentum 0.9 and weight decay 1e-4.
        head_lr: Learning rate of the head; None: that of the optimiser.
        lr_follow: Scale the learning rates as the student's are scaled by its schedule.
        follow_accumulation: Step when the student steps, with the mean gradient; otherwise after every batch.
        grad_clip: Largest norm of the gradient; None: no limit.
        warmup_epochs: First epochs with uniform timesteps, in which the head alone learns.
        warmup_iters: The same in iterations; whichever ends later counts.
        uniform_prob: Probability of a batch between warm-up and freezing to get uniform timesteps as a whole, on all
            ranks; from such a batch the head alone learns, and the baseline stays. With ``follow_accumulation`` it adds
            0 to the policy's mean gradient.
        freeze_after_epoch: Number of epochs after which the policy is frozen; None: never.
        freeze_entropy: Pair of entropy in nats and number of epochs: freeze when it was lower for so long.
        frozen_scope: ``'sample'``: a frozen policy gives each image its most probable timestep; ``'global'``: all
            images get the timestep chosen most often.
        candidates: Timesteps to choose among; None: all.
        seed: Seed of networks and draws; rank ``r`` draws with ``seed + 1000 r``.
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
        self.reward = find_reward(reward)
        if self.reward in LABELLED and head is None:
            raise UserError(f"reward '{self.reward.__name__}' needs a head: set head=dict(num_classes=...)")
        if frozen_scope not in ('sample', 'global'):
            raise UserError(f"frozen_scope='{frozen_scope}': use sample or global")
        if not 0 <= uniform_prob < 1:
            raise UserError(f'uniform_prob={uniform_prob}: give 0 or more, and less than 1, or the policy never learns')
        self.baseline = Baseline(baseline)
        self.policy, self.head = policy or dict(type='reprefine.LeNetPolicy'), head
        self.entropy_weight, self.entropy_epochs = entropy_weight, entropy_epochs
        self.optimizer = optimizer or dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4)
        self.head_lr, self.lr_follow, self.follow_accumulation = head_lr, lr_follow, follow_accumulation
        self.grad_clip, self.warmup_epochs, self.warmup_iters = grad_clip, warmup_epochs, warmup_iters
        self.uniform_prob = uniform_prob
        self.freeze_after_epoch, self.freeze_entropy = freeze_after_epoch, freeze_entropy
        self.frozen_scope, self.seed = frozen_scope, seed
        self.candidates = None if candidates is None else sorted(set(candidates))
        self.calm_epochs = 0  # in a row, with entropy below the limit

    def before_run(self, runner: Runner) -> None:
        """Build what is trained, equal on all ranks.

        The model is left alone until training starts, because averages of it are copied now.
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
        self.histogram = TimestepHistogram(teacher.num_timesteps, classes, teacher.abar.device)

    def _build_selector(self, teacher: nn.Module) -> PolicyTimesteps:
        candidates = list(range(teacher.num_timesteps)) if self.candidates is None else self.candidates
        check_timesteps(candidates, teacher.num_timesteps, 'candidates')
        value = self.baseline.kind == 'value'
        nets = build_nets(teacher, len(candidates), self.policy, self.head, value, self.seed).to(teacher.abar.device)
        optimizer = build_optimizer(nets, self.optimizer, self.head_lr)
        options = dict(grad_clip=self.grad_clip, uniform_prob=self.uniform_prob)
        return PolicyTimesteps(nets, optimizer, self.reward, self.baseline, candidates, self.seed, **options)

    def replay_state(self) -> dict[str, Any]:
        """Return the weights that choose the timesteps of the coming step."""
        return self.selector.nets.state_dict()

    def prepare_replay(self, model: nn.Module, state: dict[str, Any]) -> None:
        """Have a model ask a policy with the weights of :meth:`replay_state`."""
        selector = self._build_selector(model.teacher)
        selector.nets.load_state_dict(state)
        selector.bind(model.teacher.num_timesteps, len(model.teacher.channels))
        model.timestep_source = selector

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Go on where the checkpoint left off, when resuming."""
        if not runner._resume:
            return
        state = checkpoint.get(KEY)
        if state is None:
            runner.logger.warning('The checkpoint holds no timestep selector: the policy starts afresh')
            return
        if state['version'] != VERSION:
            raise UserError(f'the checkpoint holds a timestep selector of version {state["version"]}, not {VERSION}')
        self.selector.load_state_dict(state)
        self.histogram.load_state_dict(state['histogram'])
        self.calm_epochs = state['calm_epochs']

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Put the state into the checkpoint."""
        histogram = self.histogram.state_dict()
        own = dict(version=VERSION, histogram=histogram, calm_epochs=self.calm_epochs)
        checkpoint[KEY] = {**own, **self.selector.state_dict()}

    def before_train(self, runner: Runner) -> None:
        """Have the model ask the policy.

        Raises:
            UserError: If training does not go by epochs.
        """
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise UserError('RLTimestepSelectorHook counts epochs: set train_cfg.by_epoch=True')
        model = unwrap(runner.model)
        self.selector.bind(model.teacher.num_timesteps, len(model.teacher.channels))
        if model.teacher.label_conditioned and self.reward in LABELLED:
            runner.logger.warning(
                "The teacher is told the class that the reward rates the head's guess of: prefer reward='neg_info_nce' "
                'or a teacher without classes'
            )
        self._former, model.timestep_source = model.timestep_source, self.selector

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the weight of the entropy, which follows from the epoch alone."""
        weight, epochs = self.entropy_weight, self.entropy_epochs
        self.selector.entropy_weight = weight if epochs is None else linear_decay(runner.epoch, weight, 0.0, epochs)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set phase and learning rates, and forget the last batch."""
        self.selector.rollout = None
        if self.selector.phase != 'frozen':
            is_early = runner.epoch < self.warmup_epochs or runner.iter < self.warmup_iters
            self.selector.phase = 'warmup' if is_early else 'learn'
        ratio = self._student_ratio(runner) if self.lr_follow else 1.0
        for group in self.selector.optimizer.param_groups:
            group['lr'] = group['base_lr'] * ratio

    def _student_ratio(self, runner: Runner) -> float:
        group = runner.optim_wrapper.param_groups[0]
        return group['lr'] / group.get('initial_lr', group['lr'])

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Learn from the batch and log it."""
        rollout = self.selector.rollout
        if rollout is None:
            raise UserError(f'{type(unwrap(runner.model)).__name__} did not ask its timestep_source')
        stats = self.selector.learn(step=not self.follow_accumulation or runner.optim_wrapper.should_update())
        self.histogram.add(rollout.timesteps, rollout.labels, stats)
        self.selector.rollout = None
        for name, value in zip(STATS, stats.tolist(), strict=True):  # one wait for the device
            if value == value:
                runner.message_hub.update_scalar(f'train/{name}', value)
        runner.message_hub.update_scalar('train/entropy_weight', self.selector.entropy_weight)

    def after_train_epoch(self, runner: Runner) -> None:
        """Write the row of the epoch, and freeze the policy if it is time."""
        epoch = runner.epoch + 1
        if self.freeze_entropy is not None:
            is_calm = self.histogram.mean('policy_entropy') < self.freeze_entropy[0]  # NaN is not
            self.calm_epochs = self.calm_epochs + 1 if is_calm else 0
        self.histogram.close(epoch)
        if is_main_process():
            self.histogram.save(Path(runner.work_dir) / FILE)
        is_late = self.freeze_after_epoch is not None and epoch >= self.freeze_after_epoch
        is_settled = self.freeze_entropy is not None and self.calm_epochs >= self.freeze_entropy[1]
        if (is_late or is_settled) and self.selector.phase != 'frozen':
            self._freeze(runner)

    def _freeze(self, runner: Runner) -> None:
        self.selector.phase = 'frozen'
        if self.frozen_scope == 'global':
            self.selector.frozen_t = int(self.histogram.total().argmax())
        choice = f't = {self.selector.frozen_t}' if self.frozen_scope == 'global' else 'the best t of each image'
        runner.logger.info(f'The policy over timesteps is frozen after epoch {runner.epoch + 1}: {choice}')

    def after_train(self, runner: Runner) -> None:
        """Report, and give the model its own source back."""
        total = self.histogram.total()
        if total.sum():
            best = ', '.join(f't={t} ({total[t] / total.sum():.1%})' for t in total.topk(min(3, len(total))).indices)
            runner.logger.info(f'Timesteps chosen most often: {best}')
        unwrap(runner.model).timestep_source = self._former
