"""A hook that seeds each epoch."""

import numpy as np
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner, set_random_seed

from reprefine.registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds Python, NumPy and torch at the start of each epoch, depending on seed, epoch, iteration and rank.

    A run that mmengine's own Runner resumes from the checkpoint of an epoch then draws the same random numbers in the
    main process as an uninterrupted run. :class:`reprefine.engine.runner.Runner` saves RNG states and needs no such
    hook to resume exactly.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed Python, NumPy and torch on every device."""
        sequence = np.random.SeedSequence([runner.seed, runner.epoch, runner.iter, get_rank()])
        set_random_seed(int(sequence.generate_state(1)[0]))
