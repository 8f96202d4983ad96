"""DenoiseRep on every task: its snippet, and what it takes over a baseline of each."""

from tests.combinations.matrix import R50, VIT, Cell, Method

METHOD = Method(
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
