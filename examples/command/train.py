"""Trains a small net on scikit-learn's handwritten digits and prints its accuracy.

An ordinary script: it knows nothing of sweeper.

    python examples/command/train.py --lr 0.1 --hidden 16 --seed 1
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--hidden", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    random = np.random.default_rng(options.seed)
    images, labels = load_digits(return_X_y=True)
    images = images / 16
    order = random.permutation(len(images))
    train, test = order[:1437], order[1437:]

    first = random.normal(0, 0.2, (64, options.hidden))
    second = random.normal(0, 0.2, (options.hidden, 10))
    for epoch in range(options.epochs):
        random.shuffle(train)
        for batch in np.array_split(train, 90):
            hidden = np.tanh(images[batch] @ first)
            scores = np.exp(hidden @ second)
            error = scores / scores.sum(1, keepdims=True) - np.eye(10)[labels[batch]]
            back = error @ second.T * (1 - hidden**2)
            second -= options.lr * hidden.T @ error / len(batch)
            first -= options.lr * images[batch].T @ back / len(batch)
        hits = (np.tanh(images[test] @ first) @ second).argmax(1) == labels[test]
        print(f"epoch {epoch + 1}: accuracy {hits.mean():.4f}")


if __name__ == "__main__":
    main()
