"""Two clouds of points, and an optimizer whose own weight decay lets nothing be learned."""

from torch import nn

from tests import blobs

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
optimizer = {"name": "sgd", "weight_decay": 0.5}
model = blobs.model
dataset = blobs.dataset
