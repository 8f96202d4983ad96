"""Where a teacher's UNet and noise schedule come from: a folder, the Hugging Face hub, or a config."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from reprefine.engine.errors import UserError

LOCAL = Path('data/teachers')
_FILES = ['*config.json', 'model_index.json', '*diffusion_pytorch_model.safetensors', '*diffusion_pytorch_model.bin']


def load_unet(source: str | dict[str, Any], scheduler: dict[str, Any] | None = None) -> tuple[nn.Module, Any]:
    """Return a UNet of diffusers and its noise scheduler.

    Args:
        source: Folder written by ``save_pretrained`` (of a pipeline, or of the UNet alone); id on the Hugging Face hub,
            looked up in ``data/teachers/<id>`` first; or a config, ``dict(kind='UNet2DModel', sample_size=32, ...)``,
            which builds the UNet with random weights; or ``dict(kind='ADM', ...)``, the arguments of
            :func:`load_adm`.
        scheduler: Config of a scheduler, ``dict(kind='DDPMScheduler', ...)``; default the one beside the UNet, or
            DDPM's linear schedule of 1000 steps where there is none.

    Raises:
        UserError: If the source is no such thing, or is out of reach.
    """
    if isinstance(source, str):
        unet, found = _from_folder(find_folder(source))
    else:
        unet, found = _from_config(dict(source))
    if scheduler is not None or found is None:
        found = _build(dict(scheduler or {}), 'DDPMScheduler')
    return unet, found


def find_folder(source: str) -> Path:
    """Return the folder that holds the files of ``source``, which is downloaded if it is an id on the hub.

    Raises:
        UserError: If there is none, with the place to put the files.
    """
    for folder in (Path(source).expanduser(), LOCAL / source):
        if folder.is_dir():
            return folder
    if source.count('/') != 1 or source.startswith(('.', '/', '~')):
        raise UserError(f'teacher {source} is no folder: give one written by save_pretrained, or an id on the hub')
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=_FILES))
    except Exception as error:  # the hub, its cache and the network each raise their own
        raise UserError(
            f'teacher {source} is out of reach ({type(error).__name__}): fetch its files where there is a network, '
            f'hf download {source}, and put them into {LOCAL / source}'
        ) from error


def _from_folder(folder: Path) -> tuple[nn.Module, Any]:
    import diffusers

    place = folder / 'unet' if (folder / 'unet').is_dir() else folder
    if not (place / 'config.json').is_file():
        raise UserError(f'{folder} holds no UNet (config.json or unet/config.json): use the folder of save_pretrained')
    name = diffusers.UNet2DModel.load_config(place).get('_class_name', 'UNet2DModel')
    try:
        unet = _unet_class(name).from_pretrained(place, low_cpu_mem_usage=False, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f'the UNet in {place} cannot be read: {error}') from error
    for schedule in (folder / 'scheduler', folder):
        if (schedule / 'scheduler_config.json').is_file():
            config = diffusers.DDPMScheduler.load_config(schedule)
            return unet, diffusers.DDPMScheduler.from_config(config)  # only its table of noise is used
    return unet, None


def _from_config(source: dict[str, Any]) -> tuple[nn.Module, Any]:
    # In a config file the key is `kind`: what stands under `type` there must be registered.
    name = source.pop('kind', 'UNet2DModel')
    if name == 'ADM':
        from .adm import load_adm

        return load_adm(**source)
    return _construct(_unet_class(name), source), None


def _unet_class(name: str) -> type[nn.Module]:
    import diffusers

    if name not in ('UNet2DModel', 'UNet2DConditionModel'):
        raise UserError(f"teacher: unknown UNet '{name}': use UNet2DModel, UNet2DConditionModel or ADM")
    return getattr(diffusers, name)


def _build(config: dict[str, Any], default: str) -> Any:
    import diffusers

    name = config.pop('kind', default)
    if not hasattr(diffusers, name):
        raise UserError(f'teacher: diffusers has no scheduler {name}')
    return _construct(getattr(diffusers, name), config)


def _construct(cls: type, config: dict[str, Any]) -> Any:
    try:
        return cls(**config)
    except (TypeError, ValueError) as error:
        raise UserError(f'teacher: {cls.__name__} cannot be built: {error}') from error


def noise_table(scheduler: Any) -> torch.Tensor:
    """Return the cumulative product of ``1 - beta``, ``[T]`` in float32."""
    return scheduler.alphas_cumprod.float().clone()
