_base_ = [
    '../_base_/unet-small_32px.py',
    '../../_base_/datasets/mnist5k_32px.py',
    '../_base_/diffusion_teacher.py',
]

# Twice as many channels in the bottleneck. A constant learning rate, so that the training can be extended for as long as
# the features improve; the checkpoints are kept to see that.
model = dict(unet=dict(_base_.unet, block_out_channels=(16, 32, 64, 128)))
val_evaluator = dict(_delete_=True, type='reprefine.DenoisingError')
test_evaluator = dict(_delete_=True, type='reprefine.DenoisingError')
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.0), clip_grad=dict(max_norm=1.0))
param_scheduler = [dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=200)]
train_cfg = dict(by_epoch=True, max_epochs=60, val_interval=20)
default_hooks = dict(checkpoint=dict(interval=5, max_keep_ckpts=-1))
averaging = dict(_base_.averaging, momentum=0.005)
custom_hooks = [averaging, *_base_.teacher_hooks]
