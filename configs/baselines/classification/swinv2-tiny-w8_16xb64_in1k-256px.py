_base_ = 'mmpretrain::swin_transformer_v2/swinv2-tiny-w8_16xb64_in1k-256px.py'

custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
