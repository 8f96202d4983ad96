# The strong baseline of ResNet-50 ("bag of tricks"), for batches of 64 images.
optim_wrapper = dict(optimizer=dict(type='Adam', lr=3.5e-4, weight_decay=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=11),
    dict(type='MultiStepLR', milestones=[40, 70], gamma=0.1, by_epoch=True),
]
train_cfg = dict(by_epoch=True, max_epochs=120, val_interval=20)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=64)
