"""Random and quasi-random search: sixteen widths and nonlinearities of the digits, by either.

python examples/search.py
"""

from pathlib import Path

import numpy as np
from scipy.stats import qmc

import sweeper

DIGITS = Path(__file__).with_name("digits.py")

DOMAIN = sweeper.Domain(hidden=sweeper.LogIntUniform(4, 64), nonlinearity=["Tanh", "ReLU"])
QUICK = sweeper.HyperparameterSettings(lr=0.25, batch_size=16, cycles=2, cycle_epochs=2)
"""The same rate for all, untuned, so that the example is quick."""


def evenness(points: list[dict[str, int]]) -> float:
    """The discrepancy of the widths, on their logarithmic scale; 0 would be perfectly even."""
    logs = np.log([[point["hidden"]] for point in points])
    low, high = np.log(4 - 0.5), np.log(64 + 0.5)
    return float(qmc.discrepancy((logs - low) / (high - low)))


if __name__ == "__main__":
    for search in (sweeper.RandomSearch, sweeper.SobolSearch):
        sobol = search is sweeper.SobolSearch
        points = DOMAIN.sample(16, seed=1, sobol=sobol)
        selector = search(DOMAIN, points=16, trials=2, seed=1)
        # Both in one folder: a point that both have is trained once.
        results = sweeper.sweep(DIGITS, selector, 2, QUICK, "out/search")
        best = results.best()
        print(f"{search.__name__}: discrepancy of the widths {evenness(points):.4f}")
        print(f"  the luckiest of 16: {best.params}, {best.perf_val.mean():.4f} over 2 trials")
