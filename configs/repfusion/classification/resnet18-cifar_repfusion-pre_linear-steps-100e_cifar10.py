# The schedule in steps, at a lower rate.
_base_ = './resnet18-cifar_repfusion-pre_linear-100e_cifar10.py'

optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = dict(_delete_=True, type='MultiStepLR', milestones=[50, 75], gamma=0.1, by_epoch=True)
