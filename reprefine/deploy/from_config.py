"""Reparameterisation of a checkpoint by its config, from which the deployed or the baseline config is derived."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from torch import nn

from reprefine.engine.build import build_model
from reprefine.engine.cost.models import without_pretrained
from reprefine.engine.errors import UserError

from .checkpoint import Reparameterization, reparameterize_checkpoint
from .examples import examples_of_test_set, random_example
from .forms import baseline_config, deploy_config


def reparameterize_from_config(
    cfg: Config,
    source: str | Path,
    to_baseline: bool = False,
    baseline_cfg: Config | None = None,
    shape: tuple[int, int] | None = None,
    must_have_data: bool = False,
    tolerance: float | None = None,
    checkpoint_key: str | None = None,
    revise_keys: Sequence[tuple[str, str]] = (),
) -> tuple[Reparameterization, tuple[int, ...]]:
    """Reparameterise a checkpoint for the deployed or the baseline config, whose model must load it strictly.

    Args:
        cfg: Checked config of the training run, of the current default scope.
        source: Checkpoint.
        to_baseline: Write the checkpoint for the baseline config instead of the one with ``deploy=True``.
        baseline_cfg: The baseline config, which implies ``to_baseline``; None: derived from ``cfg``.
        shape: Height and width of the images to compare on, in pixels; default the model's own.
        must_have_data: Raise an error if the test set is missing.
        tolerance: See :func:`~.checkpoint.reparameterize_checkpoint`.
        checkpoint_key: Entry of the source that holds the weights.
        revise_keys: Pairs of regular expression and replacement for the names of the weights.

    Returns:
        The result, and channels, height and width of the images.

    Raises:
        UserError: As :func:`~.checkpoint.reparameterize_checkpoint`, and if the test set is missing but required.
    """
    model = _build(cfg, cfg.model)
    into = _target(cfg, to_baseline, baseline_cfg)
    images = examples_of_test_set(cfg, model, must_have_data)
    random = random_example(cfg, model, shape, images[0].inputs if images else None)
    examples = [random, *images]
    to_baseline = to_baseline or baseline_cfg is not None
    result = reparameterize_checkpoint(
        model, source, examples, into, to_baseline, tolerance, checkpoint_key, revise_keys
    )
    return result, tuple(random.inputs.shape[1:])


def _build(cfg: Config, model: dict) -> nn.Module:
    parts = dict(model=without_pretrained(model), data_preprocessor=cfg.get('data_preprocessor'))
    built = revert_sync_batchnorm(build_model(Config(parts)))
    built.eval()
    return built


def _target(cfg: Config, to_baseline: bool, baseline_cfg: Config | None) -> nn.Module | None:
    """Return the model that is to load the result, None if the config derived from ``cfg`` is ``cfg`` itself."""
    if baseline_cfg is not None:
        return _build(baseline_cfg, baseline_cfg.model)
    derived = (baseline_config if to_baseline else deploy_config)(cfg.model)
    if derived != cfg.model:
        return _build(cfg, derived)
    if to_baseline:
        raise UserError('no baseline config can be derived from the config: give it by --plain-config FILE')
    return None


def describe(result: Reparameterization) -> str:
    """Return the report of a reparameterisation: layers, numbers of parameters, and the largest difference."""
    kinds = sorted(set(result.layers.values()))
    weights = ' of the moving average of the run' if result.averaged else ''
    after = sum(parameter.numel() for parameter in result.written.parameters())
    comparison = result.comparison
    return (
        f'{len(result.layers)} modules reparameterised ({", ".join(kinds)}){weights}; '
        f'parameters {result.parameters:,} -> {after:,}\n'
        f'largest difference {comparison.worst[1]:.0e} (tolerance {result.tolerance:.0e}), on {comparison}'
    )
