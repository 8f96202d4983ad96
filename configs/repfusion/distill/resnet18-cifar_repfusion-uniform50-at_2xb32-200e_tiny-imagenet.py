# Without averaged weights.
_base_ = './resnet18-cifar_repfusion-uniform50-hint_200e_tiny-imagenet.py'

model = dict(loss=dict(_delete_=True, type='reprefine.AttentionTransferLoss', loss_weight=1000.0))
train_dataloader = dict(batch_size=32)
custom_hooks = _base_.unaveraged_hooks
