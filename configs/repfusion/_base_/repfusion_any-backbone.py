# Variables for configs that distil the backbone of another config, on its images and by its schedule. The teacher is the
# unconditional ADM of 256x256 pixels; any image is resized to that.
distiller = dict(
    type='reprefine.RepFusionDistiller',
    teacher=dict(
        type='reprefine.DiffusionTeacher',
        source=dict(kind='ADM', checkpoint='data/teachers/256x256_diffusion_uncond.pt', recipe='imagenet256_uncond'),
        layers=[['mid_block.resnets.1.conv2', 1024]],
    ),
    loss=dict(type='reprefine.HintLoss'),
    timestep_source=dict(type='reprefine.UniformTimesteps', max_timestep=50),
)
