"""The same student, smaller and faster: exact folding, and quantisation."""
