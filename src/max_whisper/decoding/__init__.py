"""One 30-second window: from encoded audio to tokens."""
