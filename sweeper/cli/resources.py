"""Options of `run` about what each trial gets: cores and devices."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

Width: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="N|NAME",
        help="Cores per training; of a program also the name of a parameter that has them.",
    ),
]
Devices: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="N|NAMES",
        help="GPUs to deal out to the trials of a program: how many, or such as cuda:0,cuda:1 "
        "[default: none].",
    ),
]
PerDevice: TypeAlias = Annotated[
    int, typer.Option(metavar="N", help="Trials that may share a device.")
]
DevicesPerTrial: TypeAlias = Annotated[
    int, typer.Option(metavar="N", help="Devices that each trial gets.")
]
MinFreeMemory: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="AMOUNT",
        help="Memory that a device must have free when a trial gets it, such as '4 GiB'.",
    ),
]
DeviceWait: TypeAlias = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="How long to wait for a device with --min-free-memory while no trial runs.",
    ),
]


def read_width(text: str) -> int | str:
    """A number of cores, or the name of a parameter."""
    return int(text) if text.lstrip("-").isdecimal() and len(text) < 10 else text


def read_devices(text: str | None) -> int | list[str] | None:
    """A number of devices, or their names."""
    if text is None:
        return None
    return int(text) if text.isdecimal() and len(text) < 10 else text.split(",")
