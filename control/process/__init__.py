"""What every daemon of the product needs: HTTP over UNIX sockets and TCP, timers, a quiet log."""
