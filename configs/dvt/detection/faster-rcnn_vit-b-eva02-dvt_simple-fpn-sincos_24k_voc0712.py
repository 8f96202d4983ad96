_base_ = [
    '../../baselines/detection/simple_fpn/faster-rcnn_vit-b-eva02_simple-fpn-sincos_24k_voc0712.py',
    '../_base_/vit-b-eva02.py',
]

model = dict(neck=[_base_.denoiser, _base_.model.neck])
