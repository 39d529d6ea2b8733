"""The parity lab: where two Whispers diverge, and by how much."""
