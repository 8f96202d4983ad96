# Label-free DenoiseRep on the training images of four datasets at once. --data-root: their common folder.
_base_ = [
    '../../baselines/reid/vit-small_finetune-240e_dukemtmc-256x128.py',
    '../_base_/phases.py',
    '../../_base_/datasets/reid-merged.py',
]

model = dict(
    type='reprefine.DenoiseRep',
    base_type={{_base_.model.type}},
    denoise=dict(include='mlp', label_free=True, loss_weight=1.0),
)
# In place of the doubled rate of biases, also for the predictors' biases.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(denoiser=dict(lr_mult=4.0))))
train_dataloader = dict(batch_sampler=None, dataset=dict(_base_.merged, _delete_=True, pipeline=_base_.train_pipeline))
custom_hooks = _base_.predictors_only
