_base_ = ['../_base_/vit-b-dinov2-reg.py', '../_base_/denoiser_8xb16-50k.py']

model = dict(neck=dict(in_channels=_base_.denoiser.in_channels, grid=_base_.denoiser.grid))
train_dataloader = dict(dataset=dict(model_id=_base_.denoiser.features.model_id))
