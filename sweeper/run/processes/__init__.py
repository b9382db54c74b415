"""The fork server, workers and the helper beside the driver; how they talk, and are stopped."""
