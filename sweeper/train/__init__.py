"""How it is trained: the problem, its data, the tuning plan, probes and trials.

`plan` and `ranges` are pure.  Like `loading` and `context` they never import torch; everything else
here runs in workers (and `problem` and `data` in the driver too, to find faults before a worker
starts).
"""
