# EVA-02 CLIP ViT-B/16.
backbone = dict(type='reprefine.TimmViT', model_name='eva02_base_patch16_clip_224.merged2b', pretrained=True)
# Size of its input where no protocol sets one, and the statistics it was trained with.
native = dict(
    size=512,
    mean=[122.7709383, 116.7460125, 104.09373615],
    std=[68.5005327, 66.6321579, 70.32316305],
)
