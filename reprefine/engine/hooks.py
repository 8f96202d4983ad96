"""A hook without effect, which configs of earlier releases name."""

import warnings

from mmengine.hooks import Hook

from reprefine.registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Does nothing, and will be removed in the next release.

    It seeded each epoch by its number and by the rank. :class:`reprefine.engine.runner.Runner` saves RNG states, and
    ``randomness = dict(diff_rank_seed=True)`` seeds each process differently.
    """

    def __init__(self) -> None:
        warnings.warn(
            "custom_hooks: 'reprefine.EpochSeedHook' has no effect and will be removed in the next release; remove it, "
            'and use randomness = dict(diff_rank_seed=True) for several processes',
            FutureWarning,
            stacklevel=2,
        )
