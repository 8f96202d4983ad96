# Trained classifiers of CIFAR-10 that teach others by ordinary distillation.
resnet18 = dict(
    model=dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet_CIFAR', depth=18),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=512),
    ),
    pretrained='work_dirs/baselines/classification/resnet18-cifar_200e_cifar10/epoch_200.pth',
)
wrn_28_2 = dict(
    model=dict(
        type='ImageClassifier',
        backbone=dict(type='reprefine.WideResNetCIFAR', depth=28, widen_factor=2),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=128),
    ),
    pretrained='work_dirs/baselines/classification/wrn-28-2-cifar_200e_cifar10/epoch_200.pth',
)
wrn_28_10 = dict(
    model=dict(
        type='ImageClassifier',
        backbone=dict(type='reprefine.WideResNetCIFAR', depth=28, widen_factor=10),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=640),
    ),
    pretrained='work_dirs/baselines/classification/wrn-28-10-cifar_200e_cifar10/epoch_200.pth',
)
