"""What every mode does with a pod: names, the inside of its namespace, the end of links that are gone."""
