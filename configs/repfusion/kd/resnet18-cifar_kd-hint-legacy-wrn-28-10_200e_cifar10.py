# As in the released code, where no optimiser had the linear map: a random projection that stays.
_base_ = './resnet18-cifar_kd-hint-wrn-28-10_200e_cifar10.py'

model = dict(kd=dict(legacy_frozen_map=True))
