"""What the reliability table of the README says, measured: `python -m tests.reliability`."""
