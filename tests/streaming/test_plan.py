"""The plan: single languages, shares, whole passes, random access, and a pinned order."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from xlm_lightning.errors import UserError
from xlm_lightning.streaming.plan import CHUNK, PLAN_VERSION, Plan, Slot

GOLDEN = Path(__file__).with_name("golden_plan.json")
BLOCKS = {"en": [40, 23, 64, 9, 31, 64], "de": [17, 64, 5], "fr": [3]}
Block = tuple[int, int, int]


def blocks_of(slot: Slot) -> list[Block]:
    pairs = zip(slot.shard.tolist(), slot.block.tolist(), strict=True)
    return [(slot.language, shard, block) for shard, block in pairs]


def test_the_first_thousand_slots_are_pinned() -> None:
    """To change them on purpose: raise PLAN_VERSION and write the new values to the file."""
    plan = Plan(2026, 5, BLOCKS, 0.7)
    slots = [plan.slot(number) for number in range(1000)]
    languages = "".join(str(slot.language) for slot in slots)
    blocks = [[slot.shard.tolist(), slot.block.tolist()] for slot in slots]
    digest = hashlib.sha256(json.dumps(blocks).encode()).hexdigest()
    golden = json.loads(GOLDEN.read_text())
    assert golden["plan_version"] == PLAN_VERSION
    assert blocks[:20] == golden["first_blocks"]
    assert languages == golden["languages"]
    assert digest == golden["blocks_sha256"]


def test_shares_of_the_languages() -> None:
    plan = Plan(0, 1, {"de": [3000, 1000], "en": [6000]}, 0.7)
    weights = {"de": 0.4**0.7, "en": 0.6**0.7}
    expected = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    assert plan.probabilities == pytest.approx(expected)
    count = 100_000
    for language, drawn in plan.counts(count).items():
        sigma = (count * expected[language] * (1 - expected[language])) ** 0.5
        assert abs(drawn - count * expected[language]) < 3 * sigma


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_alpha_goes_from_equal_shares_to_the_sizes(alpha: float) -> None:
    shares = Plan(0, 1, {"de": [1], "en": [3]}, alpha).probabilities
    assert shares == pytest.approx({"de": 0.25, "en": 0.75} if alpha else {"de": 0.5, "en": 0.5})


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_a_pass_holds_every_block_once(world_size: int) -> None:
    """The slots of all ranks together, read rank by rank as the ranks do."""
    plans = [Plan(7, 4, BLOCKS, 1.0) for _ in range(world_size)]
    per_rank = [
        [plan.slot(number) for number in range(rank, 480, world_size)]
        for rank, plan in enumerate(plans)
    ]
    slots = [per_rank[number % world_size][number // world_size] for number in range(480)]
    for language, name in enumerate(sorted(BLOCKS)):
        stream = list(chain.from_iterable(blocks_of(s) for s in slots if s.language == language))
        every = {(language, i, b) for i, n in enumerate(BLOCKS[name]) for b in range(n)}
        passes = len(stream) // len(every)
        assert passes >= 2
        orders = [stream[k * len(every) : (k + 1) * len(every)] for k in range(passes)]
        assert all(set(order) == every for order in orders)
        assert orders[0] != orders[1]


def test_a_pass_over_many_shards_holds_every_block_once() -> None:
    sizes = [997, 1024, 0, 512] * 25
    plan = Plan(3, 64, {"en": sizes}, 0.7)
    number = -(-sum(sizes) // 64)
    stream = list(chain.from_iterable(blocks_of(plan.slot(g)) for g in range(number)))
    assert len(set(stream[: sum(sizes)])) == sum(sizes)


def test_blocks_come_from_one_window_of_four_shards_at_a_time() -> None:
    plan = Plan(0, 8, {"en": [64] * 16}, 1.0)
    shards = np.concatenate([plan.slot(number).shard for number in range(128)])
    windows = [set(window.tolist()) for window in shards.reshape(4, 256)]
    assert [len(window) for window in windows] == [4, 4, 4, 4]
    assert set.union(*windows) == set(range(16))
    assert len(set(shards[:16].tolist())) == 4  # mixed inside the window


def test_the_windows_of_a_slot_hold_its_shards() -> None:
    """Here a slot never reaches beyond the next window; most stay within their own."""
    sizes = {"en": [40, 23, 64, 9, 31, 64, 20, 30, 40, 50], "de": [17, 64, 5, 20, 30]}
    plan = Plan(3, 4, sizes, 0.7, window_shards=2)
    within = 0
    for number in range(300):
        slot = plan.slot(number)
        now, following = plan.windows(number)[plan.languages[slot.language]]
        assert len(now) <= 2
        assert {*slot.shard.tolist()} <= {*now.tolist(), *following.tolist()}
        within += {*slot.shard.tolist()} <= {*now.tolist()}
    assert within > 250
    assert all(len(windows) == 2 for windows in plan.windows(0).values())


def test_a_slot_larger_than_the_language_repeats_it() -> None:
    slot = Plan(0, 10, {"fr": [3]}, 0.7).slot(0)
    assert Counter(slot.block.tolist()) in [
        Counter({a: 4, b: 3, c: 3}) for a, b, c in [(0, 1, 2), (1, 0, 2), (2, 0, 1)]
    ]


def test_random_access_equals_sequential_access() -> None:
    """Around the borders of the chunks in which languages are drawn, and far away."""
    numbers = [0, 1, 5, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7, 10 * CHUNK]
    sequential = Plan(1, 4, BLOCKS, 0.7)
    wanted = {n: blocks_of(sequential.slot(n)) for n in range(CHUNK + 2)}
    for number in reversed(numbers):
        found = blocks_of(Plan(1, 4, BLOCKS, 0.7).slot(number))
        assert found == blocks_of(sequential.slot(number))
        assert number not in wanted or found == wanted[number]


def test_counts_are_those_of_the_slots() -> None:
    plan = Plan(5, 2, BLOCKS, 0.7)
    languages = [plan.slot(number).language for number in range(CHUNK + 100)]
    for number in (0, 1, 1000, CHUNK, CHUNK + 100):
        counts = Counter(languages[:number])
        assert Plan(5, 2, BLOCKS, 0.7).counts(number) == {
            name: counts[index] for index, name in enumerate(sorted(BLOCKS))
        }


def test_seeds_give_different_orders() -> None:
    first, second = (
        [blocks_of(Plan(seed, 4, BLOCKS, 0.7).slot(number)) for number in range(50)]
        for seed in (0, 1)
    )
    assert first != second


def test_memory_of_windows_is_bounded() -> None:
    plan = Plan(0, 64, {"de": [500] * 40, "en": [500] * 40}, 1.0)
    for number in range(1000):
        plan.slot(number)
    assert len(plan._windows._values) <= len(plan.languages) + 2


def test_counting_the_slots_of_a_long_run() -> None:
    """500,000 steps on 64 GPUs: 0.5 s of CPU time; the bound only excludes another order."""
    start = time.process_time()
    counts = Plan(0, 64, {"de": [65536] * 8, "en": [65536] * 12}, 0.7).counts(32_000_000)
    assert sum(counts.values()) == 32_000_000
    assert time.process_time() - start < 10


def test_the_end_of_a_long_run_on_64_gpus() -> None:
    """The last whole passes of 500,000 steps: every block once, each rank reading its own slots."""
    ranks, steps = 64, 500_000
    blocks = {"de": [2048] * 10, "en": [2048] * 15}
    plans = [Plan(5, 64, blocks, 0.7) for _ in range(2)]  # of even and of odd ranks
    late = 60  # steps: some four passes
    slots = {
        number: plans[rank % 2].slot(number)
        for rank in range(ranks)
        for number in range((steps - late) * ranks + rank, steps * ranks, ranks)
    }
    earlier = plans[0].counts((steps - late) * ranks)
    for language, name in enumerate(sorted(blocks)):
        stream = [block for g in sorted(slots) if slots[g].language == language
                  for block in blocks_of(slots[g])]  # fmt: skip
        total = sum(blocks[name])
        start = -earlier[name] * 64 % total  # where the first whole pass begins
        passes = (len(stream) - start) // total
        assert passes >= 2
        for number in range(passes):
            one = stream[start + number * total : start + (number + 1) * total]
            assert len(set(one)) == total


@pytest.mark.parametrize("alpha", [0.0, 0.7])
@pytest.mark.parametrize("left_out", ["de", "en", "fr"])
def test_a_language_without_blocks_keeps_its_number_and_is_never_drawn(
    left_out: str, alpha: float
) -> None:
    blocks = {language: [5, 4] for language in ("de", "en", "fr")} | {left_out: []}
    plan = Plan(0, 2, blocks, alpha)
    assert plan.probabilities[left_out] == 0
    languages = {plan.slot(number).language for number in range(200)}
    assert languages == {0, 1, 2} - {["de", "en", "fr"].index(left_out)}
    assert plan.counts(100_000)[left_out] == 0
    assert set(plan.windows(7)) == {"de", "en", "fr"} - {left_out}


def test_a_plan_without_any_block_is_refused() -> None:
    with pytest.raises(UserError, match="no language has a block"):
        Plan(0, 1, {"de": [0], "en": []}, 0.7)
