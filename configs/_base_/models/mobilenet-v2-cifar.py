model = dict(
    type='ImageClassifier',
    backbone=dict(type='reprefine.MobileNetV2CIFAR'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=1280, loss=dict(type='CrossEntropyLoss')),
)
