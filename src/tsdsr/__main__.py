"""``python -m tsdsr``, the form that launchers of several processes want."""

from tsdsr.cli import app

app()
