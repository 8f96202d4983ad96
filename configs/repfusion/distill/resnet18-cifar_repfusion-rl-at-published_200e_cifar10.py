_base_ = './resnet18-cifar_repfusion-rl-hint_200e_cifar10.py'

model = dict(loss=dict(_delete_=True, type='reprefine.AttentionTransferLoss', loss_weight=1000.0))
# As in the released code: no baseline of the reward, and no warm-up.
custom_hooks = [*_base_.fixed_hooks, dict(_base_.selector, baseline='none', warmup_epochs=0)]
