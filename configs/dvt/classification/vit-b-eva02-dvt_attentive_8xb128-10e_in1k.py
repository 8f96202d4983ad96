_base_ = '../../baselines/classification/attentive/vit-b-eva02_attentive_8xb128-10e_in1k.py'

denoiser = dict(
    type='reprefine.DVTDenoiser',
    in_channels=768,
    grid=32,
    features=dict(model_id='eva02_base_patch16_clip_224.merged2b'),
    checkpoint='work_dirs/dvt/denoiser/vit-b-eva02_denoiser_8xb8-100k_voc10k/iter_100000.pth',
)
model = dict(neck=[denoiser, _base_.model.neck])
