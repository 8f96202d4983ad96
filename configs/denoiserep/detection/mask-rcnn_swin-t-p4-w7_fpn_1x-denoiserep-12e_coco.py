# Label-augmented DenoiseRep: predictors of the backbone's 24 MLP layers and the detector are trained epoch by epoch.
_base_ = ['../../baselines/detection/mask-rcnn_swin-t-p4-w7_fpn_1x-finetune-12e_coco.py', '../_base_/phases.py']

model = dict(
    type='reprefine.DenoiseRep', base_type={{_base_.model.type}}, denoise=dict(include='mlp', loss_weight=0.01)
)
custom_hooks = [dict(type='reprefine.DenoisePhaseHook', phase_length=1), _base_.reparameterize]
