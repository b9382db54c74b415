"""A grid as a program: which width does each nonlinearity need?

sweeper run examples.digits --explore examples/grids/widths.py --dry-run
sweeper run examples.digits --explore examples/grids/widths.py
"""

from sweeper import Explorer, Launcher


@Explorer
def explore(launcher: Launcher) -> None:
    """Two widths of each nonlinearity, and a wider one with more trials."""
    launcher.bind_(trials=4)
    for nonlinearity in ("Tanh", "ReLU"):
        sub = launcher.bind(nonlinearity=nonlinearity)
        for hidden in (4, 16):
            sub(hidden=hidden)
    launcher(hidden=32, nonlinearity="Tanh", trials=8)
