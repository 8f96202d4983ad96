# Masked auto-encoder of a small ViT on images of 64x64 pixels: 256 patches of 4x4, six blocks of width 96.
arch = dict(embed_dims=96, num_layers=6, num_heads=3, feedforward_channels=384)
decoder = dict(num_patches=256, patch_size=4, decoder_embed_dim=64, decoder_depth=2, decoder_num_heads=2)
loss = dict(type='PixelReconstructionLoss', criterion='L2')
model = dict(
    type='MAE',
    data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[128] * 3, std=[64] * 3, to_rgb=True),
    backbone=dict(type='MAEViT', arch=arch, img_size=64, patch_size=4, mask_ratio=0.75),
    neck=dict(type='MAEPretrainDecoder', embed_dim=96, **decoder),
    head=dict(type='MAEPretrainHead', norm_pix=True, patch_size=4, loss=loss),
)
