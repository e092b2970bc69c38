"""The same student, smaller and faster, or in another runtime."""
