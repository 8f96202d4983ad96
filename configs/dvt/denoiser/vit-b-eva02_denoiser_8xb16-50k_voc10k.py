_base_ = '../../_base_/recipes/dvt_denoiser_8xb16-50k.py'

model = dict(neck=dict(in_channels=768, grid=32))
train_dataloader = dict(dataset=dict(model_id='eva02_base_patch16_clip_224.merged2b'))
