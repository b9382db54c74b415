"""When and where: which cores there are, what starts next, and the workers that run it.

This folder is told what to execute by an import path and sees of a job only its kind, its replica
numbers and its expected duration; it knows nothing of training.
"""
