"""Keys, values and states of rows, by kind, alone and side by side."""
