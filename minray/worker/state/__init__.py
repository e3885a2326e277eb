"""What an owner decides without doing any input or output."""
