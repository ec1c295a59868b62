"""The tuner: finds, proves and creates the indexes that pay. Only its command line is here so far.

One round, as planned: slow log and the proxies' metrics -> workload -> candidates -> judge -> create -> measure -> undo.
"""
