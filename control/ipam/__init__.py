"""Which address, how many, from where: pure functions over the records. No I/O, no clock of its own.

``book`` holds the records in memory with the indexes that make a choice cheap, ``transitions`` says what
each step of an address's life changes. ``allocator`` is the port behind which each kind of uplink hands
out: ``choose`` and ``own_enis`` say what, ``sizing`` when the pool grows, ``shedding`` what it gives back,
``statistics`` how full it is, ``rejections`` and ``batches`` what is not to be asked for. ``witness`` says
what to believe when cloud, metadata and kernel differ.
"""
