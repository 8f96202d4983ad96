"""Makes the tools of the OpenMMLab libraries use the Runner of this package, with one line in a config.

``custom_imports = dict(imports=['reprefine.everywhere'])``: whatever builds mmengine's ``Runner`` from a config, such
as ``tools/train.py`` of mmdet or mmpretrain, then builds :class:`reprefine.engine.runner.Runner`, which locks the
work dir. Nothing else in the config changes. From the import on, files are read safely in the whole process
(:mod:`reprefine.set_up`).
"""

import atexit
import functools
from contextlib import ExitStack

from mmengine.runner import Runner as MMEngineRunner
from mmengine.runner.runner import ConfigType

from reprefine.engine.lock import lock_work_dir
from reprefine.engine.runner import Runner
from reprefine.set_up import set_up

set_up()
_locks = ExitStack()
_from_cfg = MMEngineRunner.from_cfg.__func__


@functools.wraps(_from_cfg)
def from_cfg(cls: type[MMEngineRunner], cfg: ConfigType) -> MMEngineRunner:
    """Build the Runner of a config; for mmengine's, build ours, and lock the work dir until the process ends.

    Raises:
        UserError: If another run has locked the work dir.
    """
    if cls is not MMEngineRunner:
        return _from_cfg(cls, cfg)
    _locks.enter_context(lock_work_dir(cfg['work_dir']))
    return Runner.from_cfg(cfg)


MMEngineRunner.from_cfg = classmethod(from_cfg)
atexit.register(_locks.close)
