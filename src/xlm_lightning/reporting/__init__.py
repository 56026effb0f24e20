"""`report.html`: what a run, a sweep or several runs have done, in one file to look at.

A report is made of what lies in the run folders and of nothing else; it opens without a network.
"""
