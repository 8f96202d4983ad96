_base_ = ['../_base_/vit-b-dino.py', '../_base_/denoiser_8xb8-100k.py']

model = dict(neck=dict(in_channels=_base_.denoiser.in_channels, grid=_base_.denoiser.grid))
train_dataloader = dict(dataset=dict(model_id=_base_.denoiser.features.model_id))
