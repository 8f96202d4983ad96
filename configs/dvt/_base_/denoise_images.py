# Per-image denoising; what each entry means: reprefine/methods/dvt/stage1/settings.py.
custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
out_dir = 'data/dvt/closed-form'  # for the features; the solvers do not share a folder
stage1 = dict(
    solver='closed-form',
    profile='paper',
    field=dict(),
    closed_form=dict(),
    num_views=768,
    coord_mode='endpoint',
    resize_interpolation='bicubic',
    batch_size=32,
    feature_dtype='float32',
    feature_device='same',
    amp=False,
    images_at_once=1,
    storage_dtype='float32',
    recenter=False,
    seed=0,
)
