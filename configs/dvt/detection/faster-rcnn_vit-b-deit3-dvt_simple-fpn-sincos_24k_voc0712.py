_base_ = '../../baselines/detection/simple_fpn/faster-rcnn_vit-b-deit3_simple-fpn-sincos_24k_voc0712.py'

denoiser = dict(
    type='reprefine.DVTDenoiser',
    in_channels=768,
    grid=32,
    features=dict(model_id='deit3_base_patch16_224.fb_in1k'),
    checkpoint='work_dirs/dvt/denoiser/vit-b-deit3_denoiser_8xb8-100k_voc10k/iter_100000.pth',
)
model = dict(neck=[denoiser, _base_.model.neck])
