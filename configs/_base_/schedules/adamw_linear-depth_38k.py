_base_ = 'mmseg::_base_/schedules/schedule_40k.py'

optim_wrapper = dict(
    _delete_=True,
    optimizer=dict(type='AdamW', lr=5e-3, betas=(0.95, 0.999), weight_decay=0.01),
    clip_grad=dict(max_norm=35.0),
)
# The learning rates multiply; beta1 goes from 0.95 to 0.85 and back. mmengine ends one step before `end`.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=12801),
    dict(type='CosineAnnealingLR', eta_min=5e-11, T_max=38400, by_epoch=False, begin=0, end=38401),
    dict(type='CosineAnnealingMomentum', eta_min=0.85, T_max=11520, by_epoch=False, begin=0, end=11521),
    dict(type='CosineAnnealingMomentum', eta_min=0.95, T_max=26880, by_epoch=False, begin=11520, end=38401),
]
train_cfg = dict(max_iters=38400, val_interval=800)
default_hooks = dict(checkpoint=dict(interval=9600, max_keep_ckpts=1, save_best='abs_rel', rule='less'))
auto_scale_lr = dict(enable=False, base_batch_size=16)
