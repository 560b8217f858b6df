"""From an association to an embedded series."""
