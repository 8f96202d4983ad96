"""Base class of methods that extend a model: a subclass of the base model's type, created when it is built."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from mmengine.registry import MODELS
from torch import Tensor, nn

from reprefine.engine.build import class_of
from reprefine.engine.errors import UserError
from reprefine.engine.losses import rename_task_loss


class Refinement:
    """Mixin of a method that extends a base model.

    In a config: ``model = dict(type=<method>, base_type=<type>, <option_key>=dict(...))``.

    The model is an instance of a cached subclass of the base type, so that attributes, parameter names and checkpoints
    are those of the base model, plus those that the method adds. All other keys of the config are arguments of the base
    type. A method overrides :meth:`refine` and, if needed, :meth:`base_losses`, :meth:`extra_losses` and
    ``switch_to_deploy``.

    Args:
        *args: Arguments of the base type.
        base_type: Type of the base model: a name in the default scope of the config, or a class.
        **kwargs: Arguments of the base type, and the options of the method under its ``option_key``.

    Attributes:
        option_key: Key of the method's options in a config, the arguments of :meth:`refine`.
        config_options: Functions by the key of their arguments in a config, for the check of configs.

    Raises:
        UserError: If the base type is missing, unknown, or itself the type of a method.
    """

    option_key: ClassVar[str]
    config_options: ClassVar[Mapping[str, Callable]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.config_options = {cls.option_key: cls.refine}

    def __new__(cls, *args: Any, base_type: str | type | None = None, **kwargs: Any) -> Self:
        """Create an instance of the subclass of the base type."""
        if not issubclass(cls, nn.Module):
            refined = refined_type(cls, _base_class(cls, base_type, kwargs))
            return refined.__new__(refined, *args, **kwargs)
        new = super().__new__
        return new(cls) if new is object.__new__ else new(cls, *args, **kwargs)

    def __init__(self, *args: Any, base_type: str | type | None = None, **kwargs: Any) -> None:
        options = kwargs.pop(self.option_key, None) or {}
        super().__init__(*args, **kwargs)
        self.refine(**options)

    def refine(self) -> None:
        """Add the method to the base model, after that is built; the arguments are the options of the method."""
        raise NotImplementedError

    def base_losses(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the loss dict of the base model for a batch from the data preprocessor."""
        return super().forward(*args, mode='loss', **kwargs)

    def extra_losses(self) -> dict[str, Tensor]:
        """Return the entries that the method adds to the loss dict, after the base model has run."""
        return {}

    def forward(self, *args: Any, mode: str = 'tensor', **kwargs: Any) -> Any:
        """Run the base model; in the mode ``'loss'`` add the losses of the method to its losses.

        A loss that the base model calls ``loss`` is renamed to ``loss_task``: mmengine logs the sum of all losses as
        ``loss``.
        """
        if mode != 'loss':
            return super().forward(*args, mode=mode, **kwargs)
        return rename_task_loss(self.base_losses(*args, **kwargs)) | self.extra_losses()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles create the subclass by :func:`refined_type`, because no module defines it by name."""
        mixin, base = type(self).refines
        return _restore, (mixin, base), self.__getstate__()


@functools.cache
def refined_type(mixin: type[Refinement], base: type[nn.Module]) -> type[nn.Module]:
    """Return the subclass of a base model's type that extends it by a method.

    Args:
        mixin: The method.
        base: Type of the base model.
    """
    names = dict(__module__=mixin.__module__, __doc__=base.__doc__, refines=(mixin, base))
    return type(f'{mixin.__name__}{base.__name__}', (mixin, base), names)


def refined_base_type_message(name: str, base_type: str | type) -> str:
    """Return the error message for a method whose base type is itself the type of a method.

    Args:
        name: Name of the method's type.
        base_type: Its base type.
    """
    return (
        f"base_type='{base_type}' of {name} has a base_type of its own: apply one of the two methods to a part of the "
        'model, such as its backbone'
    )


def _restore(mixin: type[Refinement], base: type[nn.Module]) -> nn.Module:
    cls = refined_type(mixin, base)
    return cls.__new__(cls)


def _base_class(mixin: type[Refinement], base_type: str | type | None, others: Mapping[str, Any]) -> type[nn.Module]:
    if base_type is None:
        raise UserError(missing_base_type_message(mixin.__name__, mixin.option_key, others))
    base = class_of(MODELS, dict(type=base_type))
    if base is None:
        raise UserError(f"base_type='{base_type}' of {mixin.__name__} is not a registered model: check its spelling")
    if hasattr(base, 'config_options'):
        raise UserError(refined_base_type_message(mixin.__name__, base_type))
    if not (isinstance(base, type) and issubclass(base, nn.Module)):
        raise UserError(f"base_type='{base_type}' of {mixin.__name__} is not a model: give a subclass of nn.Module")
    return base


def missing_base_type_message(name: str, option_key: str, nested: Mapping[str, Any], path: str = 'model') -> str:
    """Return the error message for a config without ``base_type``, with the config to write instead.

    Args:
        name: Name of the method's type.
        option_key: Key of its options.
        nested: The config, which may be in the former form, with the base model nested as ``model`` or ``module``.
        path: Key of the config in the whole config.
    """
    options = dict(nested.get(option_key) or {})
    if 'model' in nested or 'module' in nested:
        others = ('type', 'model', 'module', 'data_preprocessor', option_key, '_scope_')
        options |= {key: value for key, value in nested.items() if key not in others}
    written = ', '.join(f'{key}={value!r}' for key, value in options.items())
    return (
        f'{name} takes the keys of the base model beside its own: inherit the config of the base model and write '
        f"dict(type='reprefine.{name}', base_type={{{{_base_.{path}.type}}}}, {option_key}=dict({written}))"
    )
