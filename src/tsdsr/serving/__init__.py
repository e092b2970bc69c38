"""The web server: a page and an HTTP interface around one shared model."""

from importlib.util import find_spec

from tsdsr.errors import MissingDependencyError, install_extra

for _package, _name in (
    ("fastapi", "FastAPI"),
    ("uvicorn", "uvicorn"),
    ("python_multipart", "python-multipart"),
    ("prometheus_client", "prometheus-client"),
):
    if find_spec(_package) is None:
        raise MissingDependencyError(f"the web server needs {_name}: {install_extra('serve')}")
