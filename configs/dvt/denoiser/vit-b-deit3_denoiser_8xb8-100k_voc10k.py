_base_ = '../../_base_/recipes/dvt_denoiser_8xb8-100k.py'

model = dict(neck=dict(in_channels=768, grid=32))
train_dataloader = dict(dataset=dict(model_id='deit3_base_patch16_224.fb_in1k'))
