# A linear classifier on the frozen features of the narrow ResNet, without its backbone's layers and weights.
model = dict(
    type='ImageClassifier',
    backbone=dict(frozen_stages=3, norm_eval=True),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=64, loss=dict(type='CrossEntropyLoss')),
)
# Images of the size of the pre-training, without augmentation.
plain = [dict(type='Resize', scale=32), dict(type='PackInputs')]
