# Distillation of transformer and denoiser into the transformer: 5 epochs of 2503 iterations with 512 images.
_base_ = '../../_base_/runtime.py'

model = dict(
    type='reprefine.DVTDistiller',
    neck=dict(type='reprefine.DVTDenoiser'),
    data_preprocessor=dict(type='ImgDataPreprocessor', bgr_to_rgb=True),
)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=2.8284271247461903e-4, betas=(0.9, 0.999), weight_decay=1e-5))
param_scheduler = [dict(type='reprefine.DenoiserLR', total=12515)]
train_cfg = dict(by_epoch=True, max_epochs=5)
