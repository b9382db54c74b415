"""Trains a small net to tell two noisy spirals apart, and prints its accuracy on new points.

An ordinary script: it knows nothing of sweeper.

    python examples/command/train.py --lr 0.3 --hidden 16 --seed 1
"""

import argparse

import numpy as np


def spirals(points, random):
    """Points of the plane, and the spiral that each lies on: 0 or 1."""
    which = random.integers(0, 2, points)
    turn = np.sqrt(random.random(points)) * 3 * np.pi
    at = np.stack([np.cos(turn + np.pi * which), np.sin(turn + np.pi * which)], axis=1)
    return at * turn[:, None] / 4 + random.normal(0, 0.08, (points, 2)), which


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=0.3)
    parser.add_argument("--hidden", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    random = np.random.default_rng(options.seed)
    (x, y), (new_x, new_y) = spirals(1000, random), spirals(2000, random)
    first = random.normal(0, 1, (3, options.hidden))  # the last row is the bias
    second = random.normal(0, 1, options.hidden) / options.hidden**0.5
    x, new_x = (np.column_stack([each, np.ones(len(each))]) for each in (x, new_x))
    for epoch in range(options.epochs):
        for batch in np.array_split(random.permutation(len(x)), 100):
            hidden = np.tanh(x[batch] @ first)
            error = 1 / (1 + np.exp(-hidden @ second)) - y[batch]
            back = np.outer(error, second) * (1 - hidden**2)
            second -= options.lr * error @ hidden / len(batch)
            first -= options.lr * x[batch].T @ back / len(batch)
        accuracy = ((np.tanh(new_x @ first) @ second > 0) == new_y).mean()
        print(f"epoch {epoch + 1}: accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
