"""A method of a few lines, as the three folders that CONTRIBUTING.md asks for."""

FILES = {
    'reprefine/methods/feature_penalty/__init__.py': '''"""Feature penalty: keeps the features of a backbone small."""

from .functional import mean_square
from .model import FeaturePenalty

__all__ = ['FeaturePenalty', 'mean_square']
''',
    'reprefine/methods/feature_penalty/functional.py': '''"""The formula of the feature penalty as a pure function."""

from torch import Tensor


def mean_square(features: tuple[Tensor, ...]) -> Tensor:
    """Return the mean square of each feature, summed; a scalar."""
    return sum((feature.square().mean() for feature in features[1:]), features[0].square().mean())
''',
    'reprefine/methods/feature_penalty/model.py': '''"""The base model with the penalty added to its losses."""

from typing import Any

from torch import Tensor, nn

from reprefine.models.refinement import Refinement
from reprefine.registry import MODELS

from .functional import mean_square


@MODELS.register_module()
class FeaturePenalty(Refinement):
    """Adds ``loss_penalty``, the weighted mean square of the backbone's features."""

    option_key = 'penalty'

    def refine(self, weight: float = 0.01) -> None:
        """Watch the features.

        Args:
            weight: Weight of the penalty.
        """
        self.weight = weight
        self.backbone.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, inputs: Any, outputs: tuple[Tensor, ...]) -> None:
        """Keep the penalty of a forward pass."""
        self.penalty = mean_square(outputs)

    def extra_losses(self) -> dict[str, Tensor]:
        """Return the penalty of the last forward pass."""
        return dict(loss_penalty=self.weight * self.__dict__.pop('penalty'))
''',
    'configs/feature_penalty/classification/vit-tiny_feature-penalty_digits.py': """\
_base_ = '../../baselines/classification/vit-tiny_digits.py'

model = dict(type='reprefine.FeaturePenalty', base_type={{_base_.model.type}}, penalty=dict(weight=0.01))
""",
    'configs/feature_penalty/README.md': """# Feature penalty

Keeps features small.

## Configs

[`vit-tiny_feature-penalty_digits.py`](classification/vit-tiny_feature-penalty_digits.py), on the digits.

## Results

Not measured.

## Cost

One pass over the features.

## Implementation details

The mean square of every feature.

## Citation

None.
""",
    'configs/feature_penalty/metafile.yml': """Collections:
  - Name: Feature penalty
    README: configs/feature_penalty/README.md
Models:
  - Name: vit-tiny_feature-penalty_digits
    In Collection: Feature penalty
    Config: configs/feature_penalty/classification/vit-tiny_feature-penalty_digits.py
""",
    'tests/methods/feature_penalty/__init__.py': '',
    'tests/methods/feature_penalty/subject.py': '''"""The training that the tests of guarantees run."""

CONFIG = 'feature_penalty/classification/vit-tiny_feature-penalty_digits'
CHANGES = 'model = dict(backbone=dict(img_size=32, patch_size=16, arch=dict(num_layers=1)))'
''',
    'tests/methods/feature_penalty/test_functional.py': """import torch

from reprefine.methods.feature_penalty import mean_square


def test_mean_square_of_constants():
    assert mean_square((torch.full((2, 3), 2.0), torch.full((1, 4), 3.0))) == 13
""",
    'tests/methods/feature_penalty/test_resume.py': """\
from tests.helpers.killed import assert_equal_runs, kill_and_resume, train_config
from tests.helpers.subjects import write_subject


def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    config = write_subject('feature_penalty', tmp_path).config
    for runs in kill_and_resume(train_config, config, folder=tmp_path):
        assert_equal_runs(*runs)
""",
    'tests/methods/feature_penalty/configs/__init__.py': '',
    'tests/methods/feature_penalty/configs/test_classification.py': """import pytest

from tests.configs.walk import configs_below, train_and_test


@pytest.mark.parametrize('path', configs_below('feature_penalty/classification'), ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)
""",
}
