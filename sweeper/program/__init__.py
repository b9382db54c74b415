"""How a program is run: the user's own function or generator.

`objective`, `metrics` and `workload` are the driver's part and import nothing of the user's; `job`
runs trials in workers, and `reading` finds out what the driver must know, in a helper process.
torch is used where the objective imports it, and never imported otherwise.
"""
