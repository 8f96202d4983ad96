_base_ = './resnet18_repfusion-uniform50-hint_200e_in1k.py'

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=2.5e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=6260),
    dict(type='CosineAnnealingLR', T_max=100, eta_min=2.5e-4 / 100, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=100)
