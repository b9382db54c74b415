"""Statistics: means, intervals, comparisons.  Pure: numbers in, numbers out.

scipy is imported on use: reading a folder's status should not pay for it.
"""
