"""An objective that imports torch, and not before it runs."""


def tensors(x):
    import torch  # imported in the middle of a trial: it must be seeded all the same

    return {"torch": torch.rand(1), "threads": torch.get_num_threads(), "x": x}
