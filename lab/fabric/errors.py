"""What the fabric raises itself; the kernel's refusals are ``datapath.errors.KernelError``.

FabricError
├── ViewError       the view contradicts itself, or asks for more than the tables hold: nothing was changed
├── PlugError       some ports could not be plugged in: all else was applied, applying again tries again
└── NoSuchPort      no port of that id is plugged in
"""

from __future__ import annotations


class FabricError(Exception):
    pass


class ViewError(FabricError):
    pass


class PlugError(FabricError):
    pass


class NoSuchPort(FabricError):
    pass
