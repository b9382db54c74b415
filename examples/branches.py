r"""Branches with one root: is what a network learned of the digits 0 to 4 of use for 5 to 9?

`setup` trains a trunk, the hidden layer of a small network, on the digits 0 to 4: once for each
width, however many heads and trials use it.  `run` fits a head to 40 labelled digits 5 to 9, seen
through the trunk (width 0: as raw pixels), and is judged by all others.

    python examples/branches.py
    sweeper run examples/branches.py:Heads --grid width=0,32 --grid head=linear,nearest \
        --metric accuracy:max
"""

import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

import sweeper

HEADS = {
    "linear": lambda: LogisticRegression(max_iter=1_000),
    "nearest": lambda: KNeighborsClassifier(3),
}


class Heads:
    """Trials that agree on `width` share the trunk that `setup` trained."""

    def setup(self, width):
        """Train the trunk, and look through it at the digits 5 to 9."""
        images, labels = load_digits(return_X_y=True)
        images, known = images / 16, labels < 5
        self.features, self.labels = images[~known], labels[~known]
        if width:
            trunk = MLPClassifier((width,), max_iter=60)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it could train for longer
                trunk.fit(images[known], labels[known])
            self.features = np.maximum(self.features @ trunk.coefs_[0] + trunk.intercepts_[0], 0)

    def run(self, trial, head):
        """The accuracy of a head that has seen 40 labels; which ones, the trial's seed says."""
        x, x_test, y, y_test = train_test_split(
            self.features, self.labels, train_size=40, stratify=self.labels, random_state=trial.seed
        )
        return {"accuracy": HEADS[head]().fit(x, y).score(x_test, y_test)}


if __name__ == "__main__":
    results = sweeper.sweep(
        Heads,
        sweeper.Grid(trials=10, width=[0, 32, 128], head=list(HEADS)),
        folder="out/branches",
        metrics={"accuracy": "maximize"},
    )
    print(results.summary())
