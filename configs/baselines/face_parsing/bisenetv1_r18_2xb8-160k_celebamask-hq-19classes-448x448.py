# The background as a class of its own, the usual way to report CelebAMask-HQ: not comparable with 18 classes.
_base_ = [
    '../../_base_/models/bisenetv1_r18_18parts.py',
    '../../_base_/datasets/celebamask-hq_448x448.py',
    '../../_base_/schedules/sgd_poly_160k.py',
    'mmseg::_base_/default_runtime.py',
    '../../_base_/reprefine.py',
]

model = dict(
    decode_head=dict(num_classes=19),
    auxiliary_head=[dict(head, num_classes=19) for head in _base_.model.auxiliary_head],
)
train_dataloader = dict(dataset=dict(background='class'))
val_dataloader = dict(dataset=dict(background='class'))
test_dataloader = dict(dataset=dict(background='class'))
default_hooks = dict(visualization=dict(type='reprefine.FaceVisualizationHook'))
auto_scale_lr = dict(enable=False, base_batch_size=16)
