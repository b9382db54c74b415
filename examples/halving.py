"""A selector that looks at results: most trials go where the answer is still open.

Every width gets two trials; then, round by round, the better half gets twice as many more.

    python examples/halving.py
"""

from pathlib import Path

import sweeper

DIGITS = Path(__file__).with_name("digits.py")


class Halving(sweeper.ParamSelector):
    """Successive halving (K. Jamieson and A. Talwalkar, 2016) over the points, in trials."""

    adaptive = True

    def __init__(self, points: list[dict[str, object]], trials: int = 2) -> None:
        self.trials = trials
        self.rivals = points
        self.to_ask = list(points)
        self.missing = 0
        self.seen: dict[str, list[float]] = {repr(point): [] for point in points}

    def has_more_trials(self) -> bool:
        """Until one is left."""
        return len(self.rivals) > 1

    def get_next_trials(self) -> tuple[dict[str, object], int] | None:
        """The next rival of this round; None until all trials of the round are known."""
        if not self.to_ask:
            return None
        self.missing += self.trials
        return self.to_ask.pop(0), self.trials

    def on_trials_completed(self, params, perfs_train, losses_train, perfs_val, losses_val) -> None:
        """Note how they did."""
        self.seen[repr(params)].extend(perfs_val)
        self.count(len(perfs_val))

    def on_failed(self, params, stage, error) -> None:
        """Go on without one trial, or without all of a point that cannot be tuned."""
        self.count(1 if stage == "trial" else self.trials)

    def count(self, trials: int) -> None:
        """Trials are known; with the last one of the round, the better half goes on."""
        self.missing -= trials
        if self.missing == 0 and not self.to_ask:
            self.rivals.sort(key=lambda point: -sum(self.seen[repr(point)]))
            self.rivals = self.rivals[: len(self.rivals) // 2]
            self.to_ask = list(self.rivals) if len(self.rivals) > 1 else []
            self.trials *= 2


if __name__ == "__main__":
    points = [{"hidden": hidden, "nonlinearity": "Tanh"} for hidden in (2, 4, 8, 16)]
    results = sweeper.sweep(DIGITS, Halving(points), 2, "fastest", "out/halving")
    print(results.summary())
    print("best:", results.best().params)
