"""What is measured of a model: loss and performance of whole sets, and declared metrics."""
