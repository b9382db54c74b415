"""A selector and a plan for every point: work goes out, events come in.  Pure."""

from sweeper.study.study import Study
from sweeper.workload import Planner

__all__ = ["Planner", "Study"]
