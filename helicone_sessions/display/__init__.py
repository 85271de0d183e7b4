"""Text, HTML and terminal output of plain values."""
