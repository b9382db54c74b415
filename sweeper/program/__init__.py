"""How a program is run: the user's own function, generator or command.

`objective`, `command`, `metrics` and `workload` are the driver's part and import nothing of the
user's; `job` runs trials in workers, a command through `process` and under `supervisor`; `reading`
finds out what the driver must know, of an objective in a helper process.  torch is used where the
objective imports it, and never imported otherwise.
"""
