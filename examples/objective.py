"""A program of your own: does momentum help gradient descent through a narrow valley?

The objective is any function of the parameters that returns numbers.  Here it descends the
Rosenbrock function from a random start, in pure Python, and gives how many orders of magnitude
above or below 1 the loss is at the end.

    python examples/objective.py
    sweeper run examples/objective.py:objective --grid momentum=0.0,0.9 --metric log_loss:min
"""

import math
import random

import sweeper


def objective(rate, momentum, steps=2_000):
    """The logarithm of the loss, and the distance to the minimum; `random` is seeded per trial."""
    x, y = random.uniform(-1.5, 1.5), random.uniform(-0.5, 2.0)
    speed_x = speed_y = 0.0
    for _ in range(steps):
        slope_x = -2 * (1 - x) - 400 * x * (y - x * x)
        slope_y = 200 * (y - x * x)
        speed_x = momentum * speed_x - rate * slope_x
        speed_y = momentum * speed_y - rate * slope_y
        x, y = x + speed_x, y + speed_y
    loss = (1 - x) ** 2 + 100 * (y - x * x) ** 2
    return {
        "log_loss": math.log10(loss),
        "distance": ((x - 1) ** 2 + (y - 1) ** 2) ** 0.5,
    }


if __name__ == "__main__":
    results = sweeper.sweep(
        objective,
        sweeper.Grid(trials=10, rate=[1e-4, 3e-4], momentum=[0.0, 0.9]),
        folder="out/objective",
        metrics={"log_loss": "minimize", "distance": "minimize"},
    )
    print(results.summary())
