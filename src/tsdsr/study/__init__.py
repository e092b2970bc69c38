"""A user study (section 4.3 of the paper): blind choices between restorations, gathered by a web page."""
