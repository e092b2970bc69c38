"""Tools of the documentation: the strict build of the site, and the pages that are generated from the code.

This package is not part of tsdsr. ``make docs`` and ``make reference`` run it.
"""
