"""The loop: lab, trial, decision, apply, journal, study, report. It combines what the six parts do."""
