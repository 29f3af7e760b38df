"""``capture``: a pcap at an ENI, until enough frames are there or somebody ends it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from lab.cli.table import counted
from lab.cli.values import from_zero
from lab.cli.words import Output, Words
from lab.client import Lab


def declare(words: Words) -> None:
    capture = words.on_lab(
        "capture",
        _capture,
        "Write a pcap at an ENI. Ctrl-C ends it, and the number of frames is printed.",
        "eni-node1 -w out.pcap -c 10",
    )
    capture.add_argument("eni", metavar="ENI", help="id or MAC of an ENI, or `cloud`, or `outside`")
    capture.add_argument("-w", dest="file", type=Path, required=True, metavar="FILE", help="the pcap file")
    capture.add_argument(
        "-c", dest="count", type=from_zero, metavar="N", help="end after N frames, else at Ctrl-C"
    )


def _capture(lab: Lab, args: argparse.Namespace) -> Output:
    # SIGINT too: shells start their background jobs with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    file = os.open(args.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        capture = lab.capture(args.eni, file, count=args.count)
    finally:
        os.close(file)
    try:
        until = "Ctrl-C ends it" if args.count is None else f"it ends after {counted(args.count, 'frame')}"
        print(f"[lab] capturing at {args.eni} into {args.file}; {until}", file=sys.stderr, flush=True)
        frames = capture.wait()
    except KeyboardInterrupt:
        frames = capture.stop()
    return Output({"file": str(args.file), "frames": frames}, f"{counted(frames, 'frame')} in {args.file}")
