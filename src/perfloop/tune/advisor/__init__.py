"""From Findings, Snapshot and Workload to Proposals, with one index search over the whole Workload.

`advice.propose` decides and reaches no driver; `lab_what_if.open_what_if` gives it the planner of a lab.
"""
