# TransReID-SSL, for batches of 64 images. The warm-up of 20 epochs starts at 0.01 lr and the cosine ends at 0.002 lr.
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=4e-4, momentum=0.9, weight_decay=1e-4),
    # Every bias, also those of norms, which bias_lr_mult would leave out.
    paramwise_cfg=dict(custom_keys={'bias': dict(lr_mult=2.0)}),
)
param_scheduler = dict(type='reprefine.WarmupCosineLR', period=120, warmup=20)
train_cfg = dict(by_epoch=True, max_epochs=120, val_interval=20)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=64)
