"""The suites with their minutes: ``budget`` reads tests/budget.toml, ``parts`` counts what the parts of
``./run test`` take, ``verify`` runs suites one after another and prints a table."""
