# Equal-budget control of DenoiseRep: 240 more epochs from the baseline's checkpoint, no denoiser.
_base_ = './vit-small_120e_dukemtmc-256x128.py'

# The checkpoint of that run; or an official one, imported by tools/model_converters/import_transreid_ssl.py.
load_from = 'work_dirs/baselines/reid/vit-small_120e_dukemtmc-256x128/epoch_120.pth'
optim_wrapper = dict(type='AmpOptimWrapper', optimizer=dict(lr=1e-4))
param_scheduler = dict(period=240)
train_cfg = dict(max_epochs=240)
train_dataloader = dict(batch_size=128)  # 32 identities with 4 images each
auto_scale_lr = dict(base_batch_size=128)
