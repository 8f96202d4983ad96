"""Loading of a teacher's UNet and noise scheduler from a folder, the Hugging Face Hub, or a config."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from reprefine.engine.errors import UserError

LOCAL_TEACHERS = Path('data/teachers')
_FILES = ['*config.json', 'model_index.json', '*diffusion_pytorch_model.safetensors', '*diffusion_pytorch_model.bin']


def load_unet(source: str | dict[str, Any], scheduler: dict[str, Any] | None = None) -> tuple[nn.Module, Any]:
    """Return a UNet of diffusers and its noise scheduler.

    Args:
        source: One of the following. A folder written by ``save_pretrained`` of a pipeline or of the UNet. An id on the
            Hugging Face Hub; ``data/teachers/<id>`` takes precedence. A config, ``dict(kind='UNet2DModel',
            sample_size=32, ...)``, of a UNet with random weights. ``dict(kind='ADM', ...)``, with the arguments of
            :func:`load_adm`.
        scheduler: Config of a scheduler, ``dict(kind='DDPMScheduler', ...)``; default: that of the pipeline, or else
            DDPM's linear schedule of 1000 timesteps.

    Raises:
        UserError: If the source is none of these, or cannot be loaded.
    """
    if isinstance(source, str):
        unet, noise_scheduler = _from_folder(find_folder(source))
    else:
        unet, noise_scheduler = _from_config(dict(source))
    if scheduler is not None or noise_scheduler is None:
        noise_scheduler = _build_scheduler(dict(scheduler or {}))
    return unet, noise_scheduler


def find_folder(source: str) -> Path:
    """Return the local folder of a teacher; one on the Hugging Face Hub is downloaded.

    Args:
        source: Folder, or id on the Hub.

    Raises:
        UserError: If there is no such folder, or the download fails.
    """
    for folder in (Path(source).expanduser(), LOCAL_TEACHERS / source):
        if folder.is_dir():
            return folder
    if source.count('/') != 1 or source.startswith(('.', '/', '~')):
        raise UserError(f'teacher {source} is no folder: give one written by save_pretrained, or an id on the hub')
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=_FILES))
    except Exception as error:  # the Hub, its cache and the network each raise their own
        raise UserError(
            f'teacher {source} cannot be downloaded ({type(error).__name__}): run hf download {source} on a machine '
            f'with network access, and put the files into {LOCAL_TEACHERS / source}'
        ) from error


def _from_folder(folder: Path) -> tuple[nn.Module, Any]:
    import diffusers

    unet_folder = folder / 'unet' if (folder / 'unet').is_dir() else folder
    if not (unet_folder / 'config.json').is_file():
        raise UserError(f'{folder} has no config.json or unet/config.json: give a folder written by save_pretrained')
    name = diffusers.UNet2DModel.load_config(unet_folder).get('_class_name', 'UNet2DModel')
    try:
        unet = _unet_class(name).from_pretrained(unet_folder, low_cpu_mem_usage=False, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f'the UNet in {unet_folder} cannot be read: {error}') from error
    for schedule in (folder / 'scheduler', folder):
        if (schedule / 'scheduler_config.json').is_file():
            config = diffusers.DDPMScheduler.load_config(schedule)
            return unet, diffusers.DDPMScheduler.from_config(config)  # only its noise schedule is used
    return unet, None


def _from_config(source: dict[str, Any]) -> tuple[nn.Module, Any]:
    # The key is `kind`, because a `type` in a config must be registered.
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


def _build_scheduler(config: dict[str, Any]) -> Any:
    import diffusers

    name = config.pop('kind', 'DDPMScheduler')
    if not hasattr(diffusers, name):
        raise UserError(f"teacher: diffusers has no scheduler '{name}': use one of its classes, such as DDPMScheduler")
    return _construct(getattr(diffusers, name), config)


def _construct(cls: type, config: dict[str, Any]) -> Any:
    try:
        return cls(**config)
    except (TypeError, ValueError) as error:
        raise UserError(f'teacher: {cls.__name__} cannot be built: {error}') from error


def get_alphas_cumprod(scheduler: Any) -> torch.Tensor:
    """Return ``alphas_cumprod`` of a scheduler, the cumulative product of ``1 - beta``, ``[T]`` in float32."""
    return scheduler.alphas_cumprod.float().clone()
