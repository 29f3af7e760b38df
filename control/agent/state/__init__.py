"""What the agent knows and must not forget: the journal over the ledger, facts of the node, crash points."""
