"""How pytest-xdist shares the tests out among its processes: one by one, but for some files."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

WHOLE_FILES = {
    "tests/distributed/test_cluster.py",
    "tests/docs/test_site.py",
    "tests/runtimes/test_export.py",
    "tests/training/test_restarts.py",
    "tests/training/test_sharding.py",
    "tests/training/test_shards.py",
    "tests/web/test_page.py",
}
"""Files with a cluster, a site, an export or a run of seconds, made once if one process has all of their tests."""


class SharingOut(LoadScopeScheduling):
    """Whole files come first, the largest of them before the others; single tests fill what time is left.

    The marker ``xdist_group`` does not do that: xdist 3.8 puts the group into a part of a test's name that pytest 9.2
    does not read.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return file if file in WHOLE_FILES else nodeid
