"""Comparing the cost of two models in one process, on the same inputs."""

import gc
from collections.abc import Sequence

import torch
from mmengine.config import Config
from torch import nn

from reprefine.engine.errors import UserError

from .counting import count_module_costs, count_parameters
from .inputs import InputBatch, loader_batch, random_batch
from .memory import HOW_MEASURED, peak_memory
from .method_costs import method_cost_rows
from .models import build_untrained, deployed_copy
from .phases import Phase, paired_spreads, training_phases, weighted_sum
from .rows import TRAINED, CostRow, Settings, constant_row
from .workloads import Workloads

SIDES = ('', "baseline's ")


class CostComparison:
    """Compare the model of a config with that of a baseline.

    Args:
        config: Complete config. Both models get its training data.
        baseline: Complete config of the baseline.
        settings: Settings of the comparison.

    Raises:
        UserError: Models of different libraries, an unknown device, or a missing data root that the user named.
    """

    def __init__(self, config: Config, baseline: Config, settings: Settings):
        self.configs = (config, baseline)
        self.names = (str(config.filename), str(baseline.filename))
        scopes = [cfg.get('default_scope') for cfg in self.configs]
        if scopes[0] != scopes[1]:
            raise UserError(f'config and baseline belong to different libraries ({scopes[0]}, {scopes[1]})')
        self.settings = settings
        self.device = _device(settings)
        self.no_data = ''
        self.phases = [training_phases(cfg) for cfg in self.configs]
        self.train_batch = self._training_batch()
        self.input_batch = self._input_batch()
        self.workloads = Workloads(settings, self.device, self.train_batch, self.input_batch)

    def run(self) -> list[CostRow]:
        """Measure the parts of the settings."""
        parts = self.settings.parts
        rows = self._memory() if 'memory' in parts else []
        models = [build_untrained(cfg, self.device) for cfg in self.configs]
        forms = [self._inference_form(model) for model in models]
        added = method_cost_rows(self.configs, self.workloads, 'flops' in parts, self.no_data)
        rows = self._counts(forms) + added + rows
        if 'inference' in parts:
            rows.append(self._inference_latency(forms))
        if 'train' in parts:
            rows += self._train_time(models)
        return rows

    def notes(self) -> list[str]:
        """Return explanations of the rows."""
        return [
            'weights are random; both models start from the same seed; data loading and hooks are not included',
            'times: both models alternately (A B, B A, ...); median and interquartile range over the rounds; the ratio '
            'is taken within each round',
            'training step: preprocessing, loss, backward pass, optimiser step; inference: mode=predict without '
            'preprocessing',
            'FLOPs: two per multiply-add of matrix products, convolutions and attention, other operators none; of a '
            'training step forward and backward, on average over its schedule',
            'training parameters and FLOPs by method: the methods are removed one after the other, outermost first; a '
            'row is what its method adds to the model with those within it, and the rows add up to the total above; a '
            'negative one saves, as phases without the backward pass of the task do',
            f'memory: {HOW_MEASURED[self.device.type]}; separate pass, two training steps',
            'phases: each is measured and compared with the whole schedule of the other side; the time of the whole '
            'schedule is the sum weighted by their shares, its memory the peak over all phases one after the other',
        ]

    def _training_batch(self) -> InputBatch | None:
        try:
            return loader_batch(self.configs[0], batch_size=self.settings.batch_size)
        # Raised by the OpenMMLab libraries for missing files; other errors keep their traceback.
        except (OSError, AssertionError, UserError) as error:
            if self.settings.data_root_given:
                raise UserError(f'no training batch: {error}') from error
            self.no_data = f'no training batch ({type(error).__name__}: {" ".join(str(error).split())})'
            return None

    def _input_batch(self) -> InputBatch:
        if self.train_batch and not self.settings.input_shape:
            return self.train_batch
        cfg = self.configs[0]
        size = self.settings.batch_size or (cfg.get('train_dataloader') or {}).get('batch_size') or 1
        return random_batch(cfg, self.settings.input_shape, size)

    def _inference_form(self, model: nn.Module) -> nn.Module:
        return deployed_copy(model) if self.settings.deploy else model

    def _counts(self, models: Sequence[nn.Module]) -> list[CostRow]:
        form, source = self.settings.form, self.input_batch.source
        rows = [constant_row('parameters', '', [count_parameters(model) for model in models], form, source)]
        if 'flops' in self.settings.parts:
            flops = [count_module_costs(model, self.input_batch)[0].flops for model in models]
            rows.append(constant_row('forward FLOPs per image', 'FLOP', flops, form, source))
        return rows

    def _memory(self) -> list[CostRow]:
        """Measure the models one after the other, each alone on the device."""
        peaks = [self._inference_memory(cfg) for cfg in self.configs]
        inference = constant_row('inference peak memory', 'byte', peaks, self.settings.form, self.input_batch.source)
        name = 'training peak memory'
        if self.train_batch is None:
            return [inference, CostRow(name, 'byte', TRAINED, not_measured=self.no_data)]
        total = [self._train_memory(cfg, phases) for cfg, phases in zip(self.configs, self.phases, strict=True)]
        rows = []
        for side, phase in self._named_phases():
            alone = self._train_memory(self.configs[side], [phase])
            values = [alone, total[1]] if side == 0 else [total[0], alone]
            rows.append((phase.title(name, SIDES[side]), values))
        rows.append((self._total_name(name), total))
        source = self.train_batch.source
        return [inference, *(constant_row(title, 'byte', values, TRAINED, source) for title, values in rows)]

    def _named_phases(self) -> list[tuple[int, Phase]]:
        return [(side, phase) for side, phases in enumerate(self.phases) for phase in phases if phase.name]

    def _total_name(self, name: str) -> str:
        return f'{name}, whole schedule' if self._named_phases() else name

    def _inference_memory(self, cfg: Config) -> int:
        gc.collect()
        model = self._inference_form(build_untrained(cfg)).to(self.device)
        return peak_memory(model, self.workloads.predict(model)())

    def _train_memory(self, cfg: Config, phases: Sequence[Phase]) -> int:
        gc.collect()
        model = build_untrained(cfg, self.device)
        prepare = self.workloads.train_step(model, self.workloads.build_optim_wrapper(cfg, model))
        # The first step allocates gradients and optimizer state, which the second has beside its activations; the first
        # phase runs again with the state of the others.
        rounds = [(phase, [prepare(), prepare()]) for phase in [*phases, *phases[: len(phases) - 1]]]

        def run() -> None:
            for phase, steps in rounds:
                phase.apply(model)
                for step in steps:
                    step()

        return peak_memory(model, run)

    def _inference_latency(self, models: Sequence[nn.Module]) -> CostRow:
        prepare = tuple(self.workloads.predict(model) for model in models)
        times = paired_spreads(*self.workloads.time(prepare))
        return CostRow('inference latency per batch', 's', self.settings.form, self.input_batch.source, *times)

    def _train_time(self, models: Sequence[nn.Module]) -> list[CostRow]:
        name = 'training step'
        if self.train_batch is None:
            return [CostRow(name, 's', TRAINED, not_measured=self.no_data)]
        optimizers = [
            self.workloads.build_optim_wrapper(cfg, model) for cfg, model in zip(self.configs, models, strict=True)
        ]
        sides = [(side, phase) for side, phases in enumerate(self.phases) for phase in phases]
        prepare = [self.workloads.train_step(models[side], optimizers[side], phase) for side, phase in sides]
        seconds = self.workloads.time(prepare)
        first = len(self.phases[0])
        total = [weighted_sum(self.phases[0], seconds[:first]), weighted_sum(self.phases[1], seconds[first:])]
        rows = [
            (phase.title(name, SIDES[side]), (alone, total[1]) if side == 0 else (total[0], alone))
            for (side, phase), alone in zip(sides, seconds, strict=True)
            if phase.name
        ]
        rows.append((self._total_name(name), tuple(total)))
        return [CostRow(title, 's', TRAINED, self.train_batch.source, *paired_spreads(*pair)) for title, pair in rows]


def _device(settings: Settings) -> torch.device:
    try:
        device = torch.device(settings.device)
    except RuntimeError as error:
        raise UserError(f'unknown device {settings.device!r}; try cpu or cuda:0') from error
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise UserError(f'device {settings.device!r}: torch sees no CUDA device; use --device cpu')
    return device
