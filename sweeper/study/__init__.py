"""A selector and a plan for every point: events in, work out.  Pure."""

from sweeper.study.study import Study
from sweeper.workload import Planner

__all__ = ["Planner", "Study"]
