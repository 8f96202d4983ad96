# ViT-B/16 for images of 384x128; see reid_vit-small.py.
_base_ = './reid_vit-small.py'

# TransReID-SSL, pre-trained on LUPerson.
luperson = 'checkpoints/vit-base_luperson.pth'
load_from_command = f'python tools/model_converters/import_transreid_ssl.py vit_base_ics_cfs_lup.pth {luperson}'

model = dict(
    backbone=dict(
        arch=dict(embed_dims=768, num_layers=12, num_heads=12, feedforward_channels=3072), img_size=(384, 128)
    ),
    head=dict(in_channels=768),
)
