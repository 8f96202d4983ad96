# Equal-budget control of DenoiseRep: 12 more epochs from the official checkpoint, no noise predictor.
_base_ = './mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'

# Box AP / mask AP 42.7 / 39.3.
weights = 'https://download.openmmlab.com/mmdetection/v2.0/swin/mask_rcnn_swin-t-p4-w7_fpn_1x_coco/'
load_from = weights + 'mask_rcnn_swin-t-p4-w7_fpn_1x_coco_20210902_120937-9d6b7cfa.pth'
optim_wrapper = dict(optimizer=dict(lr=1e-5))
