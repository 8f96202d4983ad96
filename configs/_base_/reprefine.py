# Registers reprefine's modules under every OpenMMLab tool that reads the config.
custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
