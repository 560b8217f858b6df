"""What an operator runs beside the node: import, consistency check, demo."""
