"""The task kits: what OpenMMLab lacks for one benchmark each."""
