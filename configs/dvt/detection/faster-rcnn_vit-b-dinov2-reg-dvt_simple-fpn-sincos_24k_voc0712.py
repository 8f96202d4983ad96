_base_ = [
    '../../baselines/detection/simple_fpn/faster-rcnn_vit-b-dinov2-reg_simple-fpn-sincos_24k_voc0712.py',
    '../_base_/vit-b-dinov2-reg.py',
]

model = dict(neck=[_base_.denoiser, _base_.model.neck])
