"""A training loop of your own as a generator: which rate and width, found by successive halving?

It trains a small network on scikit-learn's handwritten digits, yields its metrics after each epoch,
and saves its weights.  So halving begins nothing anew: the better third goes on from where it was;
and a sweep that is killed, and run again, goes on from the last epoch.

    python examples/generator.py
    sweeper run examples/generator.py:objective --grid rate=0.1,0.3 --grid hidden=8,32 \
        --selector halving --option metric=accuracy --option direction=maximize
"""

import functools

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import sweeper


@functools.cache
def digits():
    """Images of 8 x 8 pixels as rows, from 0 to 1, and their labels."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)


def objective(rate, hidden, trial):
    """Train for ever: the budget says for how many epochs."""
    images, labels = digits()
    order = torch.randperm(len(labels))  # each trial validates on other images
    train, val = order[400:], order[:400]
    model = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    saved = trial.load()
    if saved is not None:
        model.load_state_dict({name: torch.from_numpy(array) for name, array in saved.items()})
    while True:
        for batch in train[torch.randperm(len(train))].split(32):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            outputs = model(images[val])
            loss = functional.cross_entropy(outputs, labels[val])
            accuracy = (outputs.argmax(1) == labels[val]).float().mean()
        yield {"loss": loss, "accuracy": accuracy}
        trial.save(**model.state_dict())


if __name__ == "__main__":
    goal = {"metric": "accuracy", "direction": "maximize"}
    rates, widths = (0.01, 0.03, 0.1, 0.3, 1.0), (8, 32)
    points = [{"rate": rate, "hidden": hidden} for rate in rates for hidden in widths]
    results = sweeper.sweep(
        objective,
        sweeper.SuccessiveHalving(points, trials=4, min_budget=3, max_budget=27, **goal),
        folder="out/generator",
        metrics={"accuracy": "maximize", "loss": "minimize"},
    )
    print(results.summary())
    history = results.to_dataframe(history=True)
    trained = history.groupby(["rate", "hidden", "trial"])["iteration"].max().sum()
    print(f"{trained} epochs were trained, and not {4 * 27 * len(points)}.")
