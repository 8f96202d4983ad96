"""Hooks that belong to no method."""

import numpy as np
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner, set_random_seed

from reprefine.registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Make the random state at the start of an epoch a function of seed, epoch and rank alone.

    Also under mmengine's own Runner, which keeps no random state, a run resumed from an epoch's checkpoint then draws
    in the main process what the uninterrupted run would have drawn, whatever validation or start-up have drawn before.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed Python, NumPy and torch on every device."""
        sequence = np.random.SeedSequence([runner.seed, runner.epoch, runner.iter, get_rank()])
        set_random_seed(int(sequence.generate_state(1)[0]))
