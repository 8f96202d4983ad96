_base_ = [
    '../../baselines/classification/attentive/vit-b-dinov2-reg_attentive_8xb128-10e_in1k.py',
    '../_base_/vit-b-dinov2-reg.py',
]

model = dict(neck=[_base_.denoiser, _base_.model.neck])
