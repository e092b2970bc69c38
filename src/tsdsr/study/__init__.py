"""User study (section 4.3 of the paper): blind comparison of restorations on a web page."""
