"""Which objective a slot is for: turns, weights, and text of one's own for each."""

from __future__ import annotations

from itertools import pairwise

import pytest

from xlm_lightning.streaming.turns import Turns


def test_one_objective_has_all_slots() -> None:
    turns = Turns({"clm": [(0, 1.0)]}, 2)
    assert [turns.of_slot(slot) for slot in range(50_000)] == [("clm", s) for s in range(50_000)]
    assert turns.weight("clm", 77) == 1.0


@pytest.mark.parametrize("slots_per_step", [1, 3])
def test_turns_are_taken_step_by_step(slots_per_step: int) -> None:
    turns = Turns({name: [(0, 1.0)] for name in ("clm", "mlm", "tlm")}, slots_per_step)
    steps = 20_000  # beyond what is decided at once
    seen = [turns.of_slot(slot) for slot in range(steps * slots_per_step)]
    names = [name for name, _ in seen[::slots_per_step]]
    assert names == (["clm", "mlm", "tlm"] * steps)[:steps]
    for name in ("clm", "mlm", "tlm"):
        numbers = [number for objective, number in seen if objective == name]
        assert numbers == list(range(len(numbers)))  # each goes through its own text, densely
    for step in range(0, steps * slots_per_step, slots_per_step):
        assert len({name for name, _ in seen[step : step + slots_per_step]}) == 1


def test_an_objective_rests_while_its_weight_is_zero() -> None:
    curves = {"clm": [(0, 1.0)], "mlm": [(0, 0.0), (10, 0.0), (20, 1.0), (30, 0.0)]}
    turns = Turns(curves, 1)
    names = [turns.of_slot(slot)[0] for slot in range(60)]
    assert names[:11] == ["clm"] * 11
    assert set(names[11:30]) == {"clm", "mlm"}
    assert all(a != b for a, b in pairwise(names[11:30]))
    assert names[30:] == ["clm"] * 30
    assert turns.of_slot(31) == ("clm", 31 - names[:31].count("mlm"))
    assert [turns.weight("mlm", slot) for slot in (5, 15, 20, 25, 99)] == [0, 0.5, 1, 0.5, 0]


def test_any_slot_can_be_asked_first() -> None:
    curves = {"clm": [(0, 1.0), (40_000, 0.0)], "mlm": [(0, 1.0)]}
    straight = Turns(curves, 2)
    expected = [straight.of_slot(slot) for slot in range(100_000)]
    assert Turns(curves, 2).of_slot(99_999) == expected[99_999]
    assert expected[99_999][0] == "mlm"
