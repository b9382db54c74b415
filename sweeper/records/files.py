"""Names of files that several folders know, and of texts about them."""

ADDED = "added"
"""The folder, inside a sweep's, of points that another process has added."""

ARTIFACTS = "artifacts.npz"
"""The file, in a trial's folder, of the arrays that a program returned beside its metrics."""

ARTIFACTS_SHA256, RAISED = "sweeper.artifacts_sha256", "sweeper.raised"
"""Texts that an outcome of a program may have: the checksum of that file, and the traceback of an
exception in an iteration that ended the trial and was recorded.  No metric has such a name."""

CORRECT = "sweeper.correct_val"
"""The array, in an outcome of a problem, of which validation samples the trial got right: one bit a
sample, as of `numpy.packbits`.  No metric has such a name."""

PRINTED = (".stdout.log", ".stderr.log")
"""How the names of the files end, beside a worker's log, that a program's trial prints into."""

PROFILE = "profile.csv"
"""The file, in a trial's folder, of what it was profiled to spend."""

PROFILE_COLUMNS = ("function", "calls", "own_seconds", "seconds")
"""Its columns; `seconds` are with all that the function called."""
