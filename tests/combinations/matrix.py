"""Any method on any task: one config snippet per method, and its values for a baseline of each task.

The tests of this folder run every cell, and :mod:`.matrix_page` writes ``docs/methods_and_tasks.md`` from these tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Template

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

DENOISEREP = Method(
    title='DenoiseRep',
    readme='denoiserep',
    about='The trained model of the task gets noise predictors in the selected layers. Predictors and backbone are '
    'trained in alternating phases, by the schedule of the baseline and a tenth of its learning rate. Finally the '
    'predictors are merged into their layers.',
    files={
        'refine.py': """\
_base_ = 'reprefine::baselines/$baseline.py'
load_from = 'work_dirs/baselines/$baseline/$checkpoint'
model = dict(
    type='reprefine.DenoiseRep', base_type={{_base_.model.type}}, denoise=dict(include='$include', loss_weight=0.01)
)
phases = dict(type='reprefine.DenoisePhaseHook', $phases)
custom_hooks = [*_base_.get('custom_hooks', []), phases, dict(type='reprefine.ReparameterizeHook')]
optim_wrapper = dict(optimizer=dict(lr=$lr))
find_unused_parameters = True
"""
    },
    cells=dict(
        classification=Cell(VIT['classification'], dict(include='mlp', phases='phase_length=5')),
        reid=Cell(VIT['reid'], dict(include='mlp', phases='phase_length=10')),
        detection=Cell(R50['detection'], dict(include='conv', phases='phase_length=1')),
        segmentation=Cell(
            'segmentation/segformer_mit-b0_8xb2-160k_ade20k-512x512',
            dict(include='conv', phases="phase_length=10000, by='iter'"),
        ),
        face_parsing=Cell(R50['face_parsing'], dict(include='conv', phases="phase_length=10000, by='iter'")),
        landmarks=Cell('landmarks/hrnetv2-w18_2xb128-60e_wflw-256x256', dict(include='conv', phases='phase_length=5')),
        depth=Cell(VIT['depth'], dict(include='mlp', phases="phase_length=2000, by='iter'")),
    ),
    link='load_from',
    is_deployable=True,
)
START = """\
_base_ = 'reprefine::baselines/$baseline.py'
start = dict(type='Pretrained', checkpoint='work_dirs/$stage/$checkpoint', prefix='$prefix')
model = dict(backbone=dict(_base_.model.backbone, _delete_=True, init_cfg=start))
min_load_ratio = 1.0
"""
REPFUSION = Method(
    title='RepFusion',
    readme='repfusion',
    about='The backbone of the task learns the features of a diffusion model, on the images and by the schedule of the '
    'baseline, without labels. Then the task is trained from it.',
    files={
        'distill.py': """\
_base_ = [
    'reprefine::baselines/$baseline.py',
    'reprefine::repfusion/_base_/repfusion_any-backbone.py',
]
pixels = _base_.model.get('data_preprocessor') or _base_.data_preprocessor
student = dict(student=dict(backbone=$backbone), student_layers=['$student_layers'])
model = dict(_base_.distiller, _delete_=True, data_preprocessor=pixels, **student)
custom_hooks = [*_base_.get('custom_hooks', []), dict(type='reprefine.DrawCountHook')]
val_cfg = val_dataloader = val_evaluator = None
""",
        'finetune.py': Template(START).safe_substitute(stage='distill', prefix='student.backbone.'),
    },
    cells={
        task: Cell(baseline, dict(backbone='_base_.model.backbone', student_layers='backbone.layer4'))
        for task, baseline in R50.items()
    }
    | dict(
        face_parsing=Cell(R50['face_parsing'], dict(backbone='_base_.model.backbone', student_layers='backbone')),
        depth=Cell(VIT['depth'], dict(backbone='dict(_base_.model.backbone, frozen=False)', student_layers='backbone')),
    ),
    link='model.backbone.init_cfg',
)
FEATURE_TRANSFORM = Method(
    title='Feature transformation',
    readme='feature_transform',
    about='The backbone of the task is pre-trained by MoCo v2 with transformed features, on the images and by the '
    'schedule of the baseline, without labels. Then the task is trained from it.',
    files={
        'pretrain.py': """\
_base_ = [
    'reprefine::baselines/$baseline.py',
    'reprefine::feature_transform/_base_/moco-v2-ft_any-backbone.py',
]
backbone, neck = dict(_base_.model.backbone, $backbone), dict(_base_.contrast.neck, in_channels=$in_channels)
model = dict(_base_.contrast, _delete_=True, backbone=backbone, neck=neck)
train_dataloader = dict(dataset=dict(pipeline=_base_.two_views), collate_fn=dict(type='default_collate'))
val_cfg = val_dataloader = val_evaluator = None
""",
        'finetune.py': Template(START).safe_substitute(stage='pretrain', prefix='backbone.'),
    },
    cells={
        task: Cell(baseline, dict(backbone='out_indices=(3,)', in_channels='2048')) for task, baseline in R50.items()
    }
    | dict(
        face_parsing=Cell(R50['face_parsing'], dict(backbone='out_indices=(0,)', in_channels='256')),
        depth=Cell(VIT['depth'], dict(backbone='frozen=False, with_cls_token=False', in_channels='768')),
    ),
    link='model.backbone.init_cfg',
)
PDDR = Method(
    title='PDDR',
    readme='pddr',
    about='Every 3x3 convolution of the backbone before a batch norm is trained as parallel disentangled branches, '
    'which are reparameterised into one convolution.',
    files={
        'train.py': """\
_base_ = 'reprefine::baselines/$baseline.py'
pd = dict(mode='A', group_num='auto')
model = dict(backbone=dict(type='reprefine.PDConverted', base_type={{_base_.model.backbone.type}}, pd=pd))
"""
    },
    cells={task: Cell(baseline) for task, baseline in R50.items()}
    | dict(
        depth=Cell(
            VIT['depth'],
            reason='the baselines are vision transformers, which have no convolution to disentangle',
            refusal='no convolution can be disentangled',
        )
    ),
    is_deployable=True,
)
NO_PATCHES = 'the baseline classifies the class token, and a denoiser needs patch features'
NO_POSITIONS = 'the baseline is a convolutional network, whose features have no artifacts of position embeddings'
DVT = Method(
    title='DVT',
    readme='dvt',
    about='A trained denoiser is the neck between a frozen ViT and the head. It was trained without labels, by one of '
    'the configs in `configs/dvt/denoiser`.',
    files={
        'train.py': """\
_base_ = 'reprefine::baselines/$baseline.py'
features = dict(model_id='vit_base_patch14_dinov2.lvd142m')
denoiser = 'work_dirs/dvt/denoiser/vit-b-dinov2_denoiser_8xb8-100k_voc10k/$denoiser'
neck = dict(type='reprefine.DVTDenoiser', in_channels=768, grid=37, features=features, checkpoint=denoiser)
model = dict(neck=$neck)
"""
    },
    cells=dict(
        classification=Cell(
            'classification/attentive/vit-b-dinov2_attentive_8xb128-10e_in1k', dict(neck='[neck, _base_.model.neck]')
        ),
        reid=Cell(VIT['reid'], dict(neck='dict(neck, _delete_=True)'), NO_PATCHES, 'not a feature map'),
        detection=Cell(R50['detection'], dict(neck='dict(neck, _delete_=True)'), NO_POSITIONS, 'channels'),
        segmentation=Cell(VIT['segmentation'], dict(neck='neck')),
        face_parsing=Cell(R50['face_parsing'], dict(neck='neck'), NO_POSITIONS, 'channels'),
        landmarks=Cell(R50['landmarks'], dict(neck='dict(neck, _delete_=True)'), NO_POSITIONS, 'channels'),
        depth=Cell(VIT['depth'], dict(neck='neck')),
    ),
    link='model.neck.',
)
METHODS = (DENOISEREP, DVT, REPFUSION, PDDR, FEATURE_TRANSFORM)
