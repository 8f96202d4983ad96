_base_ = '../../baselines/classification/resnet18-cifar_200e_cifar10.py'

model = dict(
    type='reprefine.KDClassifier',
    teacher=dict(
        model=dict(
            type='ImageClassifier',
            backbone=dict(type='reprefine.WideResNetCIFAR', depth=28, widen_factor=10),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=640),
        ),
        pretrained='work_dirs/baselines/classification/wrn-28-10-cifar_200e_cifar10/epoch_200.pth',
    ),
    kd=dict(type='reprefine.LogitsKD'),
)
