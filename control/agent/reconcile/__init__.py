"""Recovery at the start, and the periodic rounds that hold ledger, cloud, metadata and kernel together."""
