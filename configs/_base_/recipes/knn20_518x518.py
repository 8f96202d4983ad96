# The 20 nearest labelled features of the training images vote. Whoever inherits sets backbone and classes.
_base_ = 'mmseg::_base_/default_runtime.py'

custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=1,
    ),
    decode_head=dict(type='reprefine.KNNHead', in_channels=768, num_neighbors=20),
    test_cfg=dict(mode='whole'),
)
# Not of the paper: patches vote with their shares of the classes, weighted by similarity; a sample of 500,000 of them.
of_30_patches = dict(entries='patches', num_neighbors=30, temperature=0.02, max_entries=500000)

# One pass over the training images fills the memory bank; no weight is trained.
train_cfg = dict(type='reprefine.MemoryBankLoop')
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(constructor='reprefine.NothingToTrain', optimizer=dict(type='SGD', lr=0.0))
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)
log_processor = dict(by_epoch=True)
