_base_ = '../../baselines/classification/attentive/vit-b-deit3_attentive_8xb128-10e_in1k.py'

denoiser = dict(
    type='reprefine.DVTDenoiser',
    in_channels=768,
    grid=32,
    features=dict(model_id='deit3_base_patch16_224.fb_in1k'),
    checkpoint='work_dirs/dvt/denoiser/vit-b-deit3_denoiser_8xb8-100k_voc10k/iter_100000.pth',
)
model = dict(neck=[denoiser, _base_.model.neck])
