"""From a config and a checkpoint of its training to a folded model that is known to load and to compute the same."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from torch import nn

from reprefine.deploy.checkpoint import Reparameterization, reparameterize_checkpoint
from reprefine.deploy.examples import examples_of_test_set, random_example
from reprefine.deploy.forms import baseline_config, deploy_config
from reprefine.engine.build import build_model
from reprefine.engine.cost.models import without_pretrained
from reprefine.engine.errors import UserError


def reparameterize_from_config(
    cfg: Config,
    source: str | Path,
    plain: bool = False,
    plain_cfg: Config | None = None,
    shape: tuple[int, int] | None = None,
    must_have_data: bool = False,
    tolerance: float | None = None,
    checkpoint_key: str | None = None,
    revise_keys: Sequence[tuple[str, str]] = (),
) -> tuple[Reparameterization, tuple[int, ...]]:
    """Fold a checkpoint for the deployed or the plain form of its config, whose model must load it strictly.

    Args:
        cfg: Checked config of the training run, of the current default scope.
        source: Checkpoint.
        plain: Fold for the plain config instead of the one with ``deploy=True``.
        plain_cfg: The plain config, which implies ``plain``; None: derived from ``cfg``.
        shape: Height and width of the images to compare on, in pixels; default the model's own.
        must_have_data: Whether a missing test set is an error.
        tolerance: See :func:`~.checkpoint.reparameterize_checkpoint`.
        checkpoint_key: Entry of the source that holds the weights.
        revise_keys: Pairs of pattern and replacement for their names.

    Returns:
        The folding, and channels, height and width of the images.

    Raises:
        UserError: As :func:`~.checkpoint.reparameterize_checkpoint`, and if the test set must be there and is not.
    """
    model = _build(cfg, cfg.model)
    into = _target(cfg, plain, plain_cfg)
    images = examples_of_test_set(cfg, model, must_have_data)
    random = random_example(cfg, model, shape, images[0].inputs if images else None)
    examples = [random, *images]
    is_plain = plain or plain_cfg is not None
    folding = reparameterize_checkpoint(model, source, examples, into, is_plain, tolerance, checkpoint_key, revise_keys)
    return folding, tuple(random.inputs.shape[1:])


def _build(cfg: Config, model: dict) -> nn.Module:
    parts = dict(model=without_pretrained(model), data_preprocessor=cfg.get('data_preprocessor'))
    built = revert_sync_batchnorm(build_model(Config(parts)))
    built.eval()
    return built


def _target(cfg: Config, plain: bool, plain_cfg: Config | None) -> nn.Module | None:
    """Return the model that is to load the folded weights, None if the config does not tell which."""
    if plain_cfg is not None:
        return _build(plain_cfg, plain_cfg.model)
    derived = (baseline_config if plain else deploy_config)(cfg.model)
    if derived != cfg.model:
        return _build(cfg, derived)
    if plain:
        raise UserError('no part of the config tells what its plain form is: give --plain-config FILE')
    return None


def describe(folding: Reparameterization) -> str:
    """Return the report of a fold: what was folded, what it is now, and how equal it is."""
    kinds = sorted(set(folding.layers.values()))
    weights = ' of the moving average of the run' if folding.averaged else ''
    after = sum(parameter.numel() for parameter in folding.written.parameters())
    comparison = folding.comparison
    return (
        f'{len(folding.layers)} modules folded ({", ".join(kinds)}){weights}; parameters {folding.parameters:,} -> '
        f'{after:,}\nlargest difference {comparison.worst[1]:.0e} (tolerance {folding.tolerance:.0e}), on {comparison}'
    )
