_base_ = [
    '../../_base_/models/bisenetv1_r50_18parts.py',
    '../../_base_/datasets/celebamask-hq_448x448.py',
    '../../_base_/schedules/sgd_poly_160k.py',
    'mmseg::_base_/default_runtime.py',
    '../../_base_/reprefine.py',
]

train_dataloader = dict(batch_size=4)
default_hooks = dict(visualization=dict(type='reprefine.FaceVisualizationHook'))
auto_scale_lr = dict(enable=False, base_batch_size=8)
