"""Which address, how many, from where: pure functions over the records. No I/O, no clock of its own.

``book`` holds the records in memory with the indexes that make a choice cheap, ``transitions`` says what
each step of an address's life changes, ``sizing`` when the pool grows and shrinks, ``witness`` what to
believe when cloud, metadata and kernel differ.
"""
