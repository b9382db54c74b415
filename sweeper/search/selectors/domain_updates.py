"""`DomainUpdates`: points of a domain that results may replace by another one."""

from __future__ import annotations

from collections import deque

from sweeper.errors import UsageError
from sweeper.records import TRIAL, Params
from sweeper.search.checks import check_budget, check_count
from sweeper.search.domain import Domain, UpdatedDomain
from sweeper.search.domain.sampling import random_places, take
from sweeper.search.selector import Answer, Ask, ParamSelector, TrialResults
from sweeper.search.shared.listed import with_budget
from sweeper.signature import params_key


class DomainUpdates(ParamSelector):
    """Points of a domain, and of those that take its place as results come in.

    All points up to the next call of the function are asked for at once, and it is called when all
    of them are complete.  So what it decided can be read from the log of asks: it is not called
    again when a sweep is resumed, except for the rest of a domain that it once gave, when a later
    call gives None.

    Args:
        updated: What `Domain.update_domain` gives.
        trials: Number of trials per point, 1 or more.
        seed: Random seed of what is drawn from domains, and of the order of mixtures.
        budget: How far each trial goes, in iterations of a program or learning-rate cycles of a
            problem; None: its whole length.

    Raises:
        UsageError: an argument breaks its rule.
    """

    name = "updates"
    adaptive = True

    def __init__(
        self, updated: UpdatedDomain, trials: int, *, seed: int = 0, budget: int | None = None
    ) -> None:
        if not isinstance(updated, UpdatedDomain):
            raise UsageError(
                f"{updated!r} is a {type(updated).__name__}: give domain.update_domain(function, "
                "when)"
            )
        if check_count("trials", trials) == 0:
            raise UsageError("trials=0: domains are updated by results, so it must be 1 or more")
        self._updated = updated
        self._trials = trials
        self._budget = check_budget(budget)
        self._seed = check_count("seed", seed, most=None)
        self._asked: set[str] = set()
        self._complete = 0
        self._results: list[TrialResults] = []
        """Of the complete points that could be tuned, in the order of asking."""
        self._decided: dict[int, tuple[TrialResults, ...]] = {}
        """By number of complete points: what the function was given there."""
        self._rest: deque[Params] | None = self._points_of(updated.domain, 0)
        """What is left of the current domain; None: not known, since the log does not say."""
        self._batch: deque[Params] = deque()
        """To be asked for before the next call."""
        self._over = False
        self._fill()
        if not self._batch:
            raise UsageError(f"{updated.domain} has no points")

    def get_next_trials(self) -> Answer | None:
        """The next point of the batch; None while the function waits for results."""
        if self._decides:
            self._decide()
        return self._note(self._batch.popleft()) if self._batch else None

    def repeat_ask(self, logged: Ask | None) -> Answer | None:
        """The next point of the batch; after a call of the function, what the log says."""
        if self._decides:
            self._decided[self._complete] = tuple(self._results)
            # Without a further call, all of the domain was asked for.
            has_all = self._updated.next_due(self._complete) is None
            self._rest = deque() if has_all else None
            self._over = logged is None
        if self._batch:
            return self._note(self._batch.popleft())
        if logged is None or self._complete not in self._decided:
            return None
        return self._note(logged.params)

    def has_more_trials(self) -> bool:
        """While points are left or open, or the function is to be called."""
        is_open = self._complete < len(self._asked)
        return bool(self._batch) or is_open or self._may_decide(self._complete)

    def on_results(self, result: TrialResults) -> None:
        """A point is complete."""
        self._results.append(result)
        self._complete += 1

    def on_failed(self, params: Params, stage: str, error: str) -> None:
        """A point that could not be tuned is complete, too."""
        del params, error
        if stage != TRIAL:
            self._complete += 1

    # -- decisions --------------------------------------------------------------------------------

    @property
    def _decides(self) -> bool:
        """Whether the function is to be called now."""
        everything = not self._batch and self._complete == len(self._asked)
        return everything and self._may_decide(self._complete)

    def _may_decide(self, complete: int) -> bool:
        """Whether the function is to be called once so many points are complete."""
        most = self._updated.points
        is_room = most is None or complete < most
        done = self._over or complete in self._decided
        return is_room and not done and self._updated.is_due(complete)

    def _decide(self) -> None:
        self._decided[self._complete] = tuple(self._results)
        domain = self._updated.next_domain(self._results)
        if domain is not None:
            self._rest = self._points_of(domain, self._complete)
        elif self._rest is None:
            self._rest = self._rest_again()
        self._fill()
        self._over = not self._batch

    def _rest_again(self) -> deque[Params]:
        """What is left of the current domain, which the function gave in an earlier run."""
        for complete in sorted(self._decided, reverse=True)[1:]:
            domain = self._updated.next_domain(self._decided[complete])
            if domain is not None:
                return self._points_of(domain, complete)
        return self._points_of(self._updated.domain, 0)

    def _points_of(self, domain: Domain, begun: int) -> deque[Params]:
        """The points of a domain that began after so many, those already asked for left out."""
        seed, most = self._seed + begun, self._updated.points
        if most is None or domain.is_finite:
            points = list(domain.points(seed))
        else:
            points = take(domain.node, most, random_places(domain.dimensions, seed))
        new = {key: point for point in points if (key := params_key(point)) not in self._asked}
        return deque(new.values())

    def _fill(self) -> None:
        """Take the points up to the next call of the function."""
        asked = len(self._asked)
        limits = [self._updated.next_due(asked), self._updated.points]
        room = min((limit - asked for limit in limits if limit is not None), default=None)
        while self._rest and (room is None or len(self._batch) < room):
            self._batch.append(self._rest.popleft())
        # All at once, so that the log has the whole batch.
        self.look_ahead = max(type(self).look_ahead, len(self._batch))

    def _note(self, point: Params) -> Answer:
        self._asked.add(params_key(point))
        return with_budget(point, self._trials, self._budget)
