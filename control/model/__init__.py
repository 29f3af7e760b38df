"""Values and ports that every other room of ``control`` shares. No I/O happens here."""
