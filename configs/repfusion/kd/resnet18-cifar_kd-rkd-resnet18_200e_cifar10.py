_base_ = './resnet18-cifar_kd-hint-resnet18_200e_cifar10.py'

model = dict(kd=dict(_delete_=True, type='reprefine.RelationalKD', weight=1.0))
