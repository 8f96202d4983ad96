_base_ = './resnet18-cifar_kd-hint-wrn-28-10_200e_tiny-imagenet.py'

model = dict(
    backbone=dict(_delete_=True, type='reprefine.MobileNetV2CIFAR'),
    head=dict(in_channels=1280),
    kd=dict(student_channels=1280),
)
