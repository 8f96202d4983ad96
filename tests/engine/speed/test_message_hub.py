"""The histories of the deferred message hub equal those of mmengine's hub: as read, as saved and as resumed."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub

from reprefine.engine.speed import message_hub
from reprefine.engine.speed.message_hub import DeferredMessageHub, get_deferred_hub, read_scalars

VALUES = [
    0.1, torch.tensor(1 / 3), torch.tensor([[2.5]], dtype=torch.float64), torch.tensor(0.1, dtype=torch.bfloat16),
    3, torch.tensor(7), torch.tensor(True), np.float32(0.3), np.array([4]), True, float('nan'), torch.tensor(-0.0),
]  # fmt: skip


def hubs():
    """mmengine's hub and the deferred hub, neither of them registered by its name."""
    return MessageHub('stock'), DeferredMessageHub('deferred')


def feed(hub):
    every = range(len(VALUES))
    for number, order in enumerate((range(4), range(4)[::-1], every, every[::-1])):
        for position, index in enumerate(order):
            hub.update_scalar(f'train/{number}', VALUES[index], count=1 + position % 3)
            hub.update_scalars({'val/x': dict(value=VALUES[index], count=2), 'val/y': VALUES[index]}, resumed=False)


def assert_same(hub, other):
    assert list(hub.log_scalars) == list(other.log_scalars)
    for key, history in hub.log_scalars.items():
        for array, expected in zip(history.data, other.get_scalar(key).data, strict=True):
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array, expected)


def test_values_counts_and_types_of_any_mixture_are_those_of_mmengine():
    stock, deferred = hubs()
    feed(stock)
    feed(deferred)
    assert type(deferred) is DeferredMessageHub
    assert deferred._pending
    assert_same(stock, deferred)
    assert not deferred._pending


@pytest.mark.parametrize('method', ['mean', 'min', 'max', 'current'])
@pytest.mark.parametrize('last', [0.25, torch.tensor(0.75), 3])
def test_statistics_include_pending_values(method, last):
    stock, deferred = hubs()
    for hub in (stock, deferred):
        for value in (1, 0.5, torch.tensor(0.3), 2.5, last):
            hub.update_scalar('x', value)
    results = [hub.get_scalar('x').statistics(method) for hub in (stock, deferred)]
    assert results[0] == results[1]
    assert type(results[0]) is type(results[1])
    assert_same(stock, deferred)


def test_oldest_values_are_dropped_as_by_mmengine():
    stock, deferred = hubs()
    for hub in (stock, deferred):
        hub.update_scalar('x', 0.0)
        hub.get_scalar('x').max_length = 5
        for index in range(1, 14):
            hub.update_scalar('x', torch.tensor(index / 3), count=index)
            if index == 4:
                assert len(hub.get_scalar('x').data[0]) == 5
    assert_same(stock, deferred)
    assert deferred.get_scalar('x').data[1].tolist() == [9, 10, 11, 12, 13]


def test_tensor_changed_afterwards_keeps_the_value_it_had():
    _, hub = hubs()
    total = torch.zeros(())
    for _ in range(3):
        hub.update_scalar('x', total.add_(1))
    assert hub.get_scalar('x').data[0].tolist() == [1, 2, 3]


def test_values_are_held_without_their_graph():
    _, hub = hubs()
    weight = torch.ones((), requires_grad=True)
    hub.update_scalar('x', weight * 2)
    hub.update_scalar('x', weight * 3)
    ((value, _),) = hub._pending['x']
    assert not value.requires_grad


def test_number_of_pending_values_is_bounded(monkeypatch):
    monkeypatch.setattr(message_hub, 'MAX_PENDING', 10)
    _, hub = hubs()
    for index in range(106):
        hub.update_scalar('x' if index % 2 else 'y', torch.tensor(float(index)))
        assert all(len(values) < 10 for values in hub._pending.values())
    assert hub.get_scalar('x').data[0].tolist() == [float(index) for index in range(1, 106, 2)]


def test_state_holds_histories_of_mmengine_and_either_hub_loads_it():
    stock, deferred = hubs()
    feed(stock)
    feed(deferred)
    for source, target in ((deferred, MessageHub('a')), (stock, DeferredMessageHub('b'))):
        state = source.state_dict()
        assert {type(history) for history in state['log_scalars'].values()} == {HistoryBuffer}
        assert not any(key.startswith('val/') for key in state['log_scalars'])
        target.load_state_dict(pickle.loads(pickle.dumps(state)))
        feed(target)
    feed(stock)
    feed(deferred)
    loaded = [MessageHub('c'), MessageHub('d')]
    for hub, source in zip(loaded, (stock, deferred), strict=True):
        hub.load_state_dict(source.state_dict())
    assert_same(*loaded)


def test_saved_bytes_are_those_of_mmengine():
    stock, deferred = hubs()
    files = []
    for hub in (stock, deferred):
        for value in (1.5, torch.tensor(0.5), 2.5):
            hub.update_scalar('x', value)
        file = io.BytesIO()
        torch.save(hub.state_dict(), file)
        files.append(file.getvalue())
    assert files[0] == files[1]


def test_numbers_of_any_type_stay_pending():
    _, hub = hubs()
    for _ in range(2):
        for name, value in enumerate((1, 0.5, np.float32(2), np.array([3]), torch.tensor(4))):
            hub.update_scalar(f'{name}', value)
    assert [len(values) for values in hub._pending.values()] == [1] * 5


def test_one_history_is_returned_without_reading_the_others():
    _, hub = hubs()
    for value in (1.0, 2.0):
        hub.update_scalar('time', value)
        hub.update_scalar('loss', torch.tensor(value))
    assert hub.get_scalar('time').data[0].tolist() == [1, 2]
    assert hub._pending.keys() == {'loss'}
    with pytest.raises(KeyError, match='other'):
        hub.get_scalar('other')


def test_host_libraries_get_it_by_its_name():
    hub = get_deferred_hub('a hub of a run')
    assert type(hub) is DeferredMessageHub
    assert MessageHub.get_instance('a hub of a run') is hub is MessageHub.get_current_instance()
    assert get_deferred_hub('a hub of a run') is hub
    stock = MessageHub.get_instance('a hub of other code')
    assert get_deferred_hub('a hub of other code') is stock
    assert type(stock) is MessageHub


def test_resumed_hub_defers_again():
    _, deferred = hubs()
    feed(deferred)
    resumed = DeferredMessageHub('r')
    resumed.load_state_dict(copy.deepcopy(deferred.state_dict()))
    resumed.update_scalar('train/0', torch.tensor(5.0))
    assert resumed._pending['train/0']
    assert resumed.get_scalar('train/0').current() == 5


def test_contradictory_use_is_refused_as_by_mmengine():
    for hub in hubs():
        hub.update_scalar('x', 1.0)
        hub.update_scalar('x', 1.0)
        with pytest.raises(AssertionError):
            hub.update_scalar('x', 1.0, resumed=False)
        with pytest.raises(AssertionError):
            hub.update_scalar('x', torch.ones(2))
        with pytest.raises((AssertionError, TypeError)):  # mmengine fails to format its message
            hub.update_scalar('x', 1.0, count=1.5)


def test_one_transfer_for_each_kind_of_tensor(monkeypatch):
    reads = []
    real = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, 'tolist', lambda tensor: reads.append(len(tensor)) or real(tensor))
    values = [torch.tensor(1.5), 0.1, torch.tensor(2), torch.tensor(2.5), torch.tensor([3.5])]
    assert read_scalars(values) == [1.5, 0.1, 2, 2.5, 3.5]
    assert sorted(reads) == [1, 3]
