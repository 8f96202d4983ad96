# Attention pooling and a linear classifier on the patch features of a frozen ViT, 10 epochs of ImageNet.
# Published is no more than that: input size, heads, optimiser and schedule are ours.
_base_ = ['mmpretrain::_base_/datasets/imagenet_bs64.py', 'mmpretrain::_base_/default_runtime.py']

custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
model = dict(
    type='ImageClassifier',
    neck=dict(type='reprefine.AttentivePool', in_channels=768),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=768, loss=dict(type='CrossEntropyLoss')),
)
train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=128)
test_dataloader = val_dataloader
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=9, by_epoch=True, begin=1, end=10, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=1)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
auto_scale_lr = dict(enable=False, base_batch_size=1024)
