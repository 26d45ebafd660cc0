"""Studies: each remakes the numbers of one results page. They are no part of the installed package."""
