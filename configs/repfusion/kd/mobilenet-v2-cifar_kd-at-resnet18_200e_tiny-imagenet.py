_base_ = './mobilenet-v2-cifar_kd-hint-resnet18_200e_tiny-imagenet.py'

model = dict(kd=dict(_delete_=True, type='reprefine.AttentionKD', weight=10.0))
