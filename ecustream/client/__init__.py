"""Reading a running ecustream's events: every one exactly once, or which are gone."""
