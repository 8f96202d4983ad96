"""Any method on any task: one config snippet per method, and its values for a baseline of each task.

The tests of this folder run every cell, and :mod:`.matrix_page` writes ``docs/methods_and_tasks.md`` from these tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Template

from tests.helpers.methods import declared

TASKS = ('classification', 'reid', 'detection', 'segmentation', 'face_parsing', 'landmarks', 'depth')
MAX_LINES = 8


@dataclass(frozen=True)
class Cell:
    """A method on a task.

    Attributes:
        baseline: Config of the baseline, below ``configs/baselines`` and without suffix.
        values: Values of the snippet's placeholders.
        reason: Why the method does not apply to the task; empty if it does.
        refusal: Pattern of the error message of an attempt, if the method does not apply.
    """

    baseline: str
    values: Mapping[str, str] = field(default_factory=dict)
    reason: str = ''
    refusal: str = ''


@dataclass(frozen=True)
class Method:
    """A method, its snippet and its seven cells.

    Attributes:
        title: Its name in prose.
        readme: Folder of ``configs`` with its README.
        about: Description of the snippet, for the page.
        files: Texts of the snippet's configs by file name, with the placeholders of :class:`string.Template`.
        cells: The method on each task.
        link: Prefix of the config keys of the last config that name a checkpoint; empty if there are none.
        is_deployable: Whether the trained model can be reparameterised into the baseline.
    """

    title: str
    readme: str
    about: str
    files: Mapping[str, str]
    cells: Mapping[str, Cell]
    link: str = ''
    is_deployable: bool = False

    def configs(self, task: str, **values: str) -> dict[str, str]:
        """Return the text of each config of the snippet for a task.

        Args:
            task: One of :data:`TASKS`.
            values: Values of placeholders that do not depend on the task.
        """
        cell = self.cells[task]
        known = dict(baseline=cell.baseline) | cell.values | values
        return {name: Template(text).substitute(known) for name, text in self.files.items()}


R50 = dict(
    classification='classification/resnet50_8xb32_in1k',
    reid='reid/r50_120e_market1501-256x128',
    detection='detection/retinanet_r50_fpn_1x_coco',
    segmentation='segmentation/fcn_r50-d8_4xb4-160k_ade20k-512x512',
    face_parsing='face_parsing/bisenetv1_r18_2xb8-160k_celebamask-hq-448x448',
    landmarks='landmarks/r50_2xb64-60e_wflw-256x256',
)
VIT = dict(
    classification='classification/vit-tiny_digits',
    reid='reid/vit-small_120e_market1501-256x128',
    segmentation='segmentation/vit-b-dinov2_linear_8xb2-40k_voc12-512x512',
    depth='depth/vit-b-dinov2_linear_8xb2-38k_nyu-416x544',
)

START = """\
_base_ = 'reprefine::baselines/$baseline.py'
start = dict(type='Pretrained', checkpoint='work_dirs/$stage/$checkpoint', prefix='$prefix')
model = dict(backbone=dict(_base_.model.backbone, _delete_=True, init_cfg=start))
min_load_ratio = 1.0
"""


def methods() -> tuple[Method, ...]:
    """Return the methods that declare their cells, as ``METHOD`` in ``tests/methods/<method>/on_tasks.py``."""
    return tuple(module.METHOD for module in declared('on_tasks').values())
