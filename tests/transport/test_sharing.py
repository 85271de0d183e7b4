import pytest

from tests.transport.simulation import Simulation

FAST, NEAR, FAR, SLOW = (0.001, 0.01), (0.02, 0.08), (0.05, 0.3), (0.3, 1.5)
QUERIES = 2000


def simulation(
    processes: int, *, concurrency: int, per: float, latency: tuple[float, float], seed: int
) -> Simulation:
    """2,000 queries of so many processes, after the last answer."""
    simulation = Simulation(per=per, latency=latency, seed=seed)
    for _ in range(processes):
        simulation.add(QUERIES // processes, concurrency=concurrency)
    return simulation.run()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("latency", [FAST, NEAR, FAR, SLOW], ids=str)
@pytest.mark.parametrize("per", [2.0, 60.0])
@pytest.mark.parametrize("concurrency", [8, 64])
def test_one_process_is_never_refused(
    concurrency: int, per: float, latency: tuple[float, float], seed: int
) -> None:
    """Who is alone with the budget never asks once too often, and is answered all."""
    alone = simulation(1, concurrency=concurrency, per=per, latency=latency, seed=seed)

    assert (QUERIES, 0, 0) == (alone.answered, alone.refused, alone.lost)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("per", "latency"),
    [(2.0, FAST), (60.0, FAST), (60.0, NEAR), (60.0, FAR)],
    ids=str,
)
@pytest.mark.parametrize("concurrency", [8, 64])
def test_one_process_uses_all_of_the_budget(
    concurrency: int, per: float, latency: tuple[float, float], seed: int
) -> None:
    """Where the limit is what takes the time, hardly any of it is lost."""
    alone = simulation(1, concurrency=concurrency, per=per, latency=latency, seed=seed)

    assert alone.least <= alone.took <= 1.03 * alone.least


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("latency", [FAST, NEAR, FAR, SLOW], ids=str)
@pytest.mark.parametrize("per", [2.0, 60.0])
@pytest.mark.parametrize("concurrency", [8, 64])
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_that_know_nothing_of_one_another_share_the_budget(
    processes: int, concurrency: int, per: float, latency: tuple[float, float], seed: int
) -> None:
    """None of their queries is lost, and together they take little longer than one would."""
    shared = simulation(processes, concurrency=concurrency, per=per, latency=latency, seed=seed)

    assert (QUERIES, 0) == (shared.answered, shared.lost)
    assert shared.took <= (1.5 if latency == SLOW else 1.2) * shared.least


# Windows are counted from the first request; a process may come at any moment of one.
MOMENTS = (75.3, 100.0, 131.7, 166.4, 201.9)


@pytest.mark.parametrize("begins", MOMENTS)
@pytest.mark.parametrize("latency", [FAST, NEAR, FAR], ids=str)
@pytest.mark.parametrize("concurrency", [8, 64])
def test_who_comes_late_is_let_in(concurrency: int, latency: tuple[float, float], begins: float) -> None:
    """A process that begins while another takes all of the budget has its first answer a few windows on."""
    both = Simulation(latency=latency)
    both.add(QUERIES, concurrency=concurrency, begins=0)
    late = both.add(100, concurrency=concurrency, begins=begins)
    both.run()

    assert 0 == both.lost
    assert min(late.answered) - begins <= 5 * both.per


@pytest.mark.parametrize("begins", MOMENTS)
@pytest.mark.parametrize("latency", [FAST, NEAR, FAR], ids=str)
def test_who_comes_late_gets_a_share(latency: tuple[float, float], begins: float) -> None:
    """It is answered in at most twice the time that half of the budget would take."""
    both = Simulation(latency=latency)
    both.add(2 * QUERIES, begins=0)
    late = both.add(500, begins=begins)
    both.run()

    assert max(late.answered) - begins <= 2 * 5 * both.per


@pytest.mark.parametrize("latency", [FAST, NEAR, FAR], ids=str)
@pytest.mark.parametrize("concurrency", [8, 64])
def test_what_others_leave_is_used(concurrency: int, latency: tuple[float, float]) -> None:
    """When the other processes have gone, the one that is left has nearly all of the budget before long."""
    together = Simulation(latency=latency)
    last = together.add(QUERIES, concurrency=concurrency)
    others = [together.add(200, concurrency=concurrency) for _ in range(3)]
    together.run()
    gone = max(max(other.answered) for other in others)

    assert 0.8 * 3 * together.limit <= last.answered_in(gone + 180, gone + 360)
