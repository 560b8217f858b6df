"""What is answered over HTTP, one file per concern."""
