# At 224 pixels the last step of the fourth stage is never taken: its parameters get no gradient.
_base_ = '../../baselines/classification/resnet50_8xb32-wide-crop_in1k.py'

model = dict(backbone=dict(type='reprefine.PDResNet', attention=dict(type='reprefine.GEBlock')))
find_unused_parameters = True
