# The official recipe from scratch.
_base_ = 'mmpose::face_2d_keypoint/topdown_heatmap/wflw/td-hm_hrnetv2-w18_8xb64-60e_wflw-256x256.py'

custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
model = dict(backbone=dict(init_cfg=None))
train_dataloader = dict(batch_size=128)
auto_scale_lr = dict(base_batch_size=256)
val_evaluator = [
    dict(type='NME', norm_mode='keypoint_distance'),
    dict(type='reprefine.LandmarkErrorRates'),
]
test_evaluator = val_evaluator
