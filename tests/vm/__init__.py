"""The tests on other kernels than this machine's: Debian's, booted by an emulator. Needs root.

    run       the command line: ``python -m tests.vm.run --help``
    kernels   tests/kernels.toml as values
    archive   a kernel out of Debian's archive, unpacked once into .cache/kernels
    modules   what modprobe wants to know of modules, without depmod
    image     the kernel and the initial root file system that the emulator is given
    machine   the emulator: one command in, its output and exit status out
    probe     run inside: what the fast path makes of the kernel
    init.sh, inside.sh   what the machine does from its first process on to the command

The machine sees this one's files read-only, with an overlay in memory on top, so the repository and its
virtual environment lie where they lie here, and whatever a test writes is gone with it. Emulation takes 20
times as long as the real thing: it tells whether something works and nothing about how fast.
"""
