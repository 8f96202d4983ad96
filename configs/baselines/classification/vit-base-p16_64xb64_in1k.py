_base_ = ['mmpretrain::vision_transformer/vit-base-p16_64xb64_in1k.py', '../../_base_/reprefine.py']
