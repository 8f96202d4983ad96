# From the features of our closed form, stage1/vit-b-mae_denoise-closed-form_768views.py.
_base_ = './vit-b-mae_denoiser_8xb8-100k_voc10k.py'

train_dataloader = dict(
    dataset=dict(data_root='data/dvt/closed-form', made_with=dict(_delete_=True, solver='closed-form'))
)
