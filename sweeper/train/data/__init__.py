"""A problem's data: samples, splits and checksums."""
