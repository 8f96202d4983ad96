"""RepFusion on every task: its snippet, and what it takes over a baseline of each."""

from string import Template

from tests.combinations.matrix import R50, START, VIT, Cell, Method

METHOD = Method(
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
