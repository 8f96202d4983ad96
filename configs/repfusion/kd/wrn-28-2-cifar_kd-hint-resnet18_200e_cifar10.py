_base_ = '../../baselines/classification/wrn-28-2-cifar_200e_cifar10.py'

model = dict(
    type='reprefine.KDClassifier',
    teacher=dict(
        model=dict(
            type='ImageClassifier',
            backbone=dict(type='ResNet_CIFAR', depth=18),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=512),
        ),
        pretrained='work_dirs/baselines/classification/resnet18-cifar_200e_cifar10/epoch_200.pth',
    ),
    kd=dict(type='reprefine.HintKD', teacher_channels=512, student_channels=128),
)
