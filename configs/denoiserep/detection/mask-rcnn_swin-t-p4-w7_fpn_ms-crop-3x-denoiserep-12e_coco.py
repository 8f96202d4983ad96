# As from the 1x schedule, but over the detector that was trained for three times as long.
_base_ = ['../../baselines/detection/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x-finetune-12e_coco.py', '../_base_/phases.py']

model = dict(
    type='reprefine.DenoiseRep', base_type={{_base_.model.type}}, denoise=dict(include='mlp', loss_weight=0.01)
)
custom_hooks = [dict(type='reprefine.DenoisePhaseHook', phase_length=1), _base_.reparameterize]
