"""From images to a checkpoint, and the evaluation that says what it is worth."""
