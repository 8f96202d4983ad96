_base_ = [
    '../../baselines/detection/simple_fpn/faster-rcnn_vit-b-deit3_simple-fpn-sincos_24k_voc0712.py',
    '../_base_/vit-b-deit3.py',
]

model = dict(neck=[_base_.denoiser, _base_.model.neck])
