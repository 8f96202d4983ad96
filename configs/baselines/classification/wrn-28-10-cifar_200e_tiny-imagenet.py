_base_ = './wrn-28-2-cifar_200e_tiny-imagenet.py'

model = dict(backbone=dict(widen_factor=10), head=dict(in_channels=640))
