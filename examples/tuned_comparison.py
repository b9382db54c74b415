"""Which nonlinearity is better, each at the learning rate and batch size that suit it best?

    python examples/tuned_comparison.py

What is compared is scientific; what has to be tuned for a fair comparison is a nuisance.  Each
nonlinearity gets three independent searches with the same draws.  The best of each search gets
fresh trials, and only these are compared.
"""

from pathlib import Path

import sweeper

DIGITS = Path(__file__).with_name("digits.py")

scientific = sweeper.Domain(nonlinearity=["Tanh", "ReLU"])
nuisance = sweeper.Domain(lr=sweeper.LogUniform(0.003, 3.0), batch_size=[16, 64])

QUICK = sweeper.HyperparameterSettings(cycles=2, cycle_epochs=2)
"""Short trials, so that the example is quick."""

if __name__ == "__main__":
    selector = sweeper.TunedComparison(scientific, nuisance, searches=6, trials=12)
    results = sweeper.sweep(DIGITS, selector, 2, QUICK, "out/tuned_comparison")
    print(results.compare())
    for point in results.where(group="final"):
        print(f"chosen: {dict(point.params)}")
