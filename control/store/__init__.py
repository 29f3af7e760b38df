"""The ledger on disk: ``ledger`` holds it in SQLite, ``memory`` is the fake that ships for tests."""
