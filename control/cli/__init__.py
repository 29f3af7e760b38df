"""terway-cli: what an operator types on a node. Asks the daemon over its socket and draws the answer."""
