_base_ = [
    '../../baselines/classification/attentive/vit-b-eva02_attentive_8xb128-10e_in1k.py',
    '../_base_/vit-b-eva02.py',
]

model = dict(neck=[_base_.denoiser, _base_.model.neck])
