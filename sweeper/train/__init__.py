"""How a problem is trained: the problem, its data, tuning, probes and trials.

`tuning` decides in pure functions.  It, `workload` and `problem.spec` do not
import torch, so the driver can use them; the rest runs in workers and in the process that reads the
problem.
"""
