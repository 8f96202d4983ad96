"""Methods that are the base model: a subclass of the base model's type, made when a config asks for it."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from mmengine.registry import MODELS
from torch import Tensor, nn

from reprefine.engine.build import class_of
from reprefine.engine.errors import UserError
from reprefine.engine.losses import rename_task_loss


class Refinement:
    """Mixin that makes a method of a model: ``model = dict(type=<method>, base_type=<type>, <option_key>=dict(...))``.

    The model is an instance of a subclass of the base type, cached, so that attributes, parameter names and checkpoints
    are those of the base model, plus what the method adds. All other keys of the config are arguments of the base type.
    A method overrides :meth:`refine`, and as needed :meth:`base_losses`, :meth:`extra_losses` and
    ``switch_to_deploy``.

    Args:
        *args: Arguments of the base type.
        base_type: Type of the base model, a name that the default scope of the config knows, or a class.
        **kwargs: Arguments of the base type, and the options of the method under its ``option_key``.

    Attributes:
        option_key: Key of the method's own options in a config, which :meth:`refine` takes.
        config_options: What takes the dict under a key, for the check of configs.

    Raises:
        UserError: If the base type is missing, unknown, or refined itself.
    """

    option_key: ClassVar[str]
    config_options: ClassVar[Mapping[str, Callable]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.config_options = {cls.option_key: cls.refine}

    def __new__(cls, *args: Any, base_type: str | type | None = None, **kwargs: Any) -> Self:
        """Make an instance of the subclass of the base type."""
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
        """Add the method to the base model, which has been built; the arguments are the options of the method."""
        raise NotImplementedError

    def base_losses(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the loss dict of the base model for a batch from the data preprocessor."""
        return super().forward(*args, mode='loss', **kwargs)

    def extra_losses(self) -> dict[str, Tensor]:
        """Return what the method adds to the loss dict, once the base model has run."""
        return {}

    def forward(self, *args: Any, mode: str = 'tensor', **kwargs: Any) -> Any:
        """Run the base model; its losses gain those of the method.

        A loss that the base model calls ``loss`` becomes ``loss_task``: mmengine logs the sum of all losses under the
        former name.
        """
        if mode != 'loss':
            return super().forward(*args, mode=mode, **kwargs)
        return rename_task_loss(self.base_losses(*args, **kwargs)) | self.extra_losses()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles make the subclass anew, which no module holds by name."""
        mixin, base = type(self).refines
        return _restore, (mixin, base), self.__getstate__()


@functools.cache
def refined_type(mixin: type[Refinement], base: type[nn.Module]) -> type[nn.Module]:
    """Return the subclass of a base model's type that a method makes of it.

    Args:
        mixin: The method.
        base: Type of the base model.
    """
    names = dict(__module__=mixin.__module__, __doc__=base.__doc__, refines=(mixin, base))
    return type(f'{mixin.__name__}{base.__name__}', (mixin, base), names)


def two_methods(name: str, base_type: str | type) -> str:
    """Return why a method is not applied to what is refined itself, and the remedy.

    Args:
        name: Name of the method's type.
        base_type: What it would be applied to.
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
        raise UserError(flat_form(mixin.__name__, mixin.option_key, others))
    base = class_of(MODELS, dict(type=base_type))
    if base is None:
        raise UserError(f"base_type='{base_type}' of {mixin.__name__} is no registered model: check its spelling")
    if hasattr(base, 'config_options'):
        raise UserError(two_methods(mixin.__name__, base_type))
    if not (isinstance(base, type) and issubclass(base, nn.Module)):
        raise UserError(f"base_type='{base_type}' of {mixin.__name__} is no model: name the class of one")
    return base


def flat_form(name: str, option_key: str, nested: Mapping[str, Any], path: str = 'model') -> str:
    """Return what to write instead of a config that lacks ``base_type``, such as the former nested form.

    Args:
        name: Name of the method's type.
        option_key: Key of its options.
        nested: The config, in the nested form with the base model under ``model`` or ``module``.
        path: Where in a config it stands.
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
