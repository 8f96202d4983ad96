# CLIP ViT-B/16 (LAION-2B), fine-tuned on ImageNet-12k and -1k.
backbone = dict(type='reprefine.TimmViT', model_name='vit_base_patch16_clip_384.laion2b_ft_in12k_in1k', pretrained=True)
# Size of its input where no protocol sets one, and the statistics it was trained with.
native = dict(
    size=512,
    mean=[122.7709383, 116.7460125, 104.09373615],
    std=[68.5005327, 66.6321579, 70.32316305],
)
