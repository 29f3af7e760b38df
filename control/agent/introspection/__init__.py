"""What an operator is shown: the debug API, the eBPF maps in words, metrics."""
