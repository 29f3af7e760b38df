"""The programs of ``bpf/`` packet by packet, by BPF_PROG_TEST_RUN."""
