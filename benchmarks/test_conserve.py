"""What `conserve` costs on a million pixels by a day, beside a copy of the field.

Run it by ``make bench``. Seconds are those of the process, so that a busy machine does
not count against either side; both run in one process, and the best of several counts.
"""

import time
import tracemalloc

import numpy as np
import pytest

from xstsr.conservation.constraint import block_mean, conserve

SHAPE = (24, 1000, 1000)
FACTOR = (3, 10, 10)
MOST_COPIES = 25
MOST_FIELDS = 2.5


@pytest.fixture(scope="module")
def fields() -> tuple[np.ndarray, np.ndarray]:
    """Half of the pixels wet; every cell to be scaled by a half to twofold."""
    rng = np.random.default_rng(0)
    fine = np.maximum(rng.standard_normal(SHAPE, dtype=np.float32), 0)
    means = block_mean(fine, FACTOR)
    coarse = (means * rng.uniform(0.5, 2, means.shape)).astype(np.float32)
    return fine, coarse


def seconds_of_a_copy(fine: np.ndarray) -> float:
    """Best of several copies into memory that is already there."""
    target = np.zeros_like(fine)
    spent = []
    for _ in range(20):
        start = time.process_time()
        np.copyto(target, fine)
        spent.append(time.process_time() - start)
    return min(spent)


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.benchmark(group="conserve", timer=time.process_time)
def test_conserve_takes_few_copies(benchmark, fields, weighted):
    fine, coarse = fields
    weights = np.linspace(1, 2, SHAPE[1])[:, None] if weighted else None
    options = {"weights": weights}
    made = benchmark.pedantic(
        conserve, (fine, coarse, FACTOR), options, rounds=5, warmup_rounds=1
    )
    copy = seconds_of_a_copy(fine)
    copies = benchmark.stats.stats.min / copy
    benchmark.extra_info |= {"copies": round(copies, 1), "copy_seconds": copy}
    print(f"conserve takes {copies:.1f} copies of the field")
    assert made.dtype == np.float32
    np.testing.assert_allclose(block_mean(made, FACTOR, weights), coarse, rtol=1e-6)
    assert copies < MOST_COPIES


def test_conserve_peaks_below_few_fields(fields):
    fine, coarse = fields
    tracemalloc.start()
    conserve(fine, coarse, FACTOR)
    peak = tracemalloc.get_traced_memory()[1] / fine.nbytes
    tracemalloc.stop()
    print(f"conserve peaks at {peak:.2f} fields")
    assert peak < MOST_FIELDS
