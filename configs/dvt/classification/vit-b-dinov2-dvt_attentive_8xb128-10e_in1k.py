_base_ = '../../baselines/classification/attentive/vit-b-dinov2_attentive_8xb128-10e_in1k.py'

denoiser = dict(
    type='reprefine.DVTDenoiser',
    in_channels=768,
    grid=37,
    features=dict(model_id='vit_base_patch14_dinov2.lvd142m'),
    checkpoint='work_dirs/dvt/denoiser/vit-b-dinov2_denoiser_8xb8-100k_voc10k/iter_100000.pth',
)
model = dict(neck=[denoiser, _base_.model.neck])
