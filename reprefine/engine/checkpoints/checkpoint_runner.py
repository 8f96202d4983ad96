"""A Runner with atomic checkpoint writes, weights-only reading and a report of what was loaded."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast, is_main_process
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from reprefine.engine.errors import UserError

from . import integrity
from .checkpoint import raise_on_all_ranks, read_checkpoint, without_config
from .entries import select_weights
from .method_keys import added_names
from .pretrained import check_same_files, refuse_other_forms, require_load_ratio
from .random_init_warning import record_loaded_modules, warn_random_init
from .rename_keys import MODULE_PREFIX
from .weights import check_finite, check_match, load_weights

MIN_LOAD_RATIO = 0.5
ANY_WEIGHT = 1e-9  # a ratio below that of any single weight, required even with min_load_ratio=0


class CheckpointRunner(Runner):
    """mmengine's Runner with the checks of this package on every checkpoint that it reads or writes.

    The top-level config key ``min_load_ratio`` is the fraction of the model's elements that a checkpoint must load,
    default 0.5. It also applies to the parts of the model whose ``init_cfg`` names a checkpoint. Resuming and testing
    require all of them. ``checkpoint_key`` and ``revise_keys`` select and rename the weights of ``load_from``, see
    :func:`.entries.select_weights`.
    """

    _load_from: str | None
    _resume: bool

    def _init_model_weights(self) -> None:
        model = self._bare_model()
        # A resumed run loads its own weights afterwards.
        min_ratio = 0.0 if self._resume else self.cfg.get('min_load_ratio', MIN_LOAD_RATIO)
        check_same_files(model)
        with (
            raise_on_all_ranks(),
            require_load_ratio(min_ratio),
            refuse_other_forms(model),
            record_loaded_modules(model) as loaded,
        ):
            if hasattr(model, 'init_weights'):
                model.init_weights()
        for tensor in model.state_dict().values():
            broadcast(tensor)
        if not (self._resume or self._load_from):
            warn_random_init(model, loaded, self.cfg.get('model'))

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint as mmengine does; on a local disk atomically, with a checksum beside it.

        Args:
            out_dir: Folder.
            filename: Name of the file.
            *args: As mmengine's.
            **kwargs: As mmengine's.

        Raises:
            UserError: If the disk is full.
        """
        if '://' in str(out_dir):
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        with integrity.atomic_checkpoint(Path(out_dir, filename), is_main_process()) as partial:
            super().save_checkpoint(out_dir, partial.name, *args, **kwargs)

    def load_or_resume(self) -> None:
        """Load ``load_from``; resuming without it takes the latest valid checkpoint of the work directory."""
        if self._resume and self._load_from is None:
            self._load_from = integrity.find_latest_checkpoint(self.work_dir)
            self._resume = self._load_from is not None
        super().load_or_resume()

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Continue the run that wrote ``filename``.

        Raises:
            UserError: If the file holds weights only, or those of another model.
        """
        self._resume = True  # load_checkpoint then requires a full match, also if resume is called directly
        super().resume(filename, *args, **kwargs)

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] = MODULE_PREFIX,
    ) -> dict[str, Any]:
        """Load weights; if it fails on one rank, all ranks raise.

        Args:
            filename: Local path or URL.
            map_location: As in :func:`torch.load`.
            strict: Whether the whole model must be loaded.
            revise_keys: Pairs of pattern and replacement for the names in the file.

        Returns:
            The checkpoint.

        Raises:
            UserError: If the file is missing, corrupted or unsafe to load, lacks the entry, or loads too little.
        """
        with raise_on_all_ranks():
            content = checkpoint = read_checkpoint(filename, map_location)
            if not self._resume:
                options = (self.cfg.get('checkpoint_key'), self.cfg.get('revise_keys') or ())
                checkpoint = select_weights(content, filename, *options)
            elif not {'meta', 'message_hub', 'optimizer'} <= checkpoint.keys():
                raise UserError(f'checkpoint {filename} holds no training state: give it as load_from, not to resume')
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        min_ratio = 1.0 if strict or self._resume else self.cfg.get('min_load_ratio', MIN_LOAD_RATIO)
        with raise_on_all_ranks():
            model = self._bare_model()
            # A refinement starts from a checkpoint of its baseline, which lacks what the refinement adds.
            allowed_missing = added_names(model) if min_ratio < 1 else ()
            match = load_weights(model, checkpoint, revise_keys, allowed_missing)
            check_match(match, filename, max(min_ratio, ANY_WEIGHT), model, content)
            check_finite(model, filename)
        self._has_loaded = True
        level = logging.INFO if match.exact else logging.WARNING
        self.logger.log(level, f'Load checkpoint from {filename}: {match}')
        return without_config(checkpoint)

    def _bare_model(self) -> nn.Module:
        """Return the model without its wrappers, whose prefixes are not part of the keys of checkpoints."""
        model = self.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        return model
