"""A selector and a plan for every point: work goes out, events come in.  Pure."""

from sweeper.study.points import Planner
from sweeper.study.study import Study

__all__ = ["Planner", "Study"]
