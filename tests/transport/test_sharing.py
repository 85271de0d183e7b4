"""The policy of the rate limit, simulated: nothing is lost, no time is wasted, and nobody starves."""

import pytest

from tests.repeats import only_full
from tests.transport.simulation import Simulation

pytestmark = pytest.mark.once

FAST, NEAR, FAR, SLOW = (0.001, 0.01), (0.02, 0.08), (0.05, 0.3), (0.3, 1.5)
WINDOWS = (60.0, 300.0, 900.0)
LIMITS = (10, 200, 1000, pytest.param(10_000, marks=only_full))


def batch(
    limit: int,
    per: float,
    processes: int = 1,
    *,
    concurrency: int,
    latency: tuple[float, float],
    seed: int = 0,
    has_headers: bool = True,
) -> Simulation:
    """Three and a half windows of queries, distributed over several processes, after the last answer."""
    simulation = Simulation(limit, per, latency, seed, has_headers)
    for _ in range(processes):
        simulation.add(limit * 7 // 2 // processes, concurrency=concurrency)
    return simulation.run()


@pytest.mark.parametrize("latency", [FAST, NEAR, FAR, SLOW], ids=str)
@pytest.mark.parametrize("concurrency", [8, 64])
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("per", WINDOWS)
def test_one_process_uses_the_whole_limit_and_is_not_refused(
    per: float, limit: int, concurrency: int, latency: tuple[float, float]
) -> None:
    """A process that uses the limit alone is never refused and loses at most 3 % of the time."""
    alone = batch(limit, per, concurrency=concurrency, latency=latency)

    assert (limit * 7 // 2, 0) == (alone.answered, alone.refused)
    # With slow answers the least time, which takes an average for each, is itself a guess.
    assert alone.took <= (1.03 if latency != SLOW else 1.1) * alone.least


@pytest.mark.parametrize("latency", [FAST, FAR, SLOW], ids=str)
@pytest.mark.parametrize("concurrency", [8, 64])
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("per", WINDOWS)
def test_processes_share_a_limit_without_knowing_each_other(
    per: float, limit: int, processes: int, concurrency: int, latency: tuple[float, float]
) -> None:
    """No query is lost or refused for hours, and together they need little more time than one process."""
    shared = batch(limit, per, processes, concurrency=concurrency, latency=latency)

    assert limit * 7 // 2 // processes * processes == shared.answered
    assert shared.took <= 1.2 * shared.least
    assert shared.longest_refused <= 12 * per


@pytest.mark.parametrize("processes", [1, 4])
@pytest.mark.parametrize("concurrency", [8, 64])
@pytest.mark.parametrize("limit", [10, 200, 1000])
@pytest.mark.parametrize("per", WINDOWS)
def test_refusals_without_headers_lose_nothing(
    per: float, limit: int, concurrency: int, processes: int
) -> None:
    """If a 429 names neither limit nor wait, pauses that double outlast the window, and not by much."""
    silent = batch(limit, per, processes, concurrency=concurrency, latency=FAR, has_headers=False)

    assert limit * 7 // 2 // processes * processes == silent.answered
    assert silent.took <= silent.least + 4 * 60
    # Mostly one request at a time finds out whether the window is over.
    assert silent.refused <= 6 * processes * concurrency + silent.took / 10


# Windows are counted from the first request; a process may come at any moment of one.
MOMENTS = (75.3, 100.0, 131.7, 166.4, 201.9)
QUERIES = 2000


@pytest.mark.parametrize("begins", MOMENTS)
@pytest.mark.parametrize("latency", [FAST, NEAR, FAR], ids=str)
@pytest.mark.parametrize("concurrency", [8, 64])
def test_a_late_process_is_let_in(concurrency: int, latency: tuple[float, float], begins: float) -> None:
    """A process that begins while another spends the whole limit gets an answer within a few windows."""
    both = Simulation(200, 60.0, latency)
    both.add(QUERIES, concurrency=concurrency, begins=0)
    late = both.add(100, concurrency=concurrency, begins=begins)
    both.run()

    assert min(late.answered) - begins <= 5 * both.per


@pytest.mark.parametrize("begins", MOMENTS)
@pytest.mark.parametrize("latency", [FAST, NEAR, FAR], ids=str)
def test_a_late_process_gets_a_share(latency: tuple[float, float], begins: float) -> None:
    """It takes at most three times as long as half of the limit would, and usually less."""
    both = Simulation(200, 60.0, latency)
    both.add(2 * QUERIES, begins=0)
    late = both.add(500, begins=begins)
    both.run()

    assert max(late.answered) - begins <= 3 * 5 * both.per


@pytest.mark.parametrize("latency", [FAST, NEAR, FAR], ids=str)
@pytest.mark.parametrize("concurrency", [8, 64])
def test_a_limit_that_others_leave_is_used(concurrency: int, latency: tuple[float, float]) -> None:
    """When the other processes are gone, the last one has nearly the whole limit to itself."""
    together = Simulation(200, 60.0, latency)
    last = together.add(QUERIES, concurrency=concurrency)
    others = [together.add(200, concurrency=concurrency) for _ in range(3)]
    together.run()
    gone = max(max(other.answered) for other in others)

    assert 0.9 * 3 * together.limit <= last.answered_in(gone + 180, gone + 360)
