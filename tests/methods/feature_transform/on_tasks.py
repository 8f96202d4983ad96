"""Feature transformation on every task: its snippet, and what it takes over a baseline of each."""

from string import Template

from tests.combinations.matrix import R50, START, VIT, Cell, Method

METHOD = Method(
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
