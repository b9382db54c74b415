"""Packs: several replicas trained together as one batched model."""
