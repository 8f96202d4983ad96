"""PDDR on every task: its snippet, and what it takes over a baseline of each."""

from tests.combinations.matrix import R50, VIT, Cell, Method

METHOD = Method(
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
