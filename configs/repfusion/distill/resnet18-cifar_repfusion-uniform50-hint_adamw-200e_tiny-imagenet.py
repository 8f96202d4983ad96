_base_ = './resnet18-cifar_repfusion-uniform50-hint_200e_tiny-imagenet.py'

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1.25e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=1000),
    dict(type='CosineAnnealingLR', T_max=200, eta_min=1.25e-4 / 100, by_epoch=True, convert_to_iter_based=True),
]
