"""What the command is made of: its flags, its inputs, its display."""
