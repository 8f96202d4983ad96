# A small ViT on scenes of 64x64 pixels: 256 patches of 4x4, six blocks of width 96. tools/model_converters/mae_to_timm.py writes its
# checkpoint from that of the pre-training.
backbone = dict(
    type='reprefine.TimmViT',
    model_name='vit_tiny_patch16_224',
    img_size=64,
    model_args=dict(patch_size=4, embed_dim=96, depth=6, num_heads=3),
    checkpoint='work_dirs/dvt/demo/mae_vit-p4_ade20k-64px/vit.pth',
)
# Size and statistics it was trained with.
native = dict(size=64, mean=[128] * 3, std=[64] * 3)
