"""Words as queries: the text space beside the node, its vectors, and what is asked in it."""
